"""A few numbers that the processes of a bench share through one file in memory."""

import mmap
from pathlib import Path

FIELDS = ("allowed", "published", "acked", "taken", "stop")


class Board:
    """`allowed`: so many messages may be published in all; `taken`: so many the bare subscriber has acknowledged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(8 * len(FIELDS)))
        with path.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def __getitem__(self, field: str) -> int:
        return self._cells[FIELDS.index(field)]

    def __setitem__(self, field: str, number: int) -> None:
        self._cells[FIELDS.index(field)] = number

    def clear(self) -> None:
        for place in range(len(FIELDS)):
            self._cells[place] = 0
