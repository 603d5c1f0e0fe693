"""The shell around the pure rooms: load, decide, save, in one transaction.

`Watch` takes in what machines say (one owner a shard of devices); `Desk` keeps tickets and their clocks (one leader);
`Copyist` keeps a ticket's readings for it.
"""

from monitor.engine.desk import Desk, NoSuchTicket
from monitor.engine.evidence import Copyist
from monitor.engine.watch import Watch

__all__ = ["Copyist", "Desk", "NoSuchTicket", "Watch"]
