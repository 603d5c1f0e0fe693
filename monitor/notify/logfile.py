"""The log channel: one readable JSON line a notice in a file, for the demo and where no SMTP server is set."""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from monitor.notify.message import Message, NotNow

MAX_BYTES = 10_000_000


@dataclass(frozen=True, slots=True)
class LogFile:
    """Appends to `path`, which only its owner can read: it holds addresses. One older file is kept beside it."""

    path: Path
    max_bytes: int = MAX_BYTES

    @property
    def name(self) -> str:
        return "log"

    def send(self, message: Message, now: int) -> None:
        try:
            self._append(_line(message, now))
        except OSError as error:
            raise NotNow(f"{self.path.name}: {error.strerror}") from error

    def _append(self, line: bytes) -> None:
        if self.path.exists() and self.path.stat().st_size > self.max_bytes:
            self.path.replace(self.path.with_name(self.path.name + ".1"))
        # One write of O_APPEND: lines of several processes never mix.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            os.fchmod(file, 0o600)
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)


def _line(message: Message, now: int) -> bytes:
    sent_at = datetime.fromtimestamp(now / 1000, UTC).isoformat(timespec="seconds")
    return (json.dumps({"sent_at": sent_at, **asdict(message)}, ensure_ascii=False) + "\n").encode()
