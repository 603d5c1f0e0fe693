"""Many pages left open, as browsers with api/static/live.js have them: each follows the change stream, and asks for its
page again after a change and every half minute. Raw sockets, because it shares the cores with what is measured.
"""

import asyncio
import json
import random
import sys
import time

import msgspec

LEAST_S, SPREAD_S, AFTER_S, EVERY_S = 5.0, 0.5, 0.3, 30.0
"""The times of live.js: between two refreshes, the spread of all pages, after a change, and without one."""


Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Plan(msgspec.Struct):
    """What the process is told on its standard input: tokens are taken in turn."""

    port: int
    tokens: list[str]
    pages: int
    path: str


class Page:
    """One page that somebody left open."""

    def __init__(self, plan: Plan, token: str) -> None:
        self._plan = plan
        self._token = token
        self._changed = asyncio.Event()
        self._heard = 0
        self._line: Line | None = None
        self.answers_ms: list[float] = []

    async def live(self) -> None:
        await asyncio.sleep(random.random() * 2)
        await asyncio.gather(self._follow(), self._show())

    async def _follow(self) -> None:
        reader, writer = line = await asyncio.open_connection("127.0.0.1", self._plan.port)
        try:
            await self._ask(line, "/api/v1/stream", "text/event-stream")
            while line := await reader.readline():
                if line.startswith(b"id: "):
                    self._heard = int(line[4:])
                elif line.startswith(b"event: change"):
                    self._changed.set()
        finally:
            writer.close()

    async def _show(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), EVERY_S * random.uniform(0.8, 1.2))
                await asyncio.sleep(AFTER_S + SPREAD_S * random.random())
            except TimeoutError:
                pass
            self._changed.clear()
            began = time.perf_counter()
            shown = await self._fetch()
            self.answers_ms.append((time.perf_counter() - began) * 1000)
            if self._heard > shown:
                self._changed.set()
            await asyncio.sleep(LEAST_S - AFTER_S)

    async def _fetch(self) -> int:
        """Up to which change the page that came shows. The connection stays, as a browser's does."""
        if self._line is None:
            self._line = await asyncio.open_connection("127.0.0.1", self._plan.port)
        reader, _ = self._line
        await self._ask(self._line, self._plan.path, "text/html")
        shown, length = self._heard, 0
        while (line := (await reader.readline()).lower()).strip():
            name, _, value = line.partition(b": ")
            shown = int(value) if name == b"x-shown" else shown
            length = int(value) if name == b"content-length" else length
        await reader.readexactly(length)
        return shown

    async def _ask(self, line: Line, path: str, accept: str) -> None:
        reader, writer = line
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
        more = f"Accept: {accept}\r\nAccept-Encoding: gzip\r\nCache-Control: max-age=2\r\n\r\n"
        writer.write((head + more).encode())
        await writer.drain()
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{path} answered {status.decode().strip()}")


async def watch(plan: Plan) -> None:
    pages = [Page(plan, plan.tokens[n % len(plan.tokens)]) for n in range(plan.pages)]
    living = [asyncio.create_task(page.live()) for page in pages]
    print("ready", flush=True)
    stop = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    await asyncio.wait([*living, stop], return_when=asyncio.FIRST_COMPLETED)
    broken = [task.exception() for task in living if task.done() and not task.cancelled()]
    for task in living:
        task.cancel()
    if broken:
        raise RuntimeError(f"{len(broken)} pages broke off: {broken[0]}")
    print(json.dumps([answer for page in pages for answer in page.answers_ms]), flush=True)


if __name__ == "__main__":
    asyncio.run(watch(msgspec.json.decode(sys.stdin.readline(), type=Plan)))
