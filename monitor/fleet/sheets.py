"""Registers as CSV: what columns are called, what may stand in them, and how a file is read and written. Pure.

Reading is forgiving about the form (UTF-8 with or without a byte order mark, comma or semicolon, any line end, columns
in any order) and strict about the content: every cell that cannot be taken is named by its line and column, with what
is allowed there. Writing is for this reader and for spreadsheets alike: a cell that a spreadsheet would take for a
formula has an apostrophe put before it, which reading takes away again.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from monitor.devices import DEVICE_ID

MAX_BYTES = 32 * 1024 * 1024
MAX_LINES = 200_000
MAX_CELL = 8_000
VALUE_SHOWN = 80
BOM = "\ufeff"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet takes a cell for something to be run."""
FIRST_AT, LAST_AT = 946_684_800_000, 4_102_444_799_999
"""The years 2000 to 2099, as everywhere."""
_DAY = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(.*)", re.DOTALL)
_YES, _NO = ("yes", "true", "1", "是"), ("no", "false", "0", "否")

Value = str | bool | int | float | None
Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A cell, or a whole line (`column` ''), that cannot be taken. `line` is that of the file, from 1."""

    line: int
    column: str
    value: str
    allowed: str

    @property
    def said(self) -> str:
        where = f"line {self.line}, {self.column}" if self.column else f"line {self.line}"
        value = f"{self.value!r}: " if self.column else ""
        return f"{where}: {value}{self.allowed}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `parse` makes a value of a cell that is not empty, or raises ValueError with what is allowed."""

    name: str
    parse: Callable[[str], Value]
    means: str
    needed: bool = True
    empty: Value = None
    """What an empty cell, or an absent column, means where it is not needed."""
    time: bool = False
    """Whether it holds epoch milliseconds; they are written in UTC."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a file of one kind holds."""

    kind: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    """What no two lines may share; none: lines may repeat each other."""

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Row:
    """A line that could be read, by its number in the file."""

    line: int
    values: Values
    cells: Mapping[str, str]
    """The same as they were written."""

    def wrong(self, column: str, allowed: str) -> Wrong:
        return Wrong(self.line, column, self.cells.get(column, "")[:VALUE_SHOWN], allowed)


# --- what may stand in a cell --------------------------------------------------------------------------------------


def text(longest: int, *, lines: bool = False) -> Callable[[str], Value]:
    """As it stands, blanks too: what is exported comes back as it was."""

    def parse(cell: str) -> Value:
        said = cell.replace("\r\n", "\n") if lines else cell
        printable = (said.replace("\n", "") if lines else said).isprintable()
        if len(said) > longest or not printable or not (lines or said.strip()):
            raise ValueError(f"1 to {longest} printable characters are allowed")
        return said

    return parse


def yes_no(cell: str) -> Value:
    said = cell.strip().lower()
    if said not in (*_YES, *_NO):
        raise ValueError("yes or no is allowed")
    return said in _YES


def number(low: float, high: float) -> Callable[[str], Value]:
    def parse(cell: str) -> Value:
        allowed = f"a number between {low:g} and {high:g} is allowed"
        try:
            value = float(cell)
        except ValueError:
            raise ValueError(allowed) from None
        if not low <= value <= high:
            raise ValueError(allowed)
        return value

    return parse


def one_of(names: Iterable[str]) -> Callable[[str], Value]:
    known = sorted(names)

    def parse(cell: str) -> Value:
        if cell.strip() not in known:
            raise ValueError(f"allowed are {', '.join(known)}")
        return cell.strip()

    return parse


def device_id(cell: str) -> Value:
    if not DEVICE_ID.fullmatch(cell.strip()):
        raise ValueError("1 to 64 of A-Z a-z 0-9 _ - are allowed")
    return cell.strip()


def email(cell: str) -> Value:
    local, at, domain = cell.partition("@")
    plain = cell.isprintable() and not set(cell) & set(" ,;<>\"'")
    if not (local and at and domain and plain) or len(cell) > 254:
        raise ValueError("one plain address such as name@example.com is allowed")
    return cell


def zone_name(cell: str) -> Value:
    try:
        ZoneInfo(cell.strip())
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("an IANA name such as Asia/Shanghai is allowed") from None
    return cell.strip()


def moment(zone: ZoneInfo) -> Callable[[str], Value]:
    """Epoch milliseconds. A time that names no offset is the company's, a day alone its first moment there."""

    def parse(cell: str) -> Value:
        try:
            at = _moment(cell.strip(), zone)
        except (ValueError, OverflowError):
            raise ValueError("a time such as 2026-11-23 14:06, 2026-11-23 or 2026-11-23T06:06:00Z is allowed") from None
        if not FIRST_AT <= at <= LAST_AT:
            raise ValueError("a time in the years 2000 to 2099 is allowed")
        return at

    return parse


def _moment(said: str, zone: ZoneInfo) -> int:
    found = _DAY.fullmatch(said)
    if found is None:
        raise ValueError(said)
    year, month, day, rest = found.groups()
    parsed = datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}{rest.rstrip()}")
    when = parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)
    return round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


# --- reading -------------------------------------------------------------------------------------------------------


