"""The HTTP server of a process, and a clean end by signal."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from api.context import Api

STREAMS_END_S = 3
"""So long open streams and requests are waited for when the process ends."""
KEEP_ALIVE_S = 20
"""A page that is left open asks again sooner than that, over the connection it has."""


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], Callable[[], None]]) -> None:
        super().__init__(config)
        self._announce = announce
        self.undo: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            self.undo = self._announce()


def serve(
    create_app: Callable[[Api], FastAPI],
    api: Api,
    port: socket.socket,
    trusted_proxies: str,
    announce: Callable[[], Callable[[], None]],
) -> None:
    """Serve until SIGINT or SIGTERM. `announce` is called once requests are answered; what it returns, at the end.

    `trusted_proxies`: addresses or networks, with commas, whose X-Forwarded-For says who asks.
    """
    server: _Server | None = None
    app = create_app(replace(api, stopping=lambda: server is not None and server.should_exit))
    # Request lines stay out of the log: paths carry sign-in secrets of guests.
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False,
        timeout_graceful_shutdown=STREAMS_END_S, lifespan="off", limit_concurrency=2_000,
        proxy_headers=True, forwarded_allow_ips=trusted_proxies, timeout_keep_alive=KEEP_ALIVE_S,
    )  # fmt: skip
    server = _Server(config, announce)
    with _signals_only_end_the_server():
        try:
            server.run([port])
        finally:
            server.undo()


@contextmanager
def _signals_only_end_the_server() -> Iterator[None]:
    """The server raises the signal that ended it once more when it is done; the parts around it still have to stop
    in their order."""
    before = {name: signal.signal(name, lambda *_: None) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
