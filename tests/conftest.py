"""What holds for every test."""

import os

import structlog
from hypothesis import settings

from fettle.logs import TERMINAL

structlog.configure([structlog.stdlib.add_log_level, structlog.processors.TimeStamper("iso"), TERMINAL])

# Random courses find what nobody thought of, on a developer's machine. What decides whether a change may land has to
# answer the same twice, and a machine that is busy with something else is no fault in the code.
settings.register_profile("developer", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")
