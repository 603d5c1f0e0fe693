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

from monitor.store import triggers

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


def _place() -> tuple[Column[float | None], Column[float | None]]:
    """Where on earth (WGS 84)."""
    return Column("lat_deg", Float, nullable=True), Column("lon_deg", Float, nullable=True)


# --- what is rented out, to whom, and who cares for it -------------------------------------------------------------

site = Table(
    "site",
    metadata,
    _serial(),
    Column("name", String(120), nullable=False, unique=True),
    Column("remote", Boolean, nullable=False, default=False),
    Column("timezone", String(64), nullable=False),
    *_place(),
    # How to get in: gate code, who to ask for, where the machine stands.
    Column("access_notes", Text, nullable=False, default=""),
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
    # The same for the label on the machine.
    Column("label_epoch", Integer, nullable=False, default=0),
    Column("firmware", String(120), nullable=False, default=""),
    Column("model", String(120), nullable=False, default=""),
    # When it was heard for the first time (before that its condition is unknown), and last, a few seconds behind.
    _at("first_heard_at"),
    _at("last_heard_at"),
    # When it last sent telemetry as it was measured: no backlog, nothing that its broker says of it (E3).
    _at("live_at"),
    CheckConstraint("connection IN ('online', 'lost', 'offline')", name="connection"),
    Index(
        "ix_device_retired",
        "device_id",
        sqlite_where=text("retired_at IS NOT NULL"),
        postgresql_where=text("retired_at IS NOT NULL"),
    ),
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
    # Signed links carry it: raised, all that were handed out end.
    Column("link_epoch", Integer, nullable=False, default=0),
    # Since when nothing is known of them any more (store/erasure.py).
    _at("erased_at"),
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
    # Where they live and set out from, and the zone of their working hours.
    *_place(),
    Column("timezone", String(64), nullable=False, default=""),
    _at("added_at", optional=False),
    _at("disabled_at"),
    _at("erased_at"),
    CheckConstraint("role IN ('ops', 'technician', 'customer', 'service', 'manager', 'admin')", name="role"),
)

# P1: a technician works on the models that they are certified for, until the day that the certificate says.
certificate = Table(
    "certificate",
    metadata,
    _serial(),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    Column("profile", String(64), nullable=False),
    _at("since_at", optional=False),
    _at("until_at"),
    Index("uq_certificate", "person_id", "profile", unique=True),
)

# Hours of one weekday (0: Monday), in minutes since midnight on the wall of the person's zone. An end that is not after
# the beginning lies on the next day.
working_hours = Table(
    "working_hours",
    metadata,
    _serial(),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    Column("weekday", Integer, nullable=False),
    Column("from_minute", Integer, nullable=False),
    Column("until_minute", Integer, nullable=False),
    CheckConstraint("weekday BETWEEN 0 AND 6", name="weekday"),
    CheckConstraint(
        "from_minute BETWEEN 0 AND 1439 AND until_minute BETWEEN 0 AND 1440 AND from_minute <> until_minute",
        name="hours",
    ),
)

absence = Table(
    "absence",
    metadata,
    _serial(),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    _at("from_at", optional=False),
    _at("until_at", optional=False),
    Column("reason", String(120), nullable=False, default=""),
    CheckConstraint("from_at < until_at", name="period"),
)

# Who is on call in turn: shifts of so many hours of the wall clock, handed over at a weekday's minute in a zone.
rotation = Table(
    "rotation",
    metadata,
    _serial(),
    Column("name", String(120), nullable=False, unique=True),
    Column("timezone", String(64), nullable=False),
    Column("shift_h", Integer, nullable=False),
    Column("handover_weekday", Integer, nullable=False),
    Column("handover_minute", Integer, nullable=False),
    # Ids of people, in the order of their turns.
    Column("people", JSON, nullable=False),
    _at("starts_at", optional=False),
    _at("ends_at"),
    # Until when whoever came on has been told what they take over.
    _at("handed_over_at", optional=False),
    CheckConstraint("ends_at IS NULL OR starts_at < ends_at", name="period"),
    CheckConstraint("shift_h BETWEEN 1 AND 8784", name="shift_h"),
    CheckConstraint("handover_weekday BETWEEN 0 AND 6 AND handover_minute BETWEEN 0 AND 1439", name="handover"),
)

# Somebody else takes a shift, or a part of it.
duty_override = Table(
    "duty_override",
    metadata,
    _serial(),
    Column("rotation_id", ForeignKey("rotation.id"), nullable=False, index=True),
    Column("person_id", ForeignKey("person.id"), nullable=False),
    _at("from_at", optional=False),
    _at("until_at", optional=False),
    CheckConstraint("from_at < until_at", name="period"),
)

