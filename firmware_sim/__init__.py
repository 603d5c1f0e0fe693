"""A simulated rental fleet: the other end of the wire. It imports nothing of the service."""
