"""first light

Revision: 0001
Follows: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("what", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=120), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "change",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("what", sa.String(length=24), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=True),
        sa.Column("ticket_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "choice",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("list", sa.String(length=16), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("title_en", sa.String(length=120), nullable=False),
        sa.Column("title_zh", sa.String(length=120), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("list IN ('cause', 'action', 'borne_by', 'false_alarm')", name=op.f("ck_choice_list")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_choice")),
        sa.UniqueConstraint("list", "code", name=op.f("uq_choice_list_code")),
    )
    op.create_table(
        "customer",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("lang", sa.String(length=8), nullable=False),
        sa.Column("link_epoch", sa.Integer(), nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer")),
        sa.UniqueConstraint("name", name=op.f("uq_customer_name")),
    )
    op.create_table(
        "day_sum",
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("hired", sa.Boolean(), nullable=False),
        sa.Column("condition", sa.String(length=8), nullable=False),
        sa.Column("day_at", sa.BigInteger(), nullable=False),
        sa.Column("ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("profile", "hired", "condition", "day_at", name=op.f("pk_day_sum")),
    )
    with op.batch_alter_table("day_sum", schema=None) as batch_op:
        batch_op.create_index("ix_day_sum_day", ["day_at"], unique=False)

    op.create_table(
        "fleet_interval",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=True),
        sa.Column("condition", sa.String(length=8), nullable=False),
        sa.Column("place", sa.String(length=12), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("fault_id", sa.BigInteger(), nullable=True),
        sa.Column("site_id", sa.BigInteger(), nullable=True),
        sa.Column("rental_id", sa.BigInteger(), nullable=True),
        sa.Column("customer_id", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("end_recorded_at", sa.BigInteger(), nullable=True),
        sa.Column("superseded_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("condition IN ('good', 'bad', 'unknown')", name=op.f("ck_fleet_interval_condition")),
        sa.CheckConstraint(
            "place IN ('on_hire', 'yard', 'transport', 'maintenance', 'retired')", name=op.f("ck_fleet_interval_place")
        ),
        sa.CheckConstraint("to_at IS NULL OR to_at > from_at", name=op.f("ck_fleet_interval_period")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fleet_interval")),
    )
    with op.batch_alter_table("fleet_interval", schema=None) as batch_op:
        batch_op.create_index("ix_fleet_interval_device", ["device_id", "from_at"], unique=False)
        batch_op.create_index(
            "ix_fleet_interval_end",
            ["to_at"],
            unique=False,
            sqlite_where=sa.text("superseded_at IS NULL"),
            postgresql_where=sa.text("superseded_at IS NULL"),
        )
        batch_op.create_index("ix_fleet_interval_rental", ["rental_id"], unique=False)
        batch_op.create_index(
            "uq_fleet_interval_running",
            ["device_id"],
            unique=True,
            sqlite_where=sa.text("to_at IS NULL AND superseded_at IS NULL"),
            postgresql_where=sa.text("to_at IS NULL AND superseded_at IS NULL"),
        )

    op.create_table(
        "idempotency",
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("request", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.String(length=32), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("(status IS NULL) = (body IS NULL)", name=op.f("ck_idempotency_answered_with")),
        sa.PrimaryKeyConstraint("actor", "key", name=op.f("pk_idempotency")),
    )
    with op.batch_alter_table("idempotency", schema=None) as batch_op:
        batch_op.create_index("ix_idempotency_at", ["at"], unique=False)

    op.create_table(
        "ledger_due",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_ledger_due")),
    )
    with op.batch_alter_table("ledger_due", schema=None) as batch_op:
        batch_op.create_index("ix_ledger_due_at", ["due_at"], unique=False)

    op.create_table(
        "maintenance_plan",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("of", sa.String(length=64), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_by", sa.String(length=80), nullable=False),
        sa.CheckConstraint("(scope = 'all') = (of = '')", name=op.f("ck_maintenance_plan_of")),
        sa.CheckConstraint("scope IN ('all', 'profile', 'device')", name=op.f("ck_maintenance_plan_scope")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance_plan")),
        sa.UniqueConstraint("code", "scope", "of", name=op.f("uq_maintenance_plan_code_scope_of")),
    )
    op.create_table(
        "monthly_report",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("built_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_monthly_report")),
        sa.UniqueConstraint("month", name=op.f("uq_monthly_report_month")),
    )
    op.create_table(
        "notice_channel",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("carrier", sa.String(length=16), nullable=False),
        sa.Column("rooms", sa.JSON(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_notice_channel")),
    )
    op.create_table(
        "now_sum",
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("site_id", sa.BigInteger(), nullable=False),
        sa.Column("hired", sa.Boolean(), nullable=False),
        sa.Column("condition", sa.String(length=8), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("profile", "site_id", "hired", "condition", name=op.f("pk_now_sum")),
    )
    op.create_table(
        "progress",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("last_batch", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("attended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("owner", name=op.f("pk_progress")),
    )
    op.create_table(
        "rejected",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("topic", sa.String(length=400), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected")),
    )
    with op.batch_alter_table("rejected", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rejected_device_id"), ["device_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_rejected_reason"), ["reason"], unique=False)

    op.create_table(
        "released",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_released")),
    )
    op.create_table(
        "rotation",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("shift_h", sa.Integer(), nullable=False),
        sa.Column("handover_weekday", sa.Integer(), nullable=False),
        sa.Column("handover_minute", sa.Integer(), nullable=False),
        sa.Column("people", sa.JSON(), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("handed_over_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("ends_at IS NULL OR starts_at < ends_at", name=op.f("ck_rotation_period")),
        sa.CheckConstraint(
            "handover_weekday BETWEEN 0 AND 6 AND handover_minute BETWEEN 0 AND 1439", name=op.f("ck_rotation_handover")
        ),
        sa.CheckConstraint("shift_h BETWEEN 1 AND 8784", name=op.f("ck_rotation_shift_h")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rotation")),
        sa.UniqueConstraint("name", name=op.f("uq_rotation_name")),
    )
    op.create_table(
        "running_sum",
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("hired", sa.Boolean(), nullable=False),
        sa.Column("condition", sa.String(length=8), nullable=False),
        sa.Column("day_at", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("from_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("profile", "hired", "condition", "day_at", name=op.f("pk_running_sum")),
    )
    op.create_table(
        "serviced",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_serviced")),
    )
    op.create_table(
        "site",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("remote", sa.Boolean(), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("lat_deg", sa.Float(), nullable=True),
        sa.Column("lon_deg", sa.Float(), nullable=True),
        sa.Column("access_notes", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site")),
        sa.UniqueConstraint("name", name=op.f("uq_site_name")),
    )
    op.create_table(
        "snapshot",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_snapshot")),
    )
    op.create_table(
        "spot_check_draw",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("month", sa.String(length=7), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("seed", sa.String(length=120), nullable=False),
        sa.Column("policy_version", sa.String(length=40), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("strata", sa.JSON(), nullable=False),
        sa.Column("machines", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_spot_check_draw")),
        sa.UniqueConstraint("month", name=op.f("uq_spot_check_draw_month")),
    )
    op.create_table(
        "version",
        sa.Column("name", sa.String(length=24), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_version")),
    )
    op.create_table(
        "contract",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("number", sa.String(length=60), nullable=False),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=True),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_contract_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contract")),
        sa.UniqueConstraint("number", name=op.f("uq_contract_number")),
    )
    with op.batch_alter_table("contract", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_contract_customer_id"), ["customer_id"], unique=False)

    op.create_table(
        "device",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("site_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("retired_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("renewed_at", sa.BigInteger(), nullable=True),
        sa.Column("online_at", sa.BigInteger(), nullable=True),
        sa.Column("connection", sa.String(length=8), nullable=True),
        sa.Column("connection_reason", sa.String(length=16), nullable=False),
        sa.Column("label_epoch", sa.Integer(), nullable=False),
        sa.Column("firmware", sa.String(length=120), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("first_heard_at", sa.BigInteger(), nullable=True),
        sa.Column("last_heard_at", sa.BigInteger(), nullable=True),
        sa.Column("live_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("connection IN ('online', 'lost', 'offline')", name=op.f("ck_device_connection")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_device_site_id")),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_device")),
    )
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.create_index(
            "ix_device_retired",
            ["device_id"],
            unique=False,
            sqlite_where=sa.text("retired_at IS NOT NULL"),
            postgresql_where=sa.text("retired_at IS NOT NULL"),
        )
        batch_op.create_index(batch_op.f("ix_device_site_id"), ["site_id"], unique=False)

    op.create_table(
        "person",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("phone", sa.String(length=40), nullable=False),
        sa.Column("lang", sa.String(length=8), nullable=False),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("lat_deg", sa.Float(), nullable=True),
        sa.Column("lon_deg", sa.Float(), nullable=True),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("disabled_at", sa.BigInteger(), nullable=True),
        sa.Column("erased_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "role IN ('ops', 'technician', 'customer', 'service', 'manager', 'admin')", name=op.f("ck_person_role")
        ),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_person_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_person")),
        sa.UniqueConstraint("name", name=op.f("uq_person_name")),
    )
    op.create_table(
        "token",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_token_customer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_token")),
        sa.UniqueConstraint("hash", name=op.f("uq_token_hash")),
    )
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.create_index(
            "uq_token_valid_name",
            ["name"],
            unique=True,
            sqlite_where=sa.text("revoked_at IS NULL"),
            postgresql_where=sa.text("revoked_at IS NULL"),
        )

    op.create_table(
        "absence",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=120), nullable=False),
        sa.CheckConstraint("from_at < until_at", name=op.f("ck_absence_period")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_absence_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_absence")),
    )
    with op.batch_alter_table("absence", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_absence_person_id"), ["person_id"], unique=False)

    op.create_table(
        "calendar_feed",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("site_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("lang", sa.String(length=8), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(length=80), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("person_id IS NULL OR site_id IS NULL", name=op.f("ck_calendar_feed_one_scope")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_calendar_feed_person_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_calendar_feed_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendar_feed")),
    )
    op.create_table(
        "certificate",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_certificate_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_certificate")),
    )
    with op.batch_alter_table("certificate", schema=None) as batch_op:
        batch_op.create_index("uq_certificate", ["person_id", "profile"], unique=True)

    op.create_table(
        "contact",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=400), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("quiet_from_minute", sa.Integer(), nullable=False),
        sa.Column("quiet_until_minute", sa.Integer(), nullable=False),
        sa.Column("bounced_at", sa.BigInteger(), nullable=True),
        sa.Column("bounce", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_contact_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact")),
        sa.UniqueConstraint("person_id", "channel", "address", name=op.f("uq_contact_person_id_channel_address")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("contact", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_contact_person_id"), ["person_id"], unique=False)

    op.create_table(
        "credential",
        sa.Column("public_key", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=200), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_credential_device_id")),
        sa.PrimaryKeyConstraint("public_key", name=op.f("pk_credential")),
    )
    with op.batch_alter_table("credential", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credential_device_id"), ["device_id"], unique=False)

    op.create_table(
        "duty_override",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("rotation_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("from_at < until_at", name=op.f("ck_duty_override_period")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_duty_override_person_id")),
        sa.ForeignKeyConstraint(["rotation_id"], ["rotation.id"], name=op.f("fk_duty_override_rotation_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duty_override")),
    )
    with op.batch_alter_table("duty_override", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_duty_override_rotation_id"), ["rotation_id"], unique=False)

    op.create_table(
        "firmware_seen",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("firmware", sa.String(length=120), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_firmware_seen_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_firmware_seen")),
    )
    with op.batch_alter_table("firmware_seen", schema=None) as batch_op:
        batch_op.create_index("ix_firmware_seen_device", ["device_id", "from_at"], unique=False)

    op.create_table(
        "heard_late",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("to_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_heard_late_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_heard_late")),
    )
    with op.batch_alter_table("heard_late", schema=None) as batch_op:
        batch_op.create_index("ix_heard_late_device", ["device_id", "from_at"], unique=False)

    op.create_table(
        "login_link",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("after", sa.String(length=8), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_login_link_person_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_login_link")),
    )
    op.create_table(
        "maintenance_due",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("plan", sa.String(length=40), nullable=False),
        sa.Column("title_en", sa.String(length=120), nullable=False),
        sa.Column("title_zh", sa.String(length=120), nullable=False),
        sa.Column("cycle_at", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("soon_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("certain_at", sa.BigInteger(), nullable=False),
        sa.Column("overdue_at", sa.BigInteger(), nullable=False),
        sa.Column("trigger", sa.String(length=12), nullable=False),
        sa.Column("sure", sa.String(length=16), nullable=False),
        sa.Column("left_h", sa.Float(), nullable=True),
        sa.Column("left_starts", sa.BigInteger(), nullable=True),
        sa.Column("use_h_per_day", sa.Float(), nullable=True),
        sa.Column("meter_h", sa.Float(), nullable=True),
        sa.Column("look_at", sa.BigInteger(), nullable=False),
        sa.Column("computed_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "trigger IN ('calendar', 'hours', 'starts', 'condition')", name=op.f("ck_maintenance_due_trigger")
        ),
        sa.CheckConstraint(
            "soon_at <= certain_at AND due_at <= certain_at AND certain_at <= overdue_at",
            name=op.f("ck_maintenance_due_order"),
        ),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_maintenance_due_device_id")),
        sa.PrimaryKeyConstraint("device_id", "plan", name=op.f("pk_maintenance_due")),
    )
    with op.batch_alter_table("maintenance_due", schema=None) as batch_op:
        batch_op.create_index(
            "ix_maintenance_due_condition",
            ["device_id"],
            unique=False,
            sqlite_where=sa.text("trigger = 'condition'"),
            postgresql_where=sa.text("trigger = 'condition'"),
        )
        batch_op.create_index("ix_maintenance_due_due", ["due_at", "device_id", "plan"], unique=False)
        batch_op.create_index("ix_maintenance_due_look", ["look_at"], unique=False)
        batch_op.create_index("ix_maintenance_due_overdue", ["overdue_at", "device_id", "plan"], unique=False)

    op.create_table(
        "maintenance_window",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=True),
        sa.Column("site_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("what", sa.String(length=12), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=200), nullable=False),
        sa.Column("declared_by", sa.String(length=80), nullable=False),
        sa.Column("declared_at", sa.BigInteger(), nullable=False),
        sa.Column("cancelled_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("what IN ('maintenance', 'transport')", name=op.f("ck_maintenance_window_what")),
        sa.CheckConstraint("(device_id IS NULL) <> (site_id IS NULL)", name=op.f("ck_maintenance_window_one_place")),
        sa.CheckConstraint("starts_at < ends_at", name=op.f("ck_maintenance_window_period")),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_maintenance_window_device_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_maintenance_window_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance_window")),
    )
    with op.batch_alter_table("maintenance_window", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_maintenance_window_device_id"), ["device_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_maintenance_window_site_id"), ["site_id"], unique=False)

    op.create_table(
        "meter_asked",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_meter_asked_device_id")),
        sa.PrimaryKeyConstraint("device_id", name=op.f("pk_meter_asked")),
    )
    op.create_table(
        "meter_reading",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("hours", sa.Float(), nullable=False),
        sa.Column("total_h", sa.Float(), nullable=False),
        sa.Column("starts", sa.BigInteger(), nullable=True),
        sa.Column("source", sa.String(length=12), nullable=False),
        sa.Column("replaced", sa.Boolean(), nullable=False),
        sa.Column("doubt", sa.String(length=8), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("doubt IN ('', 'back', 'fast')", name=op.f("ck_meter_reading_doubt")),
        sa.CheckConstraint("source IN ('telemetry', 'manual')", name=op.f("ck_meter_reading_source")),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_meter_reading_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meter_reading")),
        sa.UniqueConstraint("device_id", "at", name=op.f("uq_meter_reading_device_id_at")),
    )
    with op.batch_alter_table("meter_reading", schema=None) as batch_op:
        batch_op.create_index("ix_meter_reading_at", ["at"], unique=False)

    op.create_table(
        "parked",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("boot", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("late", sa.Boolean(), nullable=False),
        sa.Column("what", sa.String(length=8), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_parked_device_id")),
        sa.PrimaryKeyConstraint("device_id", "generation", "boot", "seq", name=op.f("pk_parked")),
    )
    op.create_table(
        "password",
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("hash", sa.String(length=200), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_password_person_id")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_password")),
    )
    op.create_table(
        "recovery_code",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_recovery_code_person_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_recovery_code")),
    )
    with op.batch_alter_table("recovery_code", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_recovery_code_person_id"), ["person_id"], unique=False)

    op.create_table(
        "rental",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("contract_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("replaces_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=True),
        sa.Column("handed_over_at", sa.BigInteger(), nullable=True),
        sa.Column("returned_at", sa.BigInteger(), nullable=True),
        sa.Column("taken_over", sa.Boolean(), nullable=False),
        sa.CheckConstraint("ends_at IS NULL OR ends_at >= starts_at", name=op.f("ck_rental_period")),
        sa.ForeignKeyConstraint(["contract_id"], ["contract.id"], name=op.f("fk_rental_contract_id")),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_rental_customer_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_rental_device_id")),
        sa.ForeignKeyConstraint(["replaces_id"], ["rental.id"], name=op.f("fk_rental_replaces_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rental")),
    )
    with op.batch_alter_table("rental", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_rental_contract_id"), ["contract_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_rental_customer_id"), ["customer_id"], unique=False)
        batch_op.create_index("ix_rental_device", ["device_id", "starts_at"], unique=False)
        batch_op.create_index(
            "ix_rental_replaces",
            ["replaces_id"],
            unique=False,
            sqlite_where=sa.text("replaces_id IS NOT NULL"),
            postgresql_where=sa.text("replaces_id IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_rental_running",
            ["device_id"],
            unique=True,
            sqlite_where=sa.text("ends_at IS NULL"),
            postgresql_where=sa.text("ends_at IS NULL"),
        )

    op.create_table(
        "reply",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("command_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_reply_device_id")),
        sa.PrimaryKeyConstraint("device_id", "command_id", name=op.f("pk_reply")),
    )
    op.create_table(
        "second_factor",
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=True),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_second_factor_person_id")),
        sa.PrimaryKeyConstraint("person_id", name=op.f("pk_second_factor")),
    )
    op.create_table(
        "seen",
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("boot", sa.BigInteger(), nullable=False),
        sa.Column("next_seq", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("gaps", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_seen_device_id")),
        sa.PrimaryKeyConstraint("device_id", "generation", "boot", name=op.f("pk_seen")),
    )
    op.create_table(
        "session",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("began_by", sa.String(length=8), nullable=False),
        sa.Column("device", sa.String(length=60), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("began_by IN ('link', 'password')", name=op.f("ck_session_began_by")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_session_person_id")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_session")),
    )
    with op.batch_alter_table("session", schema=None) as batch_op:
        batch_op.create_index("ix_session_person", ["person_id"], unique=False)

    op.create_table(
        "stay",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("site_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_stay_device_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_stay_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stay")),
    )
    with op.batch_alter_table("stay", schema=None) as batch_op:
        batch_op.create_index("ix_stay_device", ["device_id", "from_at"], unique=False)

    op.create_table(
        "work_order",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("plan", sa.String(length=40), nullable=False),
        sa.Column("cycle_at", sa.BigInteger(), nullable=True),
        sa.Column("title_en", sa.String(length=120), nullable=False),
        sa.Column("title_zh", sa.String(length=120), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_by", sa.String(length=80), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("assignee_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("checklist", sa.JSON(), nullable=False),
        sa.Column("results", sa.JSON(), nullable=False),
        sa.Column("parts", sa.JSON(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("done_by", sa.String(length=80), nullable=False),
        sa.Column("meter_hours", sa.Float(), nullable=True),
        sa.Column("from_at", sa.BigInteger(), nullable=True),
        sa.Column("from_h", sa.Float(), nullable=True),
        sa.Column("from_starts", sa.BigInteger(), nullable=True),
        sa.Column("draw_id", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(status = 'done') = (done_at IS NOT NULL)", name=op.f("ck_work_order_done_at")),
        sa.CheckConstraint("kind IN ('maintenance', 'spot_check')", name=op.f("ck_work_order_kind")),
        sa.CheckConstraint("status IN ('open', 'done', 'cancelled')", name=op.f("ck_work_order_status")),
        sa.ForeignKeyConstraint(["assignee_id"], ["person.id"], name=op.f("fk_work_order_assignee_id")),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_work_order_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work_order")),
    )
    with op.batch_alter_table("work_order", schema=None) as batch_op:
        batch_op.create_index("ix_work_order_assignee", ["assignee_id"], unique=False)
        batch_op.create_index("ix_work_order_device", ["device_id", "id"], unique=False)
        batch_op.create_index("ix_work_order_draw", ["draw_id"], unique=False)
        batch_op.create_index(
            "ix_work_order_open",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("status = 'open'"),
            postgresql_where=sa.text("status = 'open'"),
        )
        batch_op.create_index(
            "uq_work_order_cycle",
            ["device_id", "plan", "cycle_at"],
            unique=True,
            sqlite_where=sa.text("cycle_at IS NOT NULL"),
            postgresql_where=sa.text("cycle_at IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_work_order_open",
            ["device_id", "plan"],
            unique=True,
            sqlite_where=sa.text("plan <> '' AND status = 'open'"),
            postgresql_where=sa.text("plan <> '' AND status = 'open'"),
        )

    op.create_table(
        "working_hours",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("weekday", sa.Integer(), nullable=False),
        sa.Column("from_minute", sa.Integer(), nullable=False),
        sa.Column("until_minute", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "from_minute BETWEEN 0 AND 1439 AND until_minute BETWEEN 0 AND 1440 AND from_minute <> until_minute",
            name=op.f("ck_working_hours_hours"),
        ),
        sa.CheckConstraint("weekday BETWEEN 0 AND 6", name=op.f("ck_working_hours_weekday")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_working_hours_person_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_working_hours")),
    )
    with op.batch_alter_table("working_hours", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_working_hours_person_id"), ["person_id"], unique=False)

    op.create_table(
        "inspection",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("rental_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("checklist_version", sa.String(length=40), nullable=False),
        sa.Column("items", sa.JSON(), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("inspector_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("signature", sa.String(length=200), nullable=False),
        sa.Column("signed_at", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("voided_at", sa.BigInteger(), nullable=True),
        sa.Column("voided_by", sa.String(length=80), nullable=False),
        sa.Column("void_reason", sa.String(length=500), nullable=False),
        sa.CheckConstraint("(voided_at IS NULL) = (void_reason = '')", name=op.f("ck_inspection_voided_with_reason")),
        sa.CheckConstraint("kind IN ('hand_over', 'return', 'spot_check')", name=op.f("ck_inspection_kind")),
        sa.CheckConstraint("at <= recorded_at AND signed_at <= recorded_at", name=op.f("ck_inspection_recorded_after")),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_inspection_device_id")),
        sa.ForeignKeyConstraint(["inspector_id"], ["person.id"], name=op.f("fk_inspection_inspector_id")),
        sa.ForeignKeyConstraint(["rental_id"], ["rental.id"], name=op.f("fk_inspection_rental_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inspection")),
    )
    with op.batch_alter_table("inspection", schema=None) as batch_op:
        batch_op.create_index("ix_inspection_device", ["device_id", "at"], unique=False)
        batch_op.create_index(batch_op.f("ix_inspection_rental_id"), ["rental_id"], unique=False)

    op.create_table(
        "ticket",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=True),
        sa.Column("site_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("rental_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=12), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("technician_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("origin", sa.String(length=12), nullable=False),
        sa.Column("reported_by", sa.String(length=200), nullable=False),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True),
        sa.Column("resolved_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("resumes_to", sa.String(length=12), nullable=True),
        sa.Column("resolution_cause", sa.String(length=40), nullable=True),
        sa.Column("resolution_action", sa.String(length=40), nullable=True),
        sa.Column("borne_by", sa.String(length=40), nullable=True),
        sa.Column("parts", sa.JSON(), nullable=True),
        sa.Column("outcome", sa.String(length=12), nullable=True),
        sa.Column("visit_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("merged_into", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("recurrences", sa.Integer(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("standard_version", sa.String(length=40), nullable=False),
        sa.CheckConstraint("(status = 'waiting') = (resumes_to IS NOT NULL)", name=op.f("ck_ticket_waiting_resumes")),
        sa.CheckConstraint(
            "origin IN ('detected', 'phone', 'customer', 'label', 'office')", name=op.f("ck_ticket_origin")
        ),
        sa.CheckConstraint("outcome IN ('real', 'nuisance', 'wrong_cause')", name=op.f("ck_ticket_outcome")),
        sa.CheckConstraint("severity IN ('emergency', 'urgent', 'routine', 'note')", name=op.f("ck_ticket_severity")),
        sa.CheckConstraint(
            "status IN ('open', 'verified', 'dispatched', 'accepted', 'on_the_way', 'on_site', 'repairing', 'resolved', 'closed', 'cancelled', 'waiting')",
            name=op.f("ck_ticket_status"),
        ),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_ticket_device_id")),
        sa.ForeignKeyConstraint(["merged_into"], ["ticket.id"], name=op.f("fk_ticket_merged_into")),
        sa.ForeignKeyConstraint(["rental_id"], ["rental.id"], name=op.f("fk_ticket_rental_id")),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_ticket_site_id")),
        sa.ForeignKeyConstraint(["technician_id"], ["person.id"], name=op.f("fk_ticket_technician_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket")),
    )
    with op.batch_alter_table("ticket", schema=None) as batch_op:
        batch_op.create_index("ix_ticket_device", ["device_id", "opened_at"], unique=False)
        batch_op.create_index(
            "ix_ticket_due",
            ["due_at"],
            unique=False,
            sqlite_where=sa.text("due_at IS NOT NULL"),
            postgresql_where=sa.text("due_at IS NOT NULL"),
        )
        batch_op.create_index("ix_ticket_opened", ["opened_at"], unique=False)
        batch_op.create_index(
            "ix_ticket_reopened",
            ["id"],
            unique=False,
            sqlite_where=sa.text("turn > 0"),
            postgresql_where=sa.text("turn > 0"),
        )
        batch_op.create_index(
            "ix_ticket_repair",
            ["kind", "subject", "resolved_at"],
            unique=False,
            sqlite_where=sa.text("outcome = 'real'"),
            postgresql_where=sa.text("outcome = 'real'"),
        )
        batch_op.create_index(
            "ix_ticket_resolved",
            ["resolved_at"],
            unique=False,
            sqlite_where=sa.text("resolved_at IS NOT NULL"),
            postgresql_where=sa.text("resolved_at IS NOT NULL"),
        )
        batch_op.create_index("ix_ticket_status", ["status", "id"], unique=False)
        batch_op.create_index("ix_ticket_technician", ["technician_id", "status"], unique=False)
        batch_op.create_index(
            "ix_ticket_unended",
            ["due_at", "severity"],
            unique=False,
            sqlite_where=sa.text("status NOT IN ('closed', 'cancelled')"),
            postgresql_where=sa.text("status NOT IN ('closed', 'cancelled')"),
        )
        batch_op.create_index(
            "ix_ticket_unhired",
            ["id"],
            unique=False,
            sqlite_where=sa.text(
                "rental_id IS NULL AND device_id IS NOT NULL AND status NOT IN ('resolved', 'closed', 'cancelled')"
            ),
            postgresql_where=sa.text(
                "rental_id IS NULL AND device_id IS NOT NULL AND status NOT IN ('resolved', 'closed', 'cancelled')"
            ),
        )
        batch_op.create_index(
            "uq_ticket_open",
            ["device_id", "kind", "subject"],
            unique=True,
            sqlite_where=sa.text("status NOT IN ('resolved', 'closed', 'cancelled')"),
            postgresql_where=sa.text("status NOT IN ('resolved', 'closed', 'cancelled')"),
        )
        batch_op.create_index(
            "uq_ticket_open_site",
            ["site_id", "kind", "subject"],
            unique=True,
            sqlite_where=sa.text("device_id IS NULL AND status NOT IN ('resolved', 'closed', 'cancelled')"),
            postgresql_where=sa.text("device_id IS NULL AND status NOT IN ('resolved', 'closed', 'cancelled')"),
        )

    op.create_table(
        "amendment",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("standard_id", sa.String(length=8), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("breached_at", sa.BigInteger(), nullable=False),
        sa.Column("met_at", sa.BigInteger(), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_amendment_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_amendment")),
    )
    with op.batch_alter_table("amendment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_amendment_ticket_id"), ["ticket_id"], unique=False)

    op.create_table(
        "command",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("command", sa.String(length=24), nullable=False),
        sa.Column("args", sa.JSON(), nullable=False),
        sa.Column("asked_by", sa.String(length=80), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("next_send_at", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("ok", sa.Boolean(), nullable=True),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("given_up_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.String(length=24), nullable=False),
        sa.CheckConstraint("(answered_at IS NULL) = (ok IS NULL)", name=op.f("ck_command_answered_with")),
        sa.CheckConstraint(
            "(next_send_at IS NULL) = (answered_at IS NOT NULL OR given_up_at IS NOT NULL)",
            name=op.f("ck_command_waits_until_ended"),
        ),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_command_device_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_command_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command")),
    )
    with op.batch_alter_table("command", schema=None) as batch_op:
        batch_op.create_index("ix_command_device", ["device_id", "asked_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_command_ticket_id"), ["ticket_id"], unique=False)
        batch_op.create_index(
            "ix_command_waiting",
            ["next_send_at"],
            unique=False,
            sqlite_where=sa.text("next_send_at IS NOT NULL"),
            postgresql_where=sa.text("next_send_at IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_command_of_device",
            ["device_id", "command"],
            unique=True,
            sqlite_where=sa.text("ticket_id IS NULL AND next_send_at IS NOT NULL"),
            postgresql_where=sa.text("ticket_id IS NULL AND next_send_at IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_command_of_ticket",
            ["ticket_id", "command"],
            unique=True,
            sqlite_where=sa.text("next_send_at IS NOT NULL"),
            postgresql_where=sa.text("next_send_at IS NOT NULL"),
        )

    op.create_table(
        "commitment",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("standard_id", sa.String(length=8), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("warn_before_s", sa.Float(), nullable=False),
        sa.Column("warned_at", sa.BigInteger(), nullable=True),
        sa.Column("met_at", sa.BigInteger(), nullable=True),
        sa.Column("breached_at", sa.BigInteger(), nullable=True),
        sa.Column("voided_at", sa.BigInteger(), nullable=True),
        sa.Column("stop", sa.String(length=24), nullable=False),
        sa.Column("length_s", sa.Float(), nullable=True),
        sa.Column("length_days", sa.Integer(), nullable=True),
        sa.Column("calendar", sa.String(length=12), nullable=False),
        sa.Column("timezone", sa.String(length=64), nullable=False),
        sa.Column("warns", sa.JSON(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("paused_since", sa.BigInteger(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("foreseen_at", sa.BigInteger(), nullable=False),
        sa.Column("feared_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("breached_at IS NULL OR breached_at = due_at", name=op.f("ck_commitment_breached_when_due")),
        sa.CheckConstraint("met_at IS NULL OR voided_at IS NULL", name=op.f("ck_commitment_one_stop")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_commitment_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint("ticket_id", "kind", "turn", name=op.f("uq_commitment_ticket_id_kind_turn")),
    )
    with op.batch_alter_table("commitment", schema=None) as batch_op:
        batch_op.create_index(
            "ix_commitment_foreseen",
            ["foreseen_at"],
            unique=False,
            sqlite_where=sa.text(
                "met_at IS NULL AND voided_at IS NULL AND paused_since IS NULL AND breached_at IS NULL AND feared_at IS NULL"
            ),
            postgresql_where=sa.text(
                "met_at IS NULL AND voided_at IS NULL AND paused_since IS NULL AND breached_at IS NULL AND feared_at IS NULL"
            ),
        )
        batch_op.create_index(
            "ix_commitment_next",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text("next_at IS NOT NULL"),
            postgresql_where=sa.text("next_at IS NOT NULL"),
        )
        batch_op.create_index("ix_commitment_started", ["started_at"], unique=False)

    op.create_table(
        "fault",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("severity", sa.String(length=12), nullable=False),
        sa.Column("held_severity", sa.String(length=12), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=True),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("cleared_at", sa.BigInteger(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.CheckConstraint(
            "ticket_id IS NULL OR (held_until IS NULL AND held_severity IS NULL)",
            name=op.f("ck_fault_held_has_no_ticket"),
        ),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_fault_device_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_fault_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fault")),
    )
    with op.batch_alter_table("fault", schema=None) as batch_op:
        batch_op.create_index("ix_fault_cleared", ["cleared_at"], unique=False)
        batch_op.create_index("ix_fault_device", ["device_id", "opened_at"], unique=False)
        batch_op.create_index(
            "ix_fault_held",
            ["held_until"],
            unique=False,
            sqlite_where=sa.text("held_until IS NOT NULL AND cleared_at IS NULL"),
            postgresql_where=sa.text("held_until IS NOT NULL AND cleared_at IS NULL"),
        )
        batch_op.create_index(
            "ix_fault_standing",
            ["ticket_id"],
            unique=False,
            sqlite_where=sa.text("cleared_at IS NULL"),
            postgresql_where=sa.text("cleared_at IS NULL"),
        )
        batch_op.create_index("ix_fault_ticket", ["ticket_id", "device_id"], unique=False)
        batch_op.create_index(
            "uq_fault_open",
            ["device_id", "kind", "subject"],
            unique=True,
            sqlite_where=sa.text("cleared_at IS NULL"),
            postgresql_where=sa.text("cleared_at IS NULL"),
        )

    op.create_table(
        "hand_over",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("rental_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("inspection_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("command_id", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("gate", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["inspection_id"], ["inspection.id"], name=op.f("fk_hand_over_inspection_id")),
        sa.ForeignKeyConstraint(["rental_id"], ["rental.id"], name=op.f("fk_hand_over_rental_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hand_over")),
        sa.UniqueConstraint("rental_id", name=op.f("uq_hand_over_rental_id")),
    )
    with op.batch_alter_table("hand_over", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_hand_over_inspection_id"), ["inspection_id"], unique=False)

    op.create_table(
        "move",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("what", sa.String(length=20), nullable=False),
        sa.Column("who", sa.String(length=12), nullable=True),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=True),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("declined_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_move_person_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_move_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_move")),
        sa.UniqueConstraint(
            "ticket_id",
            "round",
            "level",
            "what",
            "person_id",
            name=op.f("uq_move_ticket_id_round_level_what_person_id"),
        ),
    )
    with op.batch_alter_table("move", schema=None) as batch_op:
        batch_op.create_index("ix_move_person", ["person_id", "ticket_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_move_ticket_id"), ["ticket_id"], unique=False)
        batch_op.create_index(
            "uq_move_of_nobody",
            ["ticket_id", "round", "level", "what"],
            unique=True,
            sqlite_where=sa.text("person_id IS NULL"),
            postgresql_where=sa.text("person_id IS NULL"),
        )

    op.create_table(
        "notice",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("cause", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=24), nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("severity", sa.String(length=12), nullable=False),
        sa.Column("person_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("contact_id", sa.BigInteger(), nullable=True),
        sa.Column("tried", sa.JSON(), nullable=False),
        sa.Column("how", sa.String(length=12), nullable=False),
        sa.Column("deliver_at", sa.BigInteger(), nullable=True),
        sa.Column("gathered_in", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("recipient", sa.String(length=400), nullable=False),
        sa.Column("lang", sa.String(length=8), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("claimed_until", sa.BigInteger(), nullable=True),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.CheckConstraint("status IN ('queued', 'sent', 'failed', 'withdrawn')", name=op.f("ck_notice_status")),
        sa.CheckConstraint("gathered_in <> id", name=op.f("ck_notice_not_in_itself")),
        sa.ForeignKeyConstraint(["gathered_in"], ["notice.id"], name=op.f("fk_notice_gathered_in")),
        sa.ForeignKeyConstraint(["person_id"], ["person.id"], name=op.f("fk_notice_person_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_notice_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sa.UniqueConstraint("cause", name=op.f("uq_notice_cause")),
    )
    with op.batch_alter_table("notice", schema=None) as batch_op:
        batch_op.create_index(
            "ix_notice_due",
            ["next_try_at"],
            unique=False,
            sqlite_where=sa.text("status = 'queued'"),
            postgresql_where=sa.text("status = 'queued'"),
        )
        batch_op.create_index(batch_op.f("ix_notice_gathered_in"), ["gathered_in"], unique=False)
        batch_op.create_index("ix_notice_person", ["person_id", "deliver_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_notice_ticket_id"), ["ticket_id"], unique=False)

    op.create_table(
        "paging",
        sa.Column(
            "ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False
        ),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=12), nullable=False),
        sa.Column("since_at", sa.BigInteger(), nullable=False),
        sa.Column("named_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("phase IN ('seeking', 'accepted', 'on_the_way', 'stopped')", name=op.f("ck_paging_phase")),
        sa.ForeignKeyConstraint(["named_id"], ["person.id"], name=op.f("fk_paging_named_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_paging_ticket_id")),
        sa.PrimaryKeyConstraint("ticket_id", name=op.f("pk_paging")),
    )
    with op.batch_alter_table("paging", schema=None) as batch_op:
        batch_op.create_index(
            "ix_paging_next",
            ["next_at"],
            unique=False,
            sqlite_where=sa.text("next_at IS NOT NULL"),
            postgresql_where=sa.text("next_at IS NOT NULL"),
        )

    op.create_table(
        "pause",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("stops_clocks", sa.Boolean(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=True),
        sa.Column("to_at", sa.BigInteger(), nullable=True),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("to_at IS NULL OR to_at >= from_at", name=op.f("ck_pause_period")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_pause_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pause")),
    )
    with op.batch_alter_table("pause", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_pause_ticket_id"), ["ticket_id"], unique=False)
        batch_op.create_index(
            "ix_pause_until",
            ["until_at"],
            unique=False,
            sqlite_where=sa.text("to_at IS NULL"),
            postgresql_where=sa.text("to_at IS NULL"),
        )
        batch_op.create_index(
            "uq_pause_open",
            ["ticket_id"],
            unique=True,
            sqlite_where=sa.text("to_at IS NULL"),
            postgresql_where=sa.text("to_at IS NULL"),
        )

    op.create_table(
        "satisfaction",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Integer(), nullable=True),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("replaced_at", sa.BigInteger(), nullable=True),
        sa.Column("lang", sa.String(length=8), nullable=False),
        sa.CheckConstraint("(score IS NULL) = (answered_at IS NULL)", name=op.f("ck_satisfaction_answered")),
        sa.CheckConstraint("score IN (0, 1)", name=op.f("ck_satisfaction_score")),
        sa.ForeignKeyConstraint(["customer_id"], ["customer.id"], name=op.f("fk_satisfaction_customer_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_satisfaction_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_satisfaction")),
    )
    with op.batch_alter_table("satisfaction", schema=None) as batch_op:
        batch_op.create_index("ix_satisfaction_asked", ["asked_at"], unique=False)
        batch_op.create_index("ix_satisfaction_customer", ["customer_id", "asked_at"], unique=False)
        batch_op.create_index(
            "uq_satisfaction_standing",
            ["ticket_id", "customer_id"],
            unique=True,
            sqlite_where=sa.text("replaced_at IS NULL"),
            postgresql_where=sa.text("replaced_at IS NULL"),
        )

    op.create_table(
        "step",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("event", sa.String(length=24), nullable=False),
        sa.Column("from_status", sa.String(length=12), nullable=False),
        sa.Column("to_status", sa.String(length=12), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("technician_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=40), nullable=False),
        sa.Column("other_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("happened_at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("corrected_by", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["corrected_by"], ["step.id"], name=op.f("fk_step_corrected_by")),
        sa.ForeignKeyConstraint(["other_id"], ["ticket.id"], name=op.f("fk_step_other_id")),
        sa.ForeignKeyConstraint(["technician_id"], ["person.id"], name=op.f("fk_step_technician_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_step_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_step")),
    )
    with op.batch_alter_table("step", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_step_ticket_id"), ["ticket_id"], unique=False)

    op.create_table(
        "ticket_link",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("other_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.CheckConstraint("kind IN ('related', 'returned', 'merged')", name=op.f("ck_ticket_link_kind")),
        sa.CheckConstraint("ticket_id <> other_id", name=op.f("ck_ticket_link_two")),
        sa.ForeignKeyConstraint(["other_id"], ["ticket.id"], name=op.f("fk_ticket_link_other_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_ticket_link_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ticket_link")),
        sa.UniqueConstraint("ticket_id", "other_id", name=op.f("uq_ticket_link_ticket_id_other_id")),
    )
    with op.batch_alter_table("ticket_link", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ticket_link_other_id"), ["other_id"], unique=False)

    op.create_table(
        "evidence_copy",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("ticket_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("fault_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("device_id", sa.String(length=64), nullable=False),
        sa.Column("phase", sa.String(length=12), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("full_from", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=12), nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=True),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("(status = 'made') = (body IS NOT NULL)", name=op.f("ck_evidence_copy_made_has_body")),
        sa.CheckConstraint("phase IN ('opening', 'after', 'course', 'clearing')", name=op.f("ck_evidence_copy_phase")),
        sa.CheckConstraint("status IN ('due', 'made', 'given_up')", name=op.f("ck_evidence_copy_status")),
        sa.ForeignKeyConstraint(["device_id"], ["device.device_id"], name=op.f("fk_evidence_copy_device_id")),
        sa.ForeignKeyConstraint(["fault_id"], ["fault.id"], name=op.f("fk_evidence_copy_fault_id")),
        sa.ForeignKeyConstraint(["ticket_id"], ["ticket.id"], name=op.f("fk_evidence_copy_ticket_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_evidence_copy")),
        sa.UniqueConstraint("fault_id", "phase", "number", name=op.f("uq_evidence_copy_fault_id_phase_number")),
    )
    with op.batch_alter_table("evidence_copy", schema=None) as batch_op:
        batch_op.create_index(
            "ix_evidence_copy_due",
            ["next_try_at"],
            unique=False,
            sqlite_where=sa.text("status = 'due'"),
            postgresql_where=sa.text("status = 'due'"),
        )
        batch_op.create_index(batch_op.f("ix_evidence_copy_ticket_id"), ["ticket_id"], unique=False)

    _append_only()
    _ledger_follows()
    _inspections_stay()
    _one_rental_at_a_time()
    _changes_in_order()


def _append_only() -> None:
    """The audit can be added to and read, nothing else (security: append-only audit)."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'audit is append-only'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE ON audit "
            "FOR EACH ROW EXECUTE FUNCTION audit_is_append_only()"
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_kept_{change.lower()} BEFORE {change} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'audit is append-only'); END"
        )