def read(data: bytes, sheet: Sheet) -> tuple[list[Row], list[Wrong]]:
    """The lines that can be taken as they stand, and everything that is wrong with the others. What a line says of
    others (references, overlaps) is the store's to judge."""
    if len(data) > MAX_BYTES:
        return [], [Wrong(1, "", "", f"the file has {len(data)} bytes; at most {MAX_BYTES} are allowed")]
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return [], [Wrong(line, "", "", "this is not UTF-8; a spreadsheet calls it CSV UTF-8 when it saves")]
    return _read(content, sheet)


def _read(content: str, sheet: Sheet) -> tuple[list[Row], list[Wrong]]:
    records = _records(content, _delimiter(content))
    rows: list[Row] = []
    wrong: list[Wrong] = []
    try:
        line, header = next(records, (1, []))
        names = [name.strip().lower() for name in header]
        wrong += _wrong_header(line, names, sheet)
        if wrong:
            return [], wrong
        for number_of, (line, cells) in enumerate(records, 1):
            if number_of > MAX_LINES:
                wrong.append(Wrong(line, "", "", f"at most {MAX_LINES} lines are allowed; the rest was not read"))
                break
            _take(line, cells, names, sheet, rows, wrong)
    except csv.Error as error:
        at = _broken_at(error)
        wrong.append(Wrong(at, "", "", f"this is no CSV ({error.args[0]}); the rest was not read"))
    return rows, [*wrong, *_repeated(rows, sheet)]


def _records(content: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the line that it begins on: a quoted cell may have several."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise csv.Error(str(error), begins) from None
        if any(cell.strip() for cell in cells):
            yield begins, cells
        begins = reader.line_num + 1


def _broken_at(error: csv.Error) -> int:
    """The line that a record which is none begins on."""
    return int(error.args[1]) if len(error.args) > 1 else 1


def _delimiter(content: str) -> str:
    """That which the header is written with. Names of columns have neither."""
    first = next((line for line in content.splitlines() if line.strip()), "")
    return ";" if first.count(";") > first.count(",") else ","


def _wrong_header(line: int, names: Sequence[str], sheet: Sheet) -> list[Wrong]:
    known = ", ".join(column.name for column in sheet.columns)
    unknown = [name for name in names if sheet.column(name) is None]
    twice = sorted({name for name in names if names.count(name) > 1 and name not in unknown})
    missing = [column.name for column in sheet.columns if column.needed and column.name not in names]
    return [
        *(
            Wrong(line, "header", name[:VALUE_SHOWN], f"there is no such column; known are: {known}")
            for name in unknown
        ),
        *(Wrong(line, "header", name, "this column stands more than once") for name in twice),
        *(Wrong(line, "header", name, "this column is missing") for name in missing),
    ]


def _take(
    line: int, cells: Sequence[str], names: Sequence[str], sheet: Sheet, rows: list[Row], wrong: list[Wrong]
) -> None:
    if len(cells) != len(names):
        wrong.append(Wrong(line, "", "", f"this line has {len(cells)} cells, and the header has {len(names)}"))
        return
    values: dict[str, Value] = {column.name: column.empty for column in sheet.columns}
    good = True
    for name, cell in zip(names, cells, strict=True):
        column = sheet.column(name)
        try:
            values[name] = _value(column, cell) if column else None
        except ValueError as error:
            wrong.append(Wrong(line, name, cell[:VALUE_SHOWN], str(error)))
            good = False
    if good:
        rows.append(Row(line, values, dict(zip(names, cells, strict=True))))


def _value(column: Column, cell: str) -> Value:
    if len(cell) > MAX_CELL:
        raise ValueError(f"at most {MAX_CELL} characters are allowed")
    said = unguarded(cell)
    if said.strip() or (said and column.empty == ""):
        return column.parse(said)
    if column.needed:
        raise ValueError("this must not be empty")
    return column.empty


def _repeated(rows: Iterable[Row], sheet: Sheet) -> list[Wrong]:
    """Lines that name what an earlier line has named."""
    if not sheet.key:
        return []
    first: dict[tuple[Value, ...], int] = {}
    found = []
    for row in rows:
        key = tuple(row.values[name] for name in sheet.key)
        if key in first:
            found.append(row.wrong(sheet.key[0], f"line {first[key]} has it already"))
        first.setdefault(key, row.line)
    return found


# --- writing -------------------------------------------------------------------------------------------------------


def write(sheet: Sheet, rows: Iterable[Values]) -> Iterator[str]:
    """The file, in pieces: a byte order mark (without it spreadsheets take UTF-8 for something else), the header, and a
    line each."""
    yield BOM + _line([column.name for column in sheet.columns])
    for row in rows:
        yield _line([_cell(row[column.name], column) for column in sheet.columns])


def _line(cells: Sequence[str]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out).writerow(cells)
    return out.getvalue()


def _cell(value: Value, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if column.time:
        return rfc3339(int(value))
    return guarded(value) if isinstance(value, str) else repr(value)


def rfc3339(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def guarded(cell: str) -> str:
    """So that no spreadsheet runs it: an apostrophe before what would be a formula, and before what would be read back
    as if one had been put there."""
    quoted = cell[:1] == "'" and cell[1:2] in (*FORMULA, "'")
    return f"'{cell}" if cell.startswith(FORMULA) or quoted else cell


def unguarded(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:2] in (*FORMULA, "'") else cell
