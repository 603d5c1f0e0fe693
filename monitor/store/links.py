"""What signed links stand for, and the commands that make and end them."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.store import schema
from monitor.store.database import Database
from monitor.store.registry import changing, write_audit

Row = sa.Row[*tuple[Any, ...]]


class Links:
    """Commands about links, each one transaction. `actor` is who gives them.

    They answer the epoch that a link has to carry; `renew` raises it first, and with that every link handed out before
    has ended. They raise LookupError where there is no such customer or machine.
    """

    def __init__(self, database: Database, actor: str) -> None:
        self.database = database
        self.actor = actor

    def customer(self, customer_id: int, now: int, *, renew: bool) -> int:
        c = schema.customer.c
        return self._epoch(c.id == customer_id, c.link_epoch, f"customer:{customer_id}", now, renew=renew)

    def label(self, device_id: str, now: int, *, renew: bool) -> int:
        c = schema.device.c
        which = sa.and_(c.device_id == device_id, c.retired_at.is_(None))
        return self._epoch(which, c.label_epoch, f"device:{device_id}", now, renew=renew)

    def _epoch(
        self, which: sa.ColumnElement[bool], column: sa.Column[int], subject: str, now: int, *, renew: bool
    ) -> int:  # fmt: skip
        with changing(self.database) as connection:
            epoch: int | None = connection.execute(sa.select(column).where(which).with_for_update()).scalar()
            if epoch is None:
                raise LookupError(f"there is no {subject}")
            if renew:
                connection.execute(sa.update(column.table).where(which).values({column: epoch + 1}))
            after = epoch + 1 if renew else epoch
            write_audit(connection, now, self.actor, "links_ended" if renew else "link_made", subject,
                        {column.name: epoch} if renew else None, {column.name: after})  # fmt: skip
        return after


def customer(connection: Connection, customer_id: int, epoch: int) -> Row | None:
    """The customer of a link; None where there is none, or the link was ended."""
    c = schema.customer.c
    return connection.execute(
        sa.select(c.id, c.name, c.lang).where(c.id == customer_id, c.link_epoch == epoch)
    ).first()  # fmt: skip


def machine(connection: Connection, device_id: str, epoch: int) -> Row | None:
    """The machine of a label; None where there is none, or its label was ended."""
    c = schema.device.c
    return connection.execute(
        sa.select(c.device_id, c.profile).where(
            c.device_id == device_id, c.label_epoch == epoch, c.retired_at.is_(None)
        )
    ).first()


def label_epoch(connection: Connection, device_id: str) -> int | None:
    """What a label of this machine has to carry now; None where there is no such machine in use."""
    c = schema.device.c
    found: int | None = connection.execute(
        sa.select(c.label_epoch).where(c.device_id == device_id, c.retired_at.is_(None))
    ).scalar()
    return found


def customer_name(connection: Connection, customer_id: int) -> str:
    """'' where there is no such customer."""
    c = schema.customer.c
    return str(connection.execute(sa.select(c.name).where(c.id == customer_id)).scalar() or "")