# How a person is reached, the first choice first. A bounced one is skipped until somebody mends it.
contact = Table(
    "contact",
    metadata,
    _serial(),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    Column("channel", String(16), nullable=False),
    Column("address", String(400), nullable=False),
    Column("position", Integer, nullable=False),
    # Local minutes of the day in which only emergencies may use it; equal: none.
    Column("quiet_from_minute", Integer, nullable=False, default=0),
    Column("quiet_until_minute", Integer, nullable=False, default=0),
    _at("bounced_at"),
    Column("bounce", Text, nullable=False, default=""),
    UniqueConstraint("person_id", "channel", "address"),
    # Notices name theirs: another contact must never come under the number of one that was removed.
    sqlite_autoincrement=True,
)

contract = Table(
    "contract",
    metadata,
    _serial(),
    Column("number", String(60), nullable=False, unique=True),
    Column("customer_id", ForeignKey("customer.id"), nullable=False, index=True),
    _at("signed_at"),
    _at("added_at", optional=False),
)

rental = Table(
    "rental",
    metadata,
    _serial(),
    Column("contract_id", ForeignKey("contract.id"), nullable=True, index=True),
    # Of a machine that was brought in exchange: the rental of the one that was taken away.
    Column("replaces_id", ForeignKey("rental.id"), nullable=True),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    Column("customer_id", ForeignKey("customer.id"), nullable=False, index=True),
    _at("starts_at", optional=False),
    _at("ends_at"),
    # When the machine really went out through the gate (hand_over), and came back. On hire is the period above.
    _at("handed_over_at"),
    _at("returned_at"),
    # It ran, or was over, before it was ours to check: the gate was never asked (E2, E3).
    Column("taken_over", Boolean, nullable=False, default=False),
    # Half-open: a machine is on hire at t when starts_at <= t < ends_at.
    CheckConstraint("ends_at IS NULL OR ends_at >= starts_at", name="period"),
    Index("ix_rental_device", "device_id", "starts_at"),
    Index("ix_rental_replaces", "replaces_id", sqlite_where=text("replaces_id IS NOT NULL"),
          postgresql_where=text("replaces_id IS NOT NULL")),
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

# What the service asks of machines (MQTT, `{topic}/command`): sent again until it is answered or given up. Both may
# stand on a row: an answer that comes after we gave up is an answer all the same.
WAITING = "next_send_at IS NOT NULL"

command = Table(
    "command",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    # Of the box that is asked: another box in its place does not know of it.
    Column("generation", Integer, nullable=False),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=True, index=True),
    Column("command", String(24), nullable=False),
    Column("args", JSON, nullable=False),
    Column("asked_by", String(80), nullable=False),
    _at("asked_at", optional=False),
    _at("next_send_at"),
    # When the broker last took it from us, and how often it did.
    _at("sent_at"),
    Column("sends", Integer, nullable=False, default=0),
    _at("answered_at"),
    Column("ok", Boolean, nullable=True),
    Column("result", JSON, nullable=True),
    _at("given_up_at"),
    # Why it was given up.
    Column("reason", String(24), nullable=False, default=""),
    CheckConstraint("(answered_at IS NULL) = (ok IS NULL)", name="answered_with"),
    CheckConstraint(
        "(next_send_at IS NULL) = (answered_at IS NOT NULL OR given_up_at IS NOT NULL)", name="waits_until_ended"
    ),
    Index("ix_command_device", "device_id", "asked_at"),
    Index("ix_command_waiting", "next_send_at", sqlite_where=text(WAITING), postgresql_where=text(WAITING)),
    # One of a kind is under way for a ticket, or for a machine without one.
    Index("uq_command_of_ticket", "ticket_id", "command", unique=True,
          sqlite_where=text(WAITING), postgresql_where=text(WAITING)),
    Index("uq_command_of_device", "device_id", "command", unique=True,
          sqlite_where=text(f"ticket_id IS NULL AND {WAITING}"),
          postgresql_where=text(f"ticket_id IS NULL AND {WAITING}")),
)  # fmt: skip

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

UNENDED = "status NOT IN ('closed', 'cancelled')"

REPAIRED = "outcome = 'real'"

