"""The fleet: figures derived from the history."""
