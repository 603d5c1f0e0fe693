"""The program: command line, settings, and the wiring of every process on one page (fettle.wiring)."""