UNHIRED = f"rental_id IS NULL AND device_id IS NOT NULL AND {OPEN_TICKET}"

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
    # How we came to know: by ourselves, or told by somebody (`reported_by`, in their words in the evidence).
    Column("origin", String(12), nullable=False, default="detected"),
    Column("reported_by", String(200), nullable=False, default=""),
    _at("cleared_at"),
    _at("resolved_at"),
    _at("closed_at"),
    # How often it was reopened.
    Column("turn", Integer, nullable=False, default=0),
    # Of a waiting ticket: the status that it goes on with.
    Column("resumes_to", String(12), nullable=True),
    # What it was, from the lists that operators keep (table choice).
    Column("resolution_cause", String(40), nullable=True),
    Column("resolution_action", String(40), nullable=True),
    Column("borne_by", String(40), nullable=True),
    Column("parts", JSON, nullable=True),
    Column("outcome", String(12), nullable=True),
    # When the customer was promised that the technician comes.
    _at("visit_at"),
    # The first due time of its running clocks, kept with them (cases.note_due); null: none runs.
    _at("due_at"),
    # Raised with every change: what If-Match is compared with.
    Column("revision", Integer, nullable=False, default=0),
    # The ticket that took its faults over.
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
    CheckConstraint("origin IN ('detected', 'phone', 'customer', 'label', 'office')", name="origin"),
    CheckConstraint("outcome IN ('real', 'nuisance', 'wrong_cause')", name="outcome"),
    CheckConstraint("(status = 'waiting') = (resumes_to IS NOT NULL)", name="waiting_resumes"),
    Index("uq_ticket_open", "device_id", "kind", "subject", unique=True, sqlite_where=text(OPEN_TICKET),
          postgresql_where=text(OPEN_TICKET)),
    # A whole site's ticket: one stands at a time.
    Index("uq_ticket_open_site", "site_id", "kind", "subject", unique=True,
          sqlite_where=text(f"device_id IS NULL AND {OPEN_TICKET}"),
          postgresql_where=text(f"device_id IS NULL AND {OPEN_TICKET}")),
    Index("ix_ticket_device", "device_id", "opened_at"),
    Index("ix_ticket_opened", "opened_at"),
    Index("ix_ticket_resolved", "resolved_at", sqlite_where=text("resolved_at IS NOT NULL"),
          postgresql_where=text("resolved_at IS NOT NULL")),
    Index("ix_ticket_reopened", "id", sqlite_where=text("turn > 0"), postgresql_where=text("turn > 0")),
    Index("ix_ticket_status", "status", "id"),
    Index("ix_ticket_unended", "due_at", "severity", sqlite_where=text(UNENDED), postgresql_where=text(UNENDED)),
    Index("ix_ticket_unhired", "id", sqlite_where=text(UNHIRED), postgresql_where=text(UNHIRED)),
    Index("ix_ticket_technician", "technician_id", "status"),
    # How the same fault was repaired before.
    Index("ix_ticket_repair", "kind", "subject", "resolved_at", sqlite_where=text(REPAIRED),
          postgresql_where=text(REPAIRED)),
    Index("ix_ticket_due", "due_at", sqlite_where=text("due_at IS NOT NULL"),
          postgresql_where=text("due_at IS NOT NULL")),
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
    Index("ix_fault_device", "device_id", "opened_at"),
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
    # Why it waits, or what was wrong with a cancelled one; the other ticket of a merge or a link.
    Column("reason", String(40), nullable=False, default=""),
    Column("other_id", ForeignKey("ticket.id"), nullable=True),
    # The turn of the ticket it belongs to: reopening begins another one.
    Column("turn", Integer, nullable=False, default=0),
    _at("happened_at", optional=False),
    _at("recorded_at", optional=False),
    # A mistaken tap, taken back: the step that did it. It stays in the record, and counts for nothing.
    Column("corrected_by", ForeignKey("step.id"), nullable=True),
)

# The ledger of waiting: due times are reckoned from it and the steps alone.
pause = Table(
    "pause",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False, index=True),
    Column("turn", Integer, nullable=False),
    Column("reason", String(40), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("stops_clocks", Boolean, nullable=False),
    _at("from_at", optional=False),
    # Until when it was agreed to wait, and when it really ended.
    _at("until_at"),
    _at("to_at"),
    _at("recorded_at", optional=False),
    CheckConstraint("to_at IS NULL OR to_at >= from_at", name="period"),
    Index("uq_pause_open", "ticket_id", unique=True, sqlite_where=text("to_at IS NULL"),
          postgresql_where=text("to_at IS NULL")),
    Index("ix_pause_until", "until_at", sqlite_where=text("to_at IS NULL"), postgresql_where=text("to_at IS NULL")),
)  # fmt: skip

# Tickets that belong together: `returned` where the later one is the earlier one's fault come back.
ticket_link = Table(
    "ticket_link",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False),
    Column("other_id", ForeignKey("ticket.id"), nullable=False, index=True),
    Column("kind", String(12), nullable=False),
    _at("at", optional=False),
    Column("actor", String(80), nullable=False),
    UniqueConstraint("ticket_id", "other_id"),
    CheckConstraint("ticket_id <> other_id", name="two"),
    CheckConstraint("kind IN ('related', 'returned', 'merged')", name="kind"),
)

STANDING = "replaced_at IS NULL"

# "How was it?" (P2): asked once of a ticket's customer, when it was dealt with. Another answer is a row of its own, so
# that every figure can be asked as of a moment; the words of the one before go.
satisfaction = Table(
    "satisfaction",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False),
    Column("customer_id", ForeignKey("customer.id"), nullable=False),
    _at("asked_at", optional=False),
    # 1: satisfied, 0: not; null: not answered yet.
    Column("score", Integer, nullable=True),
    Column("words", Text, nullable=False, default=""),
    _at("answered_at"),
    _at("replaced_at"),
    # In which it was asked, and then answered.
    Column("lang", String(8), nullable=False),
    CheckConstraint("score IN (0, 1)", name="score"),
    CheckConstraint("(score IS NULL) = (answered_at IS NULL)", name="answered"),
    Index("uq_satisfaction_standing", "ticket_id", "customer_id", unique=True, sqlite_where=text(STANDING),
          postgresql_where=text(STANDING)),
    Index("ix_satisfaction_customer", "customer_id", "asked_at"),
    Index("ix_satisfaction_asked", "asked_at"),
)  # fmt: skip

