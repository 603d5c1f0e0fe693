"""Detectors: readings in, findings out. Pure numpy, vectorised over devices."""
