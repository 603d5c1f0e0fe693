"""The lists that a resolution is made from, as operators keep them: from the first change of a list on, the database's
copy of it counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.desk.choices import LISTS, Choice, shipped_choices
from monitor.store import schema
from monitor.store.database import Database, insert_new
from monitor.store.registry import Conflict, Refused, changing, refuse_stale, tag_of, write_audit

Row = sa.Row[*tuple[Any, ...]]

MAX_CHOICES = 200
"""So many entries one list may have, those that are out of use too."""


class Choices:
    """Commands about the lists, each one transaction. `actor` is who gives them."""

    def __init__(self, database: Database, actor: str) -> None:
        self.database = database
        self.actor = actor

    def put(self, which: str, choice: Choice, position: int | None, now: int, *, seen: str | None = None) -> bool:
        """Add an entry, or change the one with this code; one that was retired is in use again. `position` None: where
        it stands, or last. True where it is new."""
        with changing(self.database) as connection:
            there = _own_copy(connection, which, seen)
            row = there.get(choice.code)
            if row is None and len(there) >= MAX_CHOICES:
                raise Conflict(f"list {which} has {MAX_CHOICES} entries already")
            last = max((one.position for one in there.values()), default=-1)
            values = {
                "title_en": choice.title_en, "title_zh": choice.title_zh, "retired_at": None,
                "position": position if position is not None else row.position if row else last + 1,
            }  # fmt: skip
            _save(connection, which, choice.code, row, values)
            before = {name: row._mapping[name] for name in values} if row else None
            write_audit(connection, now, self.actor, "choice_kept", f"choice:{which}/{choice.code}", before, values)
        return row is None

    def retire(self, which: str, code: str, now: int, *, seen: str | None = None) -> None:
        """Nobody can choose it any more; what was resolved by it stays. Raises LookupError where it is not there."""
        with changing(self.database) as connection:
            there = _own_copy(connection, which, seen)
            row = there.get(code)
            if row is None:
                raise LookupError(f"list {which} has no {code}")
            if row.retired_at is not None:
                return
            if sum(one.retired_at is None for one in there.values()) == 1:
                raise Conflict(f"{code} is the last entry of list {which}: add another one first")
            _save(connection, which, code, row, {"retired_at": now})
            subject = f"choice:{which}/{code}"
            write_audit(connection, now, self.actor, "choice_retired", subject, {"retired_at": None},
                        {"retired_at": now})  # fmt: skip


def listed(connection: Connection) -> dict[str, list[Row] | tuple[Choice, ...]]:
    """Every list in its order, retired entries too."""
    return {which: _rows(connection, which) or shipped_choices()[which] for which in LISTS}


def lists_tag(lists: Mapping[str, Sequence[Row | Choice]]) -> str:
    """All lists, as a short hash (ETag): the same for the shipped ones and for our own copies of them."""
    return tag_of(*(
        (which, one.code, one.title_en, one.title_zh, getattr(one, "retired_at", None))
        for which, entries in lists.items() for one in entries
    ))  # fmt: skip


def _rows(connection: Connection, which: str) -> list[Row]:
    c = schema.choice.c
    return list(connection.execute(sa.select(schema.choice).where(c.list == which).order_by(c.position, c.id)))


def _own_copy(connection: Connection, which: str, seen: str | None) -> dict[str, Row]:
    """A list's entries by code, locked; the shipped ones are copied in where there are none yet. Raises Stale where the
    lists were read as `seen`, and their tag is another one now."""
    if which not in LISTS:
        raise Refused(f"list {which!r}: there are {', '.join(LISTS)}")
    if not _rows(connection, which):
        insert_new(connection, schema.choice, [
            {"list": which, "code": one.code, "title_en": one.title_en, "title_zh": one.title_zh, "position": position}
            for position, one in enumerate(shipped_choices()[which])
        ])  # fmt: skip
    # Whoever waited for the lock reads what the one before them left (PostgreSQL).
    c = schema.choice.c
    connection.execute(sa.select(c.id).where(c.list == which).order_by(c.id).with_for_update()).all()
    refuse_stale("the lists", seen, lists_tag(listed(connection)))
    return {row.code: row for row in _rows(connection, which)}


def _save(connection: Connection, which: str, code: str, row: Row | None, values: dict[str, Any]) -> None:
    if row is None:
        connection.execute(sa.insert(schema.choice).values(list=which, code=code, **values))
    else:
        connection.execute(sa.update(schema.choice).where(schema.choice.c.id == row.id).values(**values))
