"""Every detector there is, one line each. They step and tick in this order."""

from monitor.detect.clock import Clock
from monitor.detect.codes import Codes
from monitor.detect.detector import Detector
from monitor.detect.joint import Joint
from monitor.detect.limits import Limits
from monitor.detect.operation import Operation
from monitor.detect.silence import Silence
from monitor.detect.startup import Startup

DETECTORS: tuple[type[Detector], ...] = (
    Operation,  # before all that read it
    Startup,  # before Silence, which waits for it
    Silence,
    Clock,
    Limits,
    Codes,
    Joint,
)