# The lists that operators keep: causes, actions, who bears it, what was wrong with an alarm.
choice = Table(
    "choice",
    metadata,
    _serial(),
    Column("list", String(16), nullable=False),
    Column("code", String(40), nullable=False),
    Column("title_en", String(120), nullable=False),
    Column("title_zh", String(120), nullable=False),
    Column("position", Integer, nullable=False),
    _at("retired_at"),
    UniqueConstraint("list", "code"),
    CheckConstraint("list IN ('cause', 'action', 'borne_by', 'false_alarm')", name="list"),
)

# Time that was declared beforehand in which faults of a machine, or of a site's machines, call nobody.
maintenance_window = Table(
    "maintenance_window",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=True, index=True),
    Column("site_id", ForeignKey("site.id"), nullable=True, index=True),
    Column("what", String(12), nullable=False),
    _at("starts_at", optional=False),
    _at("ends_at", optional=False),
    Column("reason", String(200), nullable=False, default=""),
    Column("declared_by", String(80), nullable=False),
    _at("declared_at", optional=False),
    _at("cancelled_at"),
    CheckConstraint("starts_at < ends_at", name="period"),
    CheckConstraint("(device_id IS NULL) <> (site_id IS NULL)", name="one_place"),
    CheckConstraint("what IN ('maintenance', 'transport')", name="what"),
)

PAGED = "next_at IS NOT NULL"

# The search for somebody who takes a ticket (desk/escalation.py): where it stands, and when it is looked at again.
paging = Table(
    "paging",
    metadata,
    Column("ticket_id", ForeignKey("ticket.id"), primary_key=True, autoincrement=False),
    Column("round", Integer, nullable=False),
    Column("phase", String(12), nullable=False),
    _at("since_at", optional=False),
    # Whom an operator named in this round.
    Column("named_id", ForeignKey("person.id"), nullable=True),
    _at("next_at"),
    CheckConstraint("phase IN ('seeking', 'accepted', 'on_the_way', 'stopped')", name="phase"),
    Index("ix_paging_next", "next_at", sqlite_where=text(PAGED), postgresql_where=text(PAGED)),
)

# Every move of paging: who was asked, reminded or told, when that was due, and what became of it.
move = Table(
    "move",
    metadata,
    _serial(),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=False, index=True),
    Column("round", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    Column("what", String(20), nullable=False),
    Column("who", String(12), nullable=True),
    Column("person_id", ForeignKey("person.id"), nullable=True),
    _at("due_at", optional=False),
    _at("until_at"),
    _at("made_at", optional=False),
    _at("declined_at"),
    UniqueConstraint("ticket_id", "round", "level", "what", "person_id"),
    Index("ix_move_person", "person_id", "ticket_id"),
    # Two without a person are the same move, though the database takes no two nulls for equal.
    Index("uq_move_of_nobody", "ticket_id", "round", "level", "what", unique=True,
          sqlite_where=text("person_id IS NULL"), postgresql_where=text("person_id IS NULL")),
)  # fmt: skip

RUNNING = "met_at IS NULL AND voided_at IS NULL AND paused_since IS NULL"

CROSSES = "next_at IS NOT NULL"

FORESEEN = f"{RUNNING} AND breached_at IS NULL AND feared_at IS NULL"

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
    # What was promised, whole: a changed standard changes nothing of it.
    Column("stop", String(24), nullable=False),
    Column("length_s", Float, nullable=True),
    Column("length_days", Integer, nullable=True),
    Column("calendar", String(12), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("warns", JSON, nullable=False),
    Column("turn", Integer, nullable=False, default=0),
    # Since when it stands still for the customer; due_at is then as if that were over at once.
    _at("paused_since"),
    # When it next runs into something (desk/commitments.next_at); null: there is nothing more to come.
    _at("next_at"),
    # When it was last looked at whether it can be kept (desk/feasibility.py), and when that was first in doubt.
    Column("foreseen_at", BigInteger, nullable=False, default=0),
    _at("feared_at"),
    UniqueConstraint("ticket_id", "kind", "turn"),
    CheckConstraint("breached_at IS NULL OR breached_at = due_at", name="breached_when_due"),
    CheckConstraint("met_at IS NULL OR voided_at IS NULL", name="one_stop"),
    Index("ix_commitment_started", "started_at"),
    Index("ix_commitment_next", "next_at", sqlite_where=text(CROSSES), postgresql_where=text(CROSSES)),
    Index("ix_commitment_foreseen", "foreseen_at", sqlite_where=text(FORESEEN), postgresql_where=text(FORESEEN)),
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
    # What it is instead: met in time, or due later.
    _at("met_at"),
    _at("due_at", optional=False),
    _at("recorded_at", optional=False),
    Column("actor", String(80), nullable=False),
)

