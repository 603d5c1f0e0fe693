"""`fettle import` and `fettle export`: registers as CSV."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict
from zoneinfo import ZoneInfo

from fettle.cards import card_of, mint, unmint
from fettle.house import House, clock
from ingest.credentials import Credential, write_private
from monitor.fleet.sheets import MAX_BYTES, Wrong
from monitor.store import sheets
from monitor.store.registry import Issued, Refused, note_credentials
from monitor.store.sheets import Intake, Register, Taken


class WrongLine(TypedDict):
    line: int
    column: str
    value: str
    allowed: str


class Imported(TypedDict):
    """What became of a file; `cards`: how many were written."""

    kind: str
    dry_run: bool
    lines: int
    added: int
    cards: int
    wrong: list[WrongLine]


def register(kind: str) -> Register:
    """Raises Refused where there is no such register."""
    try:
        return Register(kind)
    except ValueError:
        raise Refused(f"kind {kind!r}: allowed are {', '.join(Register)}") from None


def take(rooms: House, file: Path, kind: Register, *, dry_run: bool, cards: Path | None) -> Imported:
    """Take a file in, whole or not at all; with `dry_run` only say what is wrong with it. `cards`: a folder into which
    each new machine's card is written, readable by nobody else."""
    if cards is not None and (kind is not Register.DEVICES or dry_run):
        raise Refused(
            "--cards belongs to --kind devices, and not to --dry-run: only machines that are added have cards"
        )
    data = _content(file)
    if cards is not None:
        _prepare(cards)
    intake = Intake(rooms.database, ZoneInfo(rooms.settings.timezone), rooms.profiles)
    written = 0
    if cards is not None:
        taken, written = _take_with_cards(rooms, intake, data, cards)
    else:
        taken = intake.look(kind, data, clock()) if dry_run else intake.take(kind, data, clock())
    added = 0 if dry_run else taken.added
    return {
        "kind": str(kind), "dry_run": dry_run, "lines": len(taken.rows), "added": added, "cards": written,
        "wrong": [_told(one) for one in taken.wrong],
    }  # fmt: skip


def said(done: Imported) -> str:
    """The same in a sentence, where nothing is wrong."""
    if done["dry_run"]:
        return f"{done['lines']} {done['kind']} can be taken in; nothing was changed."
    cards = f" {done['cards']} cards were written." if done["cards"] else ""
    return f"{done['added']} {done['kind']} taken in.{cards}"


def complaints(done: Imported) -> list[str]:
    """What is wrong, a line each."""
    return [Wrong(**one).said for one in done["wrong"]]


def export(rooms: House, kind: Register, out: Path | None) -> str:
    """The register as CSV: into `out`, readable by nobody else, or as the answer."""
    with rooms.database.connect() as connection:
        zone = ZoneInfo(rooms.settings.timezone)
        content = "".join(sheets.export(connection, kind, zone, rooms.profiles))
    if out is None:
        return content
    try:
        write_private(out, content.encode())
    except OSError as error:
        raise Refused(f"--out {out}: {error.strerror}") from None
    return ""


def _content(file: Path) -> bytes:
    """As far as it may be read: one byte more than is allowed tells that there are too many."""
    try:
        with file.open("rb") as opened:
            return opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"{file}: {error.strerror}") from None


def _prepare(cards: Path) -> None:
    try:
        cards.mkdir(mode=0o700, parents=True, exist_ok=True)
        (cards / ".fettle").touch()
        (cards / ".fettle").unlink()
    except OSError as error:
        raise Refused(f"--cards {cards}: {error.strerror}") from None


def _take_with_cards(rooms: House, intake: Intake, data: bytes, folder: Path) -> tuple[Taken, int]:
    """Machines, and how many cards of them. The cards lie in the folder, as ID.json.new, before any of the machines is
    on record: whenever this stops, no machine is there whose secret is lost."""
    now = clock()
    taken = intake.look(Register.DEVICES, data, now)
    if taken.wrong:
        return taken, 0
    ids = [str(row.values["device_id"]) for row in taken.rows if row.values["retired_at"] is None]
    minted = [mint(rooms, device_id) for device_id in ids]
    for credential in minted:
        content = json.dumps(card_of(rooms, credential), ensure_ascii=False)
        write_private(_new(folder, credential), content.encode())
    _sync(folder)
    issued = [Issued(one.device_id, 0, one.public_key, one.username) for one in minted]
    try:
        taken = intake.take(
            Register.DEVICES, data, now, lambda connection: note_credentials(connection, issued, "cli", now)
        )
    except Refused:
        _withdraw(rooms, folder, minted)
        raise
    # Only where it is certain that nothing was taken in are the cards good for nothing.
    if taken.wrong:
        _withdraw(rooms, folder, minted)
        return taken, 0
    for credential in minted:
        _new(folder, credential).replace(folder / f"{credential.device_id}.json")
    return taken, len(minted)


def _new(folder: Path, credential: Credential) -> Path:
    return folder / f"{credential.device_id}.json.new"


def _sync(folder: Path) -> None:
    """The names of what was written outlast a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _withdraw(rooms: House, folder: Path, minted: Sequence[Credential]) -> None:
    unmint(rooms, minted)
    for credential in minted:
        _new(folder, credential).unlink(missing_ok=True)


def _told(wrong: Wrong) -> WrongLine:
    return {"line": wrong.line, "column": wrong.column, "value": wrong.value, "allowed": wrong.allowed}
