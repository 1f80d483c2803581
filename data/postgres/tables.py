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
)

metadata = MetaData()
_text_c = Text(collation="C")
_instant = DateTime(timezone=True)

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
