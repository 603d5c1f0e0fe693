"""One log for everything, on standard error: for people on a terminal, JSON lines elsewhere."""

import logging
import sys

import structlog

# A trace names lines, never the values of that moment: among those are passwords and what customers wrote.
TERMINAL = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def set_up(level: int = logging.INFO) -> None:
    for_people = sys.stderr.isatty()
    renderer = TERMINAL if for_people else structlog.processors.JSONRenderer()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    traces = [] if for_people else [structlog.processors.format_exc_info]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *traces, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Libraries speak up only when something is wrong; a tick that is still busy when the next is due is not.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    for name in ("uvicorn", "apprise", "alembic", "paho", "asyncio", "httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
