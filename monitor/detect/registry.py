"""Every detector there is, one line each. They step and tick in this order."""

from monitor.detect.battery import Battery
from monitor.detect.channel import Channel
from monitor.detect.clock import Clock
from monitor.detect.codes import Codes
from monitor.detect.detector import Detector
from monitor.detect.implausible import Implausible
from monitor.detect.joint import Joint
from monitor.detect.limits import Limits
from monitor.detect.operation import Operation
from monitor.detect.peers import Peers
from monitor.detect.silence import Silence
from monitor.detect.startup import Startup
from monitor.detect.stuck import Stuck
from monitor.detect.trend import Trend

DETECTORS: tuple[type[Detector], ...] = (
    Operation,  # before all that read it
    Startup,  # before Silence, which waits for it
    Silence,
    Clock,
    Limits,
    Battery,
    Codes,
    Stuck,  # before Implausible, which asks it whether the neighbours moved
    Implausible,
    Joint,
    Channel,
    Trend,
    Peers,  # after Trend, which it reads
)
