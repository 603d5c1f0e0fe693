"""Triggers that mark whose course in the fleet's ledger has changed, for SQLite and PostgreSQL alike.

They stand in the database, so that no way of writing can forget them: the migrations make them, and so does
`schema.metadata.create_all`.
"""

from typing import NamedTuple

import sqlalchemy as sa

_DUE = "ON CONFLICT (device_id) DO UPDATE SET due_at = 0, mark = ledger_due.mark + 1"
_INTO = "INSERT INTO ledger_due (device_id, due_at, mark)"
_OF_DEVICE = f"{_INTO} VALUES (NEW.device_id, 0, 0) {_DUE}"
# All that ever stood at the site: a window may be declared for a time that is past.
_OF_PLACE = (
    f"{_INTO} SELECT DISTINCT device_id, 0, 0 FROM stay "  # noqa: S608 (nobody says anything in it)
    f"WHERE device_id = NEW.device_id OR site_id = NEW.site_id {_DUE}"
)
# A site's ticket is one of many machines'.
_OF_TICKET = (
    f"{_INTO} SELECT DISTINCT device_id, 0, 0 FROM fault "  # noqa: S608 (nobody says anything in it)
    f"WHERE ticket_id = NEW.id {_DUE}"
)


class _Watched(NamedTuple):
    """A table that courses depend on, and the columns whose change matters."""

    table: str
    columns: tuple[str, ...]
    marks: str = _OF_DEVICE


_WATCHED = (
    _Watched("device", ("profile", "site_id", "added_at", "retired_at", "first_heard_at")),
    _Watched("fault", ("severity", "occurred_at", "opened_at", "cleared_at", "ticket_id")),
    # What it turned out to have been; a cancelled one says why it was, too.
    _Watched("ticket", ("outcome", "closed_at"), _OF_TICKET),
    _Watched("rental", ("device_id", "customer_id", "starts_at", "ends_at")),
    _Watched("maintenance_window", ("starts_at", "ends_at", "what", "cancelled_at"), _OF_PLACE),
    _Watched("stay", ("site_id", "from_at")),
    _Watched("heard_late", ("from_at", "to_at")),
)


def statements(dialect: str) -> list[str]:
    """What makes the triggers."""
    return [one for watched in _WATCHED for one in (_sqlite if dialect == "sqlite" else _postgresql)(watched)]


def _sqlite(watched: _Watched) -> list[str]:
    table, columns = watched.table, watched.columns
    changed = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in columns)
    return [
        f"CREATE TRIGGER IF NOT EXISTS ledger_{table}_new AFTER INSERT ON {table} BEGIN {watched.marks}; END",
        (
            f"CREATE TRIGGER IF NOT EXISTS ledger_{table}_changed AFTER UPDATE OF {', '.join(columns)} ON {table} "
            f"WHEN {changed} BEGIN {watched.marks}; END"
        ),
    ]


def _postgresql(watched: _Watched) -> list[str]:
    table, columns = watched.table, watched.columns
    changed = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in columns)
    each = f"FOR EACH ROW EXECUTE FUNCTION ledger_{table}()"
    return [
        (
            f"CREATE OR REPLACE FUNCTION ledger_{table}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN {watched.marks}; RETURN NULL; END $$"
        ),
        f"CREATE OR REPLACE TRIGGER ledger_{table}_new AFTER INSERT ON {table} {each}",
        (
            f"CREATE OR REPLACE TRIGGER ledger_{table}_changed AFTER UPDATE OF {', '.join(columns)} ON {table} "
            f"FOR EACH ROW WHEN ({changed}) EXECUTE FUNCTION ledger_{table}()"
        ),
    ]


def attach(metadata: sa.MetaData) -> None:
    """Whoever creates all tables makes the triggers too."""
    sa.event.listen(metadata, "after_create", _create)


def _create(_target: sa.MetaData, connection: sa.Connection, **_: object) -> None:
    for statement in statements(connection.dialect.name):
        connection.exec_driver_sql(statement)
