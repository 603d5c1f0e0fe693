"""The shell around the pure rooms: load, decide, save, in one transaction.

`Watch` takes in what machines say (one owner a shard of devices); `Desk` keeps tickets and their clocks (one leader).
"""

from monitor.engine.desk import Desk, NoSuchTicket
from monitor.engine.watch import Watch

__all__ = ["Desk", "NoSuchTicket", "Watch"]