# The outbox: written in the transaction of what caused it; one row a recipient and cause. What is gathered into one
# message (monitor/engine/telling.py) are rows that name the row which carries them, and share its fate.
notice = Table(
    "notice",
    metadata,
    _serial(),
    Column("cause", String(160), nullable=False, unique=True),
    Column("kind", String(24), nullable=False),
    Column("ticket_id", ForeignKey("ticket.id"), nullable=True, index=True),
    Column("severity", String(12), nullable=False, default="urgent"),
    # Null: it is addressed directly (a customer's office, operations' webhook).
    Column("person_id", ForeignKey("person.id"), nullable=True),
    # Which of the person's contacts; null: the e-mail of their own row. Contacts come and go, so no reference.
    Column("contact_id", BigInteger, nullable=True),
    # The contacts through which it could not be told (0: their own e-mail).
    Column("tried", JSON, nullable=False, default=list),
    # desk/telling.How; '' where it is addressed directly.
    Column("how", String(12), nullable=False, default=""),
    _at("deliver_at"),
    Column("gathered_in", ForeignKey("notice.id"), nullable=True, index=True),
    Column("channel", String(16), nullable=False),
    Column("recipient", String(400), nullable=False),
    Column("lang", String(8), nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("html", Text, nullable=False, default=""),
    Column("link", Text, nullable=False, default=""),
    Column("status", String(12), nullable=False),
    Column("tries", Integer, nullable=False, default=0),
    _at("queued_at", optional=False),
    _at("next_try_at", optional=False),
    _at("claimed_until"),
    _at("sent_at"),
    Column("last_error", Text, nullable=False, default=""),
    CheckConstraint("status IN ('queued', 'sent', 'failed', 'withdrawn')", name="status"),
    CheckConstraint("gathered_in <> id", name="not_in_itself"),
    # What a person was told lately is looked at before they are told more.
    Index("ix_notice_person", "person_id", "deliver_at"),
    Index("ix_notice_due", "next_try_at", sqlite_where=text("status = 'queued'"),
          postgresql_where=text("status = 'queued'")),
)  # fmt: skip

# The ways out that the process which delivers notices has, as it last said: other processes know no settings of it.
notice_channel = Table(
    "notice_channel",
    metadata,
    Column("name", String(16), primary_key=True),
    # What really carries it (e-mail goes into the log where no server is set), and the rooms that a robot knows.
    Column("carrier", String(16), nullable=False),
    Column("rooms", JSON, nullable=False),
    _at("since_at", optional=False),
)

# --- the fleet -----------------------------------------------------------------------------------------------------

# Where a machine has stood, from each moment on: at a site, or at none that is known. device.site_id is the last of it.
stay = Table(
    "stay",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    Column("site_id", ForeignKey("site.id"), nullable=True),
    _at("from_at", optional=False),
    _at("recorded_at", optional=False),
    Column("actor", String(80), nullable=False),
    Index("ix_stay_device", "device_id", "from_at"),
)

# What a machine ran with, from each moment on (its own clock), as its status said.
firmware_seen = Table(
    "firmware_seen",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    _at("from_at", optional=False),
    Column("firmware", String(120), nullable=False),
    Column("model", String(120), nullable=False),
    _at("recorded_at", optional=False),
    Index("ix_firmware_seen_device", "device_id", "from_at"),
)

# What operators put in the place of the maintenance plans that ship, or beside them: for all machines, for a model, for
# one machine; the nearest counts. `of`: the profile or the machine.
maintenance_plan = Table(
    "maintenance_plan",
    metadata,
    _serial(),
    Column("code", String(40), nullable=False),
    Column("scope", String(8), nullable=False),
    Column("of", String(64), nullable=False, default=""),
    # monitor/fleet/maintenance.Plan, whole.
    Column("plan", JSON, nullable=False),
    _at("changed_at", optional=False),
    Column("changed_by", String(80), nullable=False),
    UniqueConstraint("code", "scope", "of"),
    CheckConstraint("scope IN ('all', 'profile', 'device')", name="scope"),
    CheckConstraint("(scope = 'all') = (of = '')", name="of"),
)

# What hour meters showed, once a day and when somebody read them. Those in doubt count for nothing. `total_h` goes on
# where a meter was replaced; `starts` are those since the first reading, null where nobody counts them.
meter_reading = Table(
    "meter_reading",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    _at("at", optional=False),
    Column("hours", Float, nullable=False),
    Column("total_h", Float, nullable=False),
    Column("starts", BigInteger, nullable=True),
    Column("source", String(12), nullable=False),
    Column("replaced", Boolean, nullable=False, default=False),
    Column("doubt", String(8), nullable=False, default=""),
    Column("actor", String(80), nullable=False),
    _at("recorded_at", optional=False),
    CheckConstraint("source IN ('telemetry', 'manual')", name="source"),
    CheckConstraint("doubt IN ('', 'back', 'fast')", name="doubt"),
    UniqueConstraint("device_id", "at"),
    Index("ix_meter_reading_at", "at"),
)

# When telemetry was last asked for a machine's meter, whatever it said: once a day.
meter_asked = Table(
    "meter_asked",
    metadata,
    Column("device_id", ForeignKey("device.device_id"), primary_key=True),
    _at("at", optional=False),
)

# When each plan of each machine is due (monitor/fleet/maintenance.Due): it follows from plans, meters, work orders and
# faults, and is reckoned anew from them at `look_at`, or when one of them changes.
maintenance_due = Table(
    "maintenance_due",
    metadata,
    Column("device_id", ForeignKey("device.device_id"), primary_key=True),
    Column("plan", String(40), primary_key=True),
    Column("title_en", String(120), nullable=False),
    Column("title_zh", String(120), nullable=False),
    # From when it is reckoned: what tells this time from the one before.
    _at("cycle_at", optional=False),
    _at("done_at"),
    _at("soon_at", optional=False),
    _at("due_at", optional=False),
    _at("certain_at", optional=False),
    _at("overdue_at", optional=False),
    Column("trigger", String(12), nullable=False),
    Column("sure", String(16), nullable=False),
    Column("left_h", Float, nullable=True),
    Column("left_starts", BigInteger, nullable=True),
    Column("use_h_per_day", Float, nullable=True),
    Column("meter_h", Float, nullable=True),
    _at("look_at", optional=False),
    _at("computed_at", optional=False),
    CheckConstraint("trigger IN ('calendar', 'hours', 'starts', 'condition')", name="trigger"),
    CheckConstraint("soon_at <= certain_at AND due_at <= certain_at AND certain_at <= overdue_at", name="order"),
    Index("ix_maintenance_due_due", "due_at", "device_id", "plan"),
    Index("ix_maintenance_due_overdue", "overdue_at", "device_id", "plan"),
    Index("ix_maintenance_due_look", "look_at"),
    Index(
        "ix_maintenance_due_condition",
        "device_id",
        sqlite_where=text("trigger = 'condition'"),
        postgresql_where=text("trigger = 'condition'"),
    ),
)

OPEN_ORDER = "status = 'open'"

# What somebody is to do with a machine, beside faults: maintenance by its plan or by hand, a spot check.
work_order = Table(
    "work_order",
    metadata,
    _serial(),
    Column("kind", String(16), nullable=False),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    # The plan it is for; '': none.
    Column("plan", String(40), nullable=False, default=""),
    # Which time of the plan: each is asked for once.
    _at("cycle_at"),
    Column("title_en", String(120), nullable=False),
    Column("title_zh", String(120), nullable=False),
    # What brought it: a trigger of the plan, `by_hand`, or the draw of a spot check.
    Column("reason", String(40), nullable=False),
    _at("due_at", optional=False),
    _at("opened_at", optional=False),
    Column("opened_by", String(80), nullable=False),
    Column("status", String(12), nullable=False, default="open"),
    Column("assignee_id", ForeignKey("person.id"), nullable=True),
    # [{code, title_en, title_zh}], and of each code how it was found: [{code, result, note}].
    Column("checklist", JSON, nullable=False),
    Column("results", JSON, nullable=False, default=list),
    Column("parts", JSON, nullable=False, default=list),
    Column("note", Text, nullable=False, default=""),
    _at("done_at"),
    Column("done_by", String(80), nullable=False, default=""),
    # What the meter showed when it was done.
    Column("meter_hours", Float, nullable=True),
    # From when the plan is reckoned since (monitor/fleet/maintenance.Anchor).
    _at("from_at"),
    Column("from_h", Float, nullable=True),
    Column("from_starts", BigInteger, nullable=True),
    # Of a spot check: the draw that it came of.
    Column("draw_id", BigInteger, nullable=True),
    Column("revision", Integer, nullable=False, default=0),
    _at("recorded_at", optional=False),
    CheckConstraint("kind IN ('maintenance', 'spot_check')", name="kind"),
    CheckConstraint("status IN ('open', 'done', 'cancelled')", name="status"),
    CheckConstraint("(status = 'done') = (done_at IS NOT NULL)", name="done_at"),
    Index("uq_work_order_cycle", "device_id", "plan", "cycle_at", unique=True,
          sqlite_where=text("cycle_at IS NOT NULL"), postgresql_where=text("cycle_at IS NOT NULL")),
    Index("uq_work_order_open", "device_id", "plan", unique=True,
          sqlite_where=text(f"plan <> '' AND {OPEN_ORDER}"), postgresql_where=text(f"plan <> '' AND {OPEN_ORDER}")),
    Index("ix_work_order_device", "device_id", "id"),
    Index("ix_work_order_open", "due_at", sqlite_where=text(OPEN_ORDER), postgresql_where=text(OPEN_ORDER)),
    Index("ix_work_order_assignee", "assignee_id"),
    Index("ix_work_order_draw", "draw_id"),
)  # fmt: skip

# Addresses of calendars that were handed out (`/calendar/…`), each for what it shows: a person's orders, a site's
# maintenance, or all of it.
calendar_feed = Table(
    "calendar_feed",
    metadata,
    _serial(),
    Column("person_id", ForeignKey("person.id"), nullable=True),
    Column("site_id", ForeignKey("site.id"), nullable=True),
    Column("lang", String(8), nullable=False),
    _at("made_at", optional=False),
    Column("made_by", String(80), nullable=False),
    _at("expires_at", optional=False),
    _at("ended_at"),
    CheckConstraint("person_id IS NULL OR site_id IS NULL", name="one_scope"),
)

# Safety inspections (E2, E6): signed once, never changed. A wrong one is voided, and stays; the migrations make the
# database refuse everything else.
inspection = Table(
    "inspection",
    metadata,
    _serial(),
    Column("kind", String(12), nullable=False),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    # The rental that it is for, or that the machine was on; null: it was in the yard, for nobody yet.
    Column("rental_id", ForeignKey("rental.id"), nullable=True, index=True),
    Column("checklist_version", String(40), nullable=False),
    # Every item whole, with what was said, measured and judged (monitor/fleet/inspection.Finding).
    Column("items", JSON, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("inspector_id", ForeignKey("person.id"), nullable=False),
    Column("signature", String(200), nullable=False),
    _at("signed_at", optional=False),
    _at("at", optional=False),
    _at("recorded_at", optional=False),
    Column("note", Text, nullable=False, default=""),
    _at("voided_at"),
    Column("voided_by", String(80), nullable=False, default=""),
    Column("void_reason", String(500), nullable=False, default=""),
    CheckConstraint("kind IN ('hand_over', 'return', 'spot_check')", name="kind"),
    CheckConstraint("at <= recorded_at AND signed_at <= recorded_at", name="recorded_after"),
    CheckConstraint("(voided_at IS NULL) = (void_reason = '')", name="voided_with_reason"),
    Index("ix_inspection_device", "device_id", "at"),
)

# A machine that went to its customer through the gate (E2, E3), with all that the gate saw. Commands without a ticket
# are pruned, so the self-test's id is no reference.
hand_over = Table(
    "hand_over",
    metadata,
    _serial(),
    Column("rental_id", ForeignKey("rental.id"), nullable=False, unique=True),
    Column("inspection_id", ForeignKey("inspection.id"), nullable=False, index=True),
    Column("command_id", String(64), nullable=False),
    _at("at", optional=False),
    Column("actor", String(80), nullable=False),
    Column("gate", JSON, nullable=False),
)

# The machines in use that were drawn for a month's spot check (E6), with all that it takes to draw them again.
spot_check_draw = Table(
    "spot_check_draw",
    metadata,
    _serial(),
    Column("month", String(7), nullable=False, unique=True),
    _at("at", optional=False),
    Column("seed", String(120), nullable=False),
    Column("policy_version", String(40), nullable=False),
    # How many machines were in use, and a hash of their ids.
    Column("frame", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    # [{profile, from_days, frame, drawn}], and the ids of the drawn.
    Column("strata", JSON, nullable=False),
    Column("machines", JSON, nullable=False),
)

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
    # '': the first thing that somebody shows. Else what they have shown already (a link, a password): what remains is
    # the code of their second factor, and so often a wrong one was given.
    Column("after", String(8), nullable=False, default=""),
    Column("tries", Integer, nullable=False, default=0),
    _at("expires_at", optional=False),
    _at("used_at"),
)

session = Table(
    "session",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("person_id", ForeignKey("person.id"), nullable=True),
    # How it began (link, password), and on what kind of browser: by that its owner knows it again.
    Column("began_by", String(8), nullable=False, default="link"),
    Column("device", String(60), nullable=False, default=""),
    _at("created_at", optional=False),
    _at("expires_at", optional=False),
    _at("ended_at"),
    CheckConstraint("began_by IN ('link', 'password')", name="began_by"),
    Index("ix_session_person", "person_id"),
)

# Of those who have set one: argon2id, with its parameters and salt (PHC string).
password = Table(
    "password",
    metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("hash", String(200), nullable=False),
    _at("set_at", optional=False),
)

# The secret of somebody's authenticator app, sealed (monitor/store/second_factor.py). since_at null: begun, and not
# confirmed by a code yet. A code is used once: last_step is the newest one that was.
second_factor = Table(
    "second_factor",
    metadata,
    Column("person_id", ForeignKey("person.id"), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    _at("begun_at", optional=False),
    _at("since_at"),
    Column("last_step", BigInteger, nullable=False, default=0),
)

# In place of the app, each once.
recovery_code = Table(
    "recovery_code",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("person_id", ForeignKey("person.id"), nullable=False, index=True),
    _at("used_at"),
)

# What a request with an Idempotency-Key was answered, so that the same again is not done twice. Kept for a day.
idempotency = Table(
    "idempotency",
    metadata,
    Column("actor", String(80), primary_key=True),
    Column("key", String(80), primary_key=True),
    # Hash of what was asked: the same key with another request is refused.
    Column("request", String(64), nullable=False),
    _at("at", optional=False),
    # Who is doing it, and until when nobody else may take it over.
    Column("attempt", String(32), nullable=False),
    _at("until_at", optional=False),
    # Written in the transaction that does it.
    _at("done_at"),
    # Null while it is being done, and where the answer was lost.
    Column("status", Integer, nullable=True),
    Column("headers", JSON, nullable=True),
    Column("body", LargeBinary, nullable=True),
    CheckConstraint("(status IS NULL) = (body IS NULL)", name="answered_with"),
    Index("ix_idempotency_at", "at"),
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

# --- the fleet's ledger (E1) -----------------------------------------------------------------------------------------

CURRENT = "superseded_at IS NULL"

# Every machine's time, gapless: one condition at one place, from when to when (monitor/fleet/ledger.py). Derived from
# the record; nothing is overwritten, so that every figure can be asked as of a moment.
fleet_interval = Table(
    "fleet_interval",
    metadata,
    _serial(),
    # No reference: to check it would wait for whoever has the machine's row, and they may wait for us (PostgreSQL).
    Column("device_id", String(64), nullable=False),
    _at("from_at", optional=False),
    # Null: it runs.
    _at("to_at"),
    Column("condition", String(8), nullable=False),
    Column("place", String(12), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("fault_id", BigInteger, nullable=True),
    Column("site_id", BigInteger, nullable=True),
    Column("rental_id", BigInteger, nullable=True),
    Column("customer_id", BigInteger, nullable=True),
    # When we knew of it, when of its end, and since when it is not what we say any more.
    _at("recorded_at", optional=False),
    _at("end_recorded_at"),
    _at("superseded_at"),
    CheckConstraint("to_at IS NULL OR to_at > from_at", name="period"),
    CheckConstraint("condition IN ('good', 'bad', 'unknown')", name="condition"),
    CheckConstraint("place IN ('on_hire', 'yard', 'transport', 'maintenance', 'retired')", name="place"),
    Index("ix_fleet_interval_device", "device_id", "from_at"),
    Index("uq_fleet_interval_running", "device_id", unique=True, sqlite_where=text(f"to_at IS NULL AND {CURRENT}"),
          postgresql_where=text(f"to_at IS NULL AND {CURRENT}")),
    Index("ix_fleet_interval_end", "to_at", sqlite_where=text(CURRENT), postgresql_where=text(CURRENT)),
    Index("ix_fleet_interval_rental", "rental_id"),
)  # fmt: skip

# Whose course is to be worked out anew, and from when on; triggers on what it depends on put it here. `mark` tells a
# change that came meanwhile.
ledger_due = Table(
    "ledger_due",
    metadata,
    Column("device_id", String(64), primary_key=True),
    _at("due_at", optional=False),
    Column("mark", BigInteger, nullable=False, default=0),
    Index("ix_ledger_due_at", "due_at"),
)

# Readings that came after all for a time in which the machine was silent.
heard_late = Table(
    "heard_late",
    metadata,
    _serial(),
    Column("device_id", ForeignKey("device.device_id"), nullable=False),
    _at("from_at", optional=False),
    _at("to_at", optional=False),
    _at("recorded_at", optional=False),
    Index("ix_heard_late_device", "device_id", "from_at"),
)

# Sums of the ledger, kept with it, in whole ms: what ended intervals spent on each day, the running ones by the day on
# which they began, and the machines as they stand now. Days are the company's; another time zone sums anew.
day_sum = Table(
    "day_sum",
    metadata,
    Column("profile", String(64), primary_key=True),
    Column("hired", Boolean, primary_key=True),
    Column("condition", String(8), primary_key=True),
    Column("day_at", BigInteger, primary_key=True),
    Column("ms", BigInteger, nullable=False),
    Index("ix_day_sum_day", "day_at"),
)

running_sum = Table(
    "running_sum",
    metadata,
    Column("profile", String(64), primary_key=True),
    Column("hired", Boolean, primary_key=True),
    Column("condition", String(8), primary_key=True),
    Column("day_at", BigInteger, primary_key=True),
    Column("number", BigInteger, nullable=False),
    # Reckoned from that day's midnight.
    Column("from_ms", BigInteger, nullable=False),
)

now_sum = Table(
    "now_sum",
    metadata,
    Column("profile", String(64), primary_key=True),
    Column("site_id", BigInteger, primary_key=True),
    Column("hired", Boolean, primary_key=True),
    Column("condition", String(8), primary_key=True),
    Column("number", BigInteger, nullable=False),
)

# Months against the service standard, each as it was known at a moment (monitor/fleet/report.py). The body is the text
# that was reported: built again as of the same moment, it is the same to the last byte.
monthly_report = Table(
    "monthly_report",
    metadata,
    _serial(),
    Column("month", String(7), nullable=False),
    _at("as_of", optional=False),
    _at("built_at", optional=False),
    Column("body", Text, nullable=False),
    # When managers' notices of it were queued.
    _at("sent_at"),
    UniqueConstraint("month"),
)

triggers.attach(metadata)
