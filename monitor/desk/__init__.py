"""The desk: faults, tickets, commitments and notices, decided without any input or output."""
