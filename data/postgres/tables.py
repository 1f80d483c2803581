"""The ledger's tables as SQLAlchemy knows them; a test compares them with the migrations."""

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()
_text_c = Text(collation="C")
_instant = DateTime(timezone=True)


def _of_source() -> ForeignKey:
    return ForeignKey("sources.source_key", ondelete="CASCADE")


def _of_destination() -> ForeignKey:
    return ForeignKey("export_destinations.destination_id")


ledger = Table(
    "ledger",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default="true"),
    Column("ledger_id", Uuid, nullable=False),
    Column("created_at", _instant, nullable=False),
    Column("documents_version", BigInteger, nullable=False, server_default="0"),
)

sites = Table(
    "sites",
    metadata,
    Column("site_id", _text_c, primary_key=True),
    Column("name", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("week_start", Text, nullable=False),
    Column("origins", ARRAY(Text), nullable=False),
    Column("created_at", _instant, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", _text_c, primary_key=True),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("site_id", _text_c, ForeignKey("sites.site_id")),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", _instant, nullable=False),
    Column("expires_at", _instant),
    Column("revoked_at", _instant),
    Column("documents", Text, nullable=False, server_default="APQ"),
    Column("last_used_at", _instant),
)

trusted_documents = Table(
    "trusted_documents",
    metadata,
    Column("document_id", _text_c, nullable=False),
    Column("site_id", _text_c, ForeignKey("sites.site_id")),
    Column("sha256", _text_c, nullable=False),
    Column("name", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("added_at", _instant, nullable=False),
    UniqueConstraint("document_id", "site_id", postgresql_nulls_not_distinct=True),
    Index("ix_trusted_documents_sha256", "sha256"),
)

event_ids = Table(
    "event_ids",
    metadata,
    Column("event_id", Uuid, primary_key=True),
    Column("site_id", _text_c, primary_key=True),
)

events = Table(
    "events",
    metadata,
    Column("batch_id", BigInteger, nullable=False),
    Column("ordinal", SmallInteger, nullable=False),
    Column("site_id", _text_c, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("occurred_at", _instant, nullable=False),
    Column("received_at", _instant, nullable=False),
    Column("user_id", Text),
    Column("visitor_id", Text),
    Column("session_id", Text),
    Column("url", Text),
    Column("path", Text),
    Column("referrer", Text),
    Column("properties", JSON),
    Index("ix_events_batch_id", "batch_id"),
    postgresql_partition_by="range (received_at)",
)

ingest_batches = Table(
    "ingest_batches",
    metadata,
    Column("position", BigInteger, primary_key=True),
    Column("batch_id", BigInteger, nullable=False, unique=True),
    Column("events", Integer, nullable=False),
    Column("committed_at", _instant, nullable=False),
)

rejected_events = Table(
    "rejected_events",
    metadata,
    Column("rejected_id", BigInteger, Identity(always=True), primary_key=True),
    Column("site_id", _text_c, nullable=False),
    Column("event_id", Uuid),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("payload_bytes", Integer, nullable=False),
    Column("received_at", _instant, nullable=False),
    Index("ix_rejected_events_event_id", "event_id", "site_id"),
)

visitor_salts = Table(
    "visitor_salts",
    metadata,
    Column("day", Date, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
)

actor_days = Table(
    "actor_days",
    metadata,
    Column("site_id", _text_c, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("actor", _text_c, primary_key=True),
)

daily_users_sites = Table(
    "daily_users_sites",
    metadata,
    Column("site_id", _text_c, primary_key=True),
    Column("timezone", Text, nullable=False),
    Column("refilled_to", BigInteger),
)

daily_users_state = Table(
    "daily_users_state",
    metadata,
    Column("only_row", Boolean, primary_key=True, server_default="true"),
    Column("position", BigInteger, nullable=False, server_default="0"),
    Column("through", _instant, nullable=False, server_default="to_timestamp(0)"),
    Column("refreshed_at", _instant),
    Column("refresh_seconds", Double, nullable=False, server_default="0"),
)

admin_log = Table(
    "admin_log",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("at", _instant, nullable=False),
    Column("actor_key_id", _text_c, nullable=False),
    Column("actor_name", Text, nullable=False),
    Column("site_id", _text_c),
    Column("action", _text_c, nullable=False),
    Column("target", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("previous_hash", _text_c, nullable=False),
    Column("hash", _text_c, nullable=False),
    Index("ix_admin_log_site_id", "site_id", "position"),
    Index("ix_admin_log_action", "action", "position"),
)

sources = Table(
    "sources",
    metadata,
    Column("source_key", _text_c, primary_key=True),
    Column("site_id", _text_c, ForeignKey("sites.site_id")),
    Column("definition", JSONB, nullable=False),
    Column("is_declared", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("created_at", _instant, nullable=False),
    Column("updated_at", _instant, nullable=False),
)

source_states = Table(
    "source_states",
    metadata,
    Column("source_key", _text_c, _of_source(), primary_key=True),
    Column("refresh_id", BigInteger, nullable=False, server_default="0"),
    Column("held_until", _instant),
    Column("held_by", Text),
    Column("started_at", _instant),
    Column("progress", JSONB),
    Column("next_attempt_at", _instant, nullable=False),
    Column("last_success_at", _instant),
    Column("last_failure_at", _instant),
    Column("last_complete_at", _instant),
    Column("records", BigInteger, nullable=False, server_default="0"),
    Column("breaker", Text, nullable=False, server_default="closed"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("opened_at", _instant),
    Column("validators", JSONB),
    Column("validators_version", BigInteger),
    Index("ix_source_states_next_attempt_at", "next_attempt_at"),
)

source_records = Table(
    "source_records",
    metadata,
    Column("record_id", BigInteger, Identity(always=True), primary_key=True),
    Column("source_key", _text_c, _of_source(), nullable=False),
    Column("external_id", _text_c, nullable=False),
    Column("data", JSON, nullable=False),
    Column("content_hash", LargeBinary, nullable=False),
    Column("first_seen_at", _instant, nullable=False),
    Column("seen_at", _instant, nullable=False),
    Column("changed_at", _instant, nullable=False),
    Column("vanished_at", _instant),
    UniqueConstraint("source_key", "external_id"),
    Index("ix_source_records_changed_at", "changed_at", "record_id"),
    Index("ix_source_records_source_key", "source_key", "changed_at", "record_id"),
)

source_changes = Table(
    "source_changes",
    metadata,
    Column("change_id", BigInteger, Identity(always=True), primary_key=True),
    Column(
        "record_id",
        BigInteger,
        ForeignKey("source_records.record_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("at", _instant, nullable=False),
    Column("kind", _text_c, nullable=False),
    Column("data", JSON),
    Index("ix_source_changes_record_id", "record_id", "change_id"),
    Index("ix_source_changes_at", "at"),
)

source_audits = Table(
    "source_audits",
    metadata,
    Column("audit_id", BigInteger, Identity(always=True), primary_key=True),
    Column("source_key", _text_c, _of_source(), nullable=False),
    Column("refresh_id", BigInteger, nullable=False),
    Column("started_at", _instant, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("pages", Integer, nullable=False),
    Column("outcome", _text_c, nullable=False),
    Column("http_status", Integer),
    Column("is_complete", Boolean, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("added", Integer, nullable=False),
    Column("changed", Integer, nullable=False),
    Column("vanished", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("error", Text),
    Index("ix_source_audits_source_key", "source_key", "audit_id"),
    Index("ix_source_audits_started_at", "started_at"),
    Index("ix_source_audits_troubled", "audit_id", postgresql_where=text("outcome <> 'SUCCESS'")),
)

export_destinations = Table(
    "export_destinations",
    metadata,
    Column("destination_id", Uuid, primary_key=True),
    Column("site_id", _text_c, ForeignKey("sites.site_id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("definition", JSONB, nullable=False),
    Column("places", JSONB, nullable=False),
    Column("client_secret", Text),
    Column("backup_secret", Text),
    Column("webhook_secret", Text),
    Column("hook_hash", LargeBinary, unique=True),
    Column("credentials_at", _instant),
    Column("webhook_secret_at", _instant),
    Column("hook_at", _instant),
    Column("planned_through", BigInteger, nullable=False, server_default="0"),
    Column("runs", BigInteger, nullable=False, server_default="0"),
    Column("next_run_at", _instant),
    Column("paused_at", _instant),
    Column("paused_reason", Text),
    Column("backup_paused_at", _instant),
    Column("backup_paused_reason", Text),
    Column("version", BigInteger, nullable=False, server_default="1"),
    Column("created_at", _instant, nullable=False),
    Column("updated_at", _instant, nullable=False),
    Column("deleted_at", _instant),
    Index("ix_export_destinations_site_id", "site_id"),
)

export_runs = Table(
    "export_runs",
    metadata,
    Column("run_id", Uuid, primary_key=True),
    Column("sequence", BigInteger, Identity(always=True), nullable=False, unique=True),
    Column("destination_id", Uuid, _of_destination(), nullable=False),
    Column("site_id", _text_c, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("trigger", _text_c, nullable=False),
    Column("after", BigInteger, nullable=False),
    Column("through", BigInteger, nullable=False),
    Column("since", _instant),
    Column("until", _instant),
    Column("layout", JSONB, nullable=False),
    Column("begun_at", _instant, nullable=False),
    Column("through_at", _instant),
    UniqueConstraint("destination_id", "number"),
    Index("ix_export_runs_destination_id", "destination_id", "sequence"),
    Index("ix_export_runs_site_id", "site_id", "sequence"),
)

export_targets = Table(
    "export_targets",
    metadata,
    Column("run_id", Uuid, ForeignKey("export_runs.run_id"), primary_key=True),
    Column("target", _text_c, primary_key=True),
    Column("destination_id", Uuid, _of_destination(), nullable=False),
    Column("place", JSONB, nullable=False),
    Column("status", _text_c, nullable=False, server_default="PENDING"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", _instant),
    Column("hold_id", BigInteger, nullable=False, server_default="0"),
    Column("held_until", _instant),
    Column("held_by", Text),
    Column("started_at", _instant),
    Column("finished_at", _instant),
    Column("reason", _text_c),
    Column("error", Text),
    Column("progress", JSONB),
    Column("manifest_name", Text),
    Column("events", BigInteger),
    Column("bytes", BigInteger),
    Column("files", Integer),
    Column("manifest", JSONB),
    Index(
        "ix_export_targets_open",
        "destination_id",
        "target",
        "status",
        postgresql_where=text("status <> 'SUCCEEDED'"),
    ),
)

export_notices = Table(
    "export_notices",
    metadata,
    Column("notice_id", Uuid, primary_key=True),
    Column(
        "destination_id",
        Uuid,
        ForeignKey("export_destinations.destination_id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("kind", _text_c, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", _instant, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", _instant),
    Column("hold_id", BigInteger, nullable=False, server_default="0"),
    Column("held_until", _instant),
    Column("http_status", Integer),
    Column("error", Text),
    Column("delivered_at", _instant),
    Column("given_up_at", _instant),
    Index(
        "ix_export_notices_next_attempt_at",
        "next_attempt_at",
        postgresql_where=text("next_attempt_at is not null"),
    ),
    Index("ix_export_notices_destination_id", "destination_id", "created_at"),
    Index("ix_export_notices_created_at", "created_at"),
)
