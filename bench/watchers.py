"""Many pages left open, as browsers with api/static/live.js have them: each follows the change stream, and asks for its
page again after a change and every half minute. Raw sockets, because it shares the cores with what is measured.
"""

import asyncio
import json
import random
import sys
import time

import msgspec

LEAST_S, SPREAD_S, AFTER_S, EVERY_S = 2.0, 0.5, 0.3, 30.0
"""The times of live.js: between two refreshes, the spread of all pages, after a change, and without one."""


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
        self.answers_ms: list[float] = []

    async def live(self) -> None:
        await asyncio.sleep(random.random() * 2)
        await asyncio.gather(self._follow(), self._show())

    async def _follow(self) -> None:
        reader, writer = await self._ask("/api/v1/stream", "text/event-stream")
        try:
            while line := await reader.readline():
                if line.startswith(b"event: change"):
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
            reader, writer = await self._ask(self._plan.path, "text/html")
            while await reader.read(65_536):
                pass
            writer.close()
            self.answers_ms.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(LEAST_S - AFTER_S)

    async def _ask(self, path: str, accept: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
        closing = "" if accept == "text/event-stream" else "Connection: close\r\n"
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self._token}\r\n"
        writer.write(f"{head}Accept: {accept}\r\nAccept-Encoding: gzip\r\n{closing}\r\n".encode())
        await writer.drain()
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{path} answered {status.decode().strip()}")
        return reader, writer


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
