"""Every table but telemetry, for SQLite and PostgreSQL alike. The invariants stand here as well as in code.

Times (`…_at`) are epoch milliseconds UTC. Facts and times are stored, statuses that follow from them are derived.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite counts rows by itself only in a column declared exactly INTEGER PRIMARY KEY.
Serial = BigInteger().with_variant(Integer, "sqlite")


def _serial() -> Column[int]:
    return Column("id", Serial, primary_key=True, autoincrement=True)


def _at(name: str, *, optional: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=optional)


# --- what is rented out, to whom, and who cares for it -------------------------------------------------------------

site = Table(
    "site",
    metadata,
    _serial(),
    Column("name", String(120), nullable=False, unique=True),
    Column("remote", Boolean, nullable=False, default=False),
    Column("timezone", String(64), nullable=False),
)

device = Table(
    "device",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("profile", String(64), nullable=False),
    Column("site_id", ForeignKey("site.id"), nullable=True, index=True),
    Column("generation", Integer, nullable=False, default=0),
    _at("added_at", optional=False),
    _at("retired_at"),
    _at("revoked_at"),
    # When the present generation began; what was said before belongs to the box before.
    _at("renewed_at"),
    # What the machine last said of its connection (the retained status topic).
    _at("online_at"),
    Column("connection", String(8), nullable=True),
    Column("connection_reason", String(16), nullable=False, default=""),
    Column("firmware", String(120), nullable=False, default=""),
    Column("model", String(120), nullable=False, default=""),
    # When it was heard for the first time (before that its condition is unknown), and last, a few seconds behind.
    _at("first_heard_at"),
    _at("last_heard_at"),
    CheckConstraint("connection IN ('online', 'lost', 'offline')", name="connection"),
)

# A device may hold several at once (a replay beside the box); all of an earlier generation are refused.
credential = Table(
    "credential",
    metadata,
    Column("public_key", String(64), primary_key=True),
    Column("device_id", ForeignKey("device.device_id"), nullable=False, index=True),
    Column("generation", Integer, nullable=False),
    Column("username", String(200), nullable=False),
    _at("issued_at", optional=False),
    _at("revoked_at"),
)

customer = Table(
    "customer",
    metadata,
    _serial(),
    Column("name", String(200), nullable=False, unique=True),
    Column("email", String(254), nullable=False, default=""),
    Column("lang", String(8), nullable=False, default="zh"),
)

person = Table(
    "person",
    metadata,
    _serial(),
    Column("name", String(200), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("email", String(254), nullable=False),
    Column("phone", String(40), nullable=False, default=""),
    Column("lang", String(8), nullable=False, default="zh"),
    Column("customer_id", ForeignKey("customer.id"), nullable=True),
    _at("added_at", optional=False),
    _at("disabled_at"),
    CheckConstraint("role IN ('ops', 'technician', 'customer', 'service', 'manager', 'admin')", name="role"),
)

rental = Table(
    "rental",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    Column("customer_id", ForeignKey("customer.id"), nullable=False, index=True),
    _at("starts_at", optional=False),
    _at("ends_at"),
    # Half-open: a machine is on hire at t when starts_at <= t < ends_at.
    CheckConstraint("ends_at IS NULL OR ends_at >= starts_at", name="period"),
    Index("ix_rental_device", "device_id", "starts_at"),
    Index("uq_rental_running", "device_id", unique=True, sqlite_where=text("ends_at IS NULL"),
          postgresql_where=text("ends_at IS NULL")),
)  # fmt: skip

# --- what came in --------------------------------------------------------------------------------------------------

# What of one boot of a device has been taken in: everything below next_seq but the gaps [[from, to), …].
seen = Table(
    "seen",
    metadata,
    Column("device_id", ForeignKey("device.device_id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("boot", BigInteger, primary_key=True),
    Column("next_seq", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("gaps", JSON, nullable=False),
)

# Messages that came ahead of a gap: kept safe here until the gap closes or is given up.
parked = Table(
    "parked",
    metadata,
    Column("device_id", ForeignKey("device.device_id"), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("boot", BigInteger, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    _at("received_at", optional=False),
    Column("late", Boolean, nullable=False),
    Column("what", String(8), nullable=False),
    Column("body", LargeBinary, nullable=False),
)

rejected = Table(
    "rejected",
    metadata,
    _serial(),
    _at("received_at", optional=False),
    Column("device_id", String(64), nullable=False, default="", index=True),
    Column("topic", String(400), nullable=False),
    Column("reason", String(40), nullable=False, index=True),
    Column("detail", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("payload_bytes", BigInteger, nullable=False),
)

# What devices answered to commands.
reply = Table(
    "reply",
    metadata,
    Column("device_id", ForeignKey("device.device_id"), primary_key=True),
    Column("command_id", String(64), primary_key=True),
    _at("at", optional=False),
    _at("received_at", optional=False),
    Column("ok", Boolean, nullable=False),
    Column("result", JSON, nullable=False),
)

# Detector state of one device after batch `batch` (monitor/detect): with it and the telemetry stored since, a
# restart stands exactly where the crash was.
snapshot = Table(
    "snapshot",
    metadata,
    Column("device_id", String(64), primary_key=True),
    Column("batch", BigInteger, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

# One row a process that watches: how far it came, and until when it was surely attending.
progress = Table(
    "progress",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("last_batch", BigInteger, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    _at("attended_at"),
)

# --- the desk ------------------------------------------------------------------------------------------------------

# A fault that comes back after its ticket was resolved is a new promise: a ticket, clocks and alerts of its own.
OPEN_TICKET = "status NOT IN ('resolved', 'closed', 'cancelled')"

ticket = Table(
    "ticket",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=True),
    Column("site_id", ForeignKey("site.id"), nullable=True),
    Column("rental_id", ForeignKey("rental.id"), nullable=True),
    Column("kind", String(24), nullable=False),
    Column("subject", String(64), nullable=False, default=""),
    Column("severity", String(12), nullable=False),
    Column("status", String(12), nullable=False),
    Column("technician_id", ForeignKey("person.id"), nullable=True),
    _at("opened_at", optional=False),
    _at("occurred_at", optional=False),
    _at("cleared_at"),
    _at("closed_at"),
    # The ticket that took its faults over, where nobody had touched this one.
    Column("merged_into", ForeignKey("ticket.id"), nullable=True),
    # How often the most restless of its faults came back.
    Column("recurrences", Integer, nullable=False, default=0),
    Column("evidence", JSON, nullable=False),
    Column("standard_version", String(40), nullable=False),
    CheckConstraint("severity IN ('emergency', 'urgent', 'routine', 'note')", name="severity"),
    CheckConstraint(
        "status IN ('open', 'verified', 'dispatched', 'accepted', 'on_the_way', 'on_site', 'repairing', "
        "'resolved', 'closed', 'cancelled', 'waiting')",
        name="status",
    ),
    Index("uq_ticket_open", "device_id", "kind", "subject", unique=True, sqlite_where=text(OPEN_TICKET),
          postgresql_where=text(OPEN_TICKET)),
    # A whole site's ticket: one stands at a time.
    Index("uq_ticket_open_site", "site_id", "kind", "subject", unique=True,
          sqlite_where=text(f"device_id IS NULL AND {OPEN_TICKET}"),
          postgresql_where=text(f"device_id IS NULL AND {OPEN_TICKET}")),
    Index("ix_ticket_device", "device_id", "opened_at"),
    Index("ix_ticket_status", "status", "id"),
)  # fmt: skip

HELD = "held_until IS NOT NULL AND cleared_at IS NULL"

# occurred_at and ended_at are the machine's clock, opened_at and cleared_at when the service knew.
fault = Table(
    "fault",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("subject", String(64), nullable=False, default=""),
    Column("severity", String(12), nullable=False),
    # While triage holds it: a mere note, that has no ticket yet, and what it will matter when it has one.
    Column("held_severity", String(12), nullable=True),
    # When it gets its ticket for having lasted; null: it has one, or waits for no time to pass.
    _at("held_until"),
    Column("confidence", Float, nullable=False, default=1.0),
    _at("opened_at", optional=False),
    _at("occurred_at", optional=False),
    _at("ended_at"),
    _at("cleared_at"),
    Column("evidence", JSON, nullable=False),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=True),
    Index("uq_fault_open", "device_id", "kind", "subject", unique=True, sqlite_where=text("cleared_at IS NULL"),
          postgresql_where=text("cleared_at IS NULL")),
    Index("ix_fault_cleared", "cleared_at"),
    # A site's ticket may have ten thousand faults: whether one stands, and whether a machine's was there, is looked up.
    Index("ix_fault_ticket", "ticket_id", "device_id"),
    Index("ix_fault_standing", "ticket_id", sqlite_where=text("cleared_at IS NULL"),
          postgresql_where=text("cleared_at IS NULL")),
    Index("ix_fault_held", "held_until", sqlite_where=text(HELD), postgresql_where=text(HELD)),
    CheckConstraint("ticket_id IS NULL OR (held_until IS NULL AND held_severity IS NULL)", name="held_has_no_ticket"),
)  # fmt: skip

# The readings of a ticket's faults, copied out of telemetry so that retention does not take them away: what is due,
# what is there (columns of one window, packed), and what was given up and why. Its windows are in the device's clock.
evidence_copy = Table(
    "evidence_copy",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False, index=True),
    Column("fault_id", ForeignKey("fault.id"), nullable=False),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    Column("phase", String(12), nullable=False),
    Column("number", Integer, nullable=False),
    _at("start_at", optional=False),
    _at("full_from", optional=False),
    _at("end_at", optional=False),
    _at("due_at", optional=False),
    Column("status", String(12), nullable=False),
    # Why it is not there yet, was given up, or holds less than its window.
    Column("reason", String(24), nullable=False, default=""),
    Column("tries", Integer, nullable=False, default=0),
    _at("next_try_at", optional=False),
    _at("made_at"),
    Column("complete", Boolean, nullable=False, default=False),
    Column("bytes", Integer, nullable=False, default=0),
    Column("body", LargeBinary, nullable=True),
    UniqueConstraint("fault_id", "phase", "number"),
    CheckConstraint("phase IN ('opening', 'after', 'course', 'clearing')", name="phase"),
    CheckConstraint("status IN ('due', 'made', 'given_up')", name="status"),
    CheckConstraint("(status = 'made') = (body IS NOT NULL)", name="made_has_body"),
    Index("ix_evidence_copy_due", "next_try_at", sqlite_where=text("status = 'due'"),
          postgresql_where=text("status = 'due'")),
)  # fmt: skip

# Faults that a person ended by closing or cancelling their ticket: the detectors are told to let go of them, so that
# what is still wrong is found anew. A row goes once its detector has.
released = Table(
    "released",
    metadata,
    _serial(),
    Column("device_id", String(64), nullable=False),
    Column("kind", String(24), nullable=False),
    Column("subject", String(64), nullable=False),
)

# Machines that were repaired: the detectors are told to learn them anew. A row goes once they have been.
serviced = Table(
    "serviced",
    metadata,
    _serial(),
    Column("device_id", String(64), nullable=False),
    _at("at", optional=False),
)

# Every turn of a ticket: who did what, when it happened, when it was recorded.
step = Table(
    "step",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False, index=True),
    Column("event", String(24), nullable=False),
    Column("from_status", String(12), nullable=False),
    Column("to_status", String(12), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("technician_id", ForeignKey("person.id"), nullable=True),
    Column("note", Text, nullable=False, default=""),
    _at("happened_at", optional=False),
    _at("recorded_at", optional=False),
)

# A promise with a clock. One stop, one breach, or one void; a breach carries due_at, never the moment of noticing.
commitment = Table(
    "commitment",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False),
    Column("standard_id", String(8), nullable=False),
    Column("kind", String(24), nullable=False),
    _at("started_at", optional=False),
    _at("due_at", optional=False),
    Column("warn_before_s", Float, nullable=False),
    _at("warned_at"),
    _at("met_at"),
    _at("breached_at"),
    _at("voided_at"),
    UniqueConstraint("ticket_id", "kind"),
    CheckConstraint("breached_at IS NULL OR breached_at = due_at", name="breached_when_due"),
    CheckConstraint("met_at IS NULL OR voided_at IS NULL", name="one_stop"),
    Index("ix_commitment_running", "due_at", sqlite_where=text("met_at IS NULL AND voided_at IS NULL"),
          postgresql_where=text("met_at IS NULL AND voided_at IS NULL")),
)  # fmt: skip

# What was taken back of a clock, beside what it says now: a breach that a step recorded later turned out not to be.
amendment = Table(
    "amendment",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False, index=True),
    Column("standard_id", String(8), nullable=False),
    Column("kind", String(24), nullable=False),
    _at("breached_at", optional=False),
    _at("met_at", optional=False),
    _at("recorded_at", optional=False),
    Column("actor", String(80), nullable=False),
)

# The outbox: written in the transaction of what caused it; one row a recipient and cause.
notice = Table(
    "notice",
    metadata,
    _serial(),
    Column("cause", String(120), nullable=False, unique=True),
    Column("kind", String(24), nullable=False),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=True, index=True),
    Column("channel", String(16), nullable=False),
    Column("recipient", String(254), nullable=False),
    Column("lang", String(8), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("status", String(12), nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    _at("queued_at", optional=False),
    _at("next_try_at", optional=False),
    _at("claimed_until"),
    _at("sent_at"),
    Column("last_error", Text, nullable=False, default=""),
    CheckConstraint("status IN ('queued', 'sent', 'failed', 'withdrawn')", name="status"),
    Index("ix_notice_due", "next_try_at", sqlite_where=text("status = 'queued'"),
          postgresql_where=text("status = 'queued'")),
)  # fmt: skip

# --- access, and what is remembered of it --------------------------------------------------------------------------

token = Table(
    "token",
    metadata,
    _serial(),
    Column("hash", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("name", String(120), nullable=False),
    Column("customer_id", ForeignKey("customer.id"), nullable=True),
    _at("created_at", optional=False),
    _at("revoked_at"),
    Index("uq_token_valid_name", "name", unique=True, sqlite_where=text("revoked_at IS NULL"),
          postgresql_where=text("revoked_at IS NULL")),
)  # fmt: skip

login_link = Table(
    "login_link",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("person_id", ForeignKey("person.id"), nullable=True),
    _at("expires_at", optional=False),
    _at("used_at"),
)

session = Table(
    "session",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("person_id", ForeignKey("person.id"), nullable=True),
    _at("created_at", optional=False),
    _at("expires_at", optional=False),
    _at("ended_at"),
)

# Append-only; the migrations make the database refuse UPDATE and DELETE.
audit = Table(
    "audit",
    metadata,
    _serial(),
    _at("at", optional=False),
    Column("actor", String(80), nullable=False),
    Column("what", String(40), nullable=False),
    Column("subject", String(120), nullable=False),
    Column("before", JSON, nullable=True),
    Column("after", JSON, nullable=True),
)

# What pages follow (Last-Event-ID): one row a change, pruned after a day; an id never comes twice.
change = Table(
    "change",
    metadata,
    _serial(),
    _at("at", optional=False),
    Column("what", String(24), nullable=False),
    Column("device_id", String(64), nullable=True),
    Column("ticket_id", BigInteger, nullable=True),
    sqlite_autoincrement=True,
)

# Raised by one with every change of devices, sites, rentals, people: every process polls it each second.
version = Table(
    "version",
    metadata,
    Column("name", String(24), primary_key=True),
    Column("number", BigInteger, nullable=False),
)
