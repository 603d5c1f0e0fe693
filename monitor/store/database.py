"""The SQL database: SQLite for one machine, PostgreSQL for many, opened and written the same way."""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.sql.base import ColumnCollection

BUSY_TIMEOUT_MS = 20_000
CACHE_KIB = 16_000
"""What a connection to SQLite may keep of the file; by itself it would be an eighth of that."""
CONNECTIONS = 40
"""To a SQLite file, kept open: as many as threads that answer requests. Opening one reads the whole schema; the one
used last goes out first, so that most stay unopened."""
MIGRATION_LOCK = 0x66657474
"""PostgreSQL's advisory lock that one process at a time migrates under (any number that nobody else uses)."""


class Database:
    """Two ways in: `connect` to read, `begin` to write. A write locks from its first statement on, because a
    SQLite transaction that turns from reading to writing fails at once where others write."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writer = engine.execution_options(writes=True)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for reading: it sees one consistent state."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction for writing: committed at the end, rolled back on an exception."""
        with self._writer.begin() as connection:
            yield connection
            witness = _witness.get()
            if witness is not None:
                witness(connection)

    def close(self) -> None:
        self.engine.dispose()


# Between the request and the transaction lie the route and the engine, and neither has anything to do with it.
_witness: ContextVar[Callable[[Connection], None] | None] = ContextVar("witness", default=None)


@contextmanager
def witnessed(witness: Callable[[Connection], None]) -> Iterator[None]:
    """Within, `witness` has the last word in every transaction for writing, those of threads that are started with
    this context too: what it writes is committed with the rest, and what it raises rolls all of it back."""
    before = _witness.set(witness)
    try:
        yield
    finally:
        _witness.reset(before)


def open_database(url: str) -> Database:
    """Open `sqlite:///PATH` or `postgresql+psycopg://…`.

    Raises ValueError where the scheme is another.
    """
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError:
        raise ValueError("it is no URL; allowed are sqlite:///PATH and postgresql://…") from None
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "sqlite":
        return Database(_open_sqlite(parsed))
    if parsed.drivername == "postgresql+psycopg":
        # Errors are logged, and parameters are addresses and texts of notices.
        return Database(sa.create_engine(parsed, pool_pre_ping=True, pool_size=8, max_overflow=8, hide_parameters=True))
    raise ValueError(
        f"the database URL begins with {parsed.drivername!r}; allowed are sqlite:///PATH and postgresql://…"
    )


def _open_sqlite(url: sa.URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    waiting = {"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000}
    # One in memory has a single connection.
    pool = {"pool_size": CONNECTIONS, "max_overflow": CONNECTIONS, "pool_use_lifo": True} if url.database else {}
    engine = sa.create_engine(url, connect_args=waiting, hide_parameters=True, **pool)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: object) -> None:
        # The driver's own BEGIN comes late and deferred; ours (below) says what it is for.
        connection.isolation_level = None
        # A PUBACK follows the commit, so the commit has to be on the disk: synchronous=FULL.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_TIMEOUT_MS}", "foreign_keys=ON",
                       f"cache_size=-{CACHE_KIB}"):  # fmt: skip
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def migrate(database: Database) -> None:
    """Bring the schema to the newest version; a fresh database is made whole."""
    from alembic import command  # Slow to import, and short commands mostly find the schema new already.
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with database.begin() as connection:
        if connection.dialect.name == "postgresql":
            # Processes start together, and PostgreSQL lets two of them create one table at the same time, so that
            # one fails. SQLite's write transaction keeps the others out by itself.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def runs(c: ColumnCollection[Any, Any], at: int | sa.BindParameter[int]) -> sa.ColumnElement[bool]:
    """Whether what these columns are of, from `starts_at` to `ends_at` (half-open; null: no end), runs at a moment."""
    return sa.and_(c.starts_at <= at, sa.or_(c.ends_at.is_(None), c.ends_at > at))


def upsert(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or overwrite those with the same primary key."""
    _merge(connection, table, rows, lambda _, new: new)


def add_up(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, or add their numbers to those with the same primary key: in one order, so that no two wait for one
    another (PostgreSQL)."""
    keys = [column.name for column in table.primary_key]
    ordered = sorted(rows, key=lambda row: tuple(str(row[name]) for name in keys))
    _merge(connection, table, ordered, lambda there, new: there + new)


def _merge(
    connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]],
    merged: Callable[[sa.ColumnElement[Any], sa.ColumnElement[Any]], sa.ColumnElement[Any]],
) -> None:  # fmt: skip
    if not rows:
        return
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    statement = insert(table)
    keys = [column.name for column in table.primary_key]
    rest = {name: merged(table.c[name], statement.excluded[name]) for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=rest), list(rows))


def insert_new(connection: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; those that break a uniqueness rule are there already and stay as they are."""
    if rows:
        connection.execute(_insert_new(table, connection.dialect.name), list(rows))


@cache
def _insert_new(table: sa.Table, dialect: str) -> sa.Insert:
    insert = sqlite.insert if dialect == "sqlite" else postgresql.insert
    return insert(table).on_conflict_do_nothing()
