"""Detectors: readings in, findings out. Pure numpy, vectorised over devices."""

from monitor.detect.bank import Bank
from monitor.detect.finding import Evidence, Finding, Reason

__all__ = ["Bank", "Evidence", "Finding", "Reason"]