SIGNED = "kind, device_id, rental_id, checklist_version, items, passed, inspector_id, signed_at, at, recorded_at, note"
"""What of an inspection nobody changes any more. The signature goes when the person is erased."""


def _inspections_stay() -> None:
    """What was signed stays as it was signed: an inspection can be voided once, nothing else."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION inspection_is_signed() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'an inspection is signed'; END $$"
        )
        op.execute(
            f"CREATE TRIGGER inspection_kept BEFORE DELETE OR UPDATE OF {SIGNED} ON inspection "
            "FOR EACH ROW EXECUTE FUNCTION inspection_is_signed()"
        )
        op.execute(
            "CREATE TRIGGER inspection_void BEFORE UPDATE OF voided_at, voided_by, void_reason ON inspection "
            "FOR EACH ROW WHEN (OLD.voided_at IS NOT NULL) EXECUTE FUNCTION inspection_is_signed()"
        )
        return
    refuse = "BEGIN SELECT RAISE(ABORT, 'an inspection is signed'); END"
    op.execute(f"CREATE TRIGGER inspection_kept BEFORE UPDATE OF {SIGNED} ON inspection {refuse}")
    op.execute(f"CREATE TRIGGER inspection_kept_delete BEFORE DELETE ON inspection {refuse}")
    op.execute(
        "CREATE TRIGGER inspection_void BEFORE UPDATE OF voided_at, voided_by, void_reason ON inspection "
        f"WHEN OLD.voided_at IS NOT NULL {refuse}"
    )


OVERLAPS = (
    "SELECT 1 FROM rental r WHERE r.device_id = NEW.device_id AND r.id <> NEW.id "
    "AND (NEW.ends_at IS NULL OR r.starts_at < NEW.ends_at) AND (r.ends_at IS NULL OR r.ends_at > NEW.starts_at) "
    "AND (r.ends_at IS NULL OR r.ends_at > r.starts_at) AND (NEW.ends_at IS NULL OR NEW.ends_at > NEW.starts_at)"
)


def _one_rental_at_a_time() -> None:
    """A machine is on hire to one customer at a time; a rental that ended when it began covers no moment."""
    if op.get_bind().dialect.name == "postgresql":
        # Of two that are written at the same moment the second one waits, and then sees the first.
        op.execute(
            "CREATE FUNCTION one_rental_at_a_time() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM 1 FROM device WHERE device_id = NEW.device_id FOR NO KEY UPDATE; "
            f"IF EXISTS ({OVERLAPS}) THEN RAISE EXCEPTION 'two rentals of one machine' "
            "USING ERRCODE = 'exclusion_violation'; END IF; RETURN NEW; END $$"
        )
        op.execute(
            "CREATE TRIGGER rental_alone BEFORE INSERT OR UPDATE OF device_id, starts_at, ends_at ON rental "
            "FOR EACH ROW EXECUTE FUNCTION one_rental_at_a_time()"
        )
        return
    # Before it is inserted a row has no id yet.
    for when in ("AFTER INSERT", "AFTER UPDATE OF device_id, starts_at, ends_at"):
        op.execute(
            f"CREATE TRIGGER rental_alone_{when.split()[1].lower()} {when} ON rental WHEN EXISTS ({OVERLAPS}) "
            "BEGIN SELECT RAISE(ABORT, 'two rentals of one machine'); END"
        )


def _changes_in_order() -> None:
    """Number changes by their transaction first: then those of all that have ended are complete below the number of the
    oldest one that still runs, whichever was committed first. SQLite writes one transaction after the other."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "ALTER TABLE change ALTER COLUMN id SET DEFAULT "
            "(pg_current_xact_id()::text::bigint << 20) + (nextval('change_id_seq') & 1048575)"
        )


