"""Detectors: readings in, findings out. Pure numpy, vectorised over devices."""

from monitor.detect.bank import Bank
from monitor.detect.finding import Evidence, Finding, Reason
from monitor.detect.memory import EVERY_KIND

__all__ = ["EVERY_KIND", "Bank", "Evidence", "Finding", "Reason"]