def _ledger_follows() -> None:
    """Whatever a machine's course in the fleet's ledger depends on marks it, as it changes."""
    into = "INSERT INTO ledger_due (device_id, due_at, mark)"
    due = "ON CONFLICT (device_id) DO UPDATE SET due_at = 0, mark = ledger_due.mark + 1"
    of_device = f"{into} VALUES (NEW.device_id, 0, 0) {due}"
    of_place = (
        f"{into} SELECT DISTINCT device_id, 0, 0 FROM stay "  # noqa: S608 (nobody says anything in it)
        f"WHERE device_id = NEW.device_id OR site_id = NEW.site_id {due}"
    )
    of_ticket = (
        f"{into} SELECT DISTINCT device_id, 0, 0 FROM fault "  # noqa: S608 (nobody says anything in it)
        f"WHERE ticket_id = NEW.id {due}"
    )
    for table, names, marks in (
        ("device", ("profile", "site_id", "added_at", "retired_at", "first_heard_at"), of_device),
        ("fault", ("severity", "occurred_at", "opened_at", "cleared_at", "ticket_id"), of_device),
        ("ticket", ("outcome", "closed_at"), of_ticket),
        ("rental", ("device_id", "customer_id", "starts_at", "ends_at"), of_device),
        ("maintenance_window", ("starts_at", "ends_at", "what", "cancelled_at"), of_place),
        ("stay", ("site_id", "from_at"), of_device),
        ("heard_late", ("from_at", "to_at"), of_device),
    ):
        changed = f"CREATE TRIGGER ledger_{table}_changed AFTER UPDATE OF {', '.join(names)} ON {table}"
        if op.get_bind().dialect.name == "postgresql":
            differs = " OR ".join(f"OLD.{name} IS DISTINCT FROM NEW.{name}" for name in names)
            op.execute(
                f"CREATE FUNCTION ledger_{table}() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN {marks}; RETURN NULL; END $$"
            )
            each = f"FOR EACH ROW EXECUTE FUNCTION ledger_{table}()"
            op.execute(f"CREATE TRIGGER ledger_{table}_new AFTER INSERT ON {table} {each}")
            op.execute(f"{changed} FOR EACH ROW WHEN ({differs}) EXECUTE FUNCTION ledger_{table}()")
        else:
            differs = " OR ".join(f"OLD.{name} IS NOT NEW.{name}" for name in names)
            op.execute(f"CREATE TRIGGER ledger_{table}_new AFTER INSERT ON {table} BEGIN {marks}; END")
            op.execute(f"{changed} WHEN {differs} BEGIN {marks}; END")


def downgrade() -> None:
    raise NotImplementedError("there is no schema before the first one")
