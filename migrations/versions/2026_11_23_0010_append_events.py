"""Has the ledger take events by one statement, however many they are."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0008_append_events"
down_revision = "0007_sources"

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    connection: Any = op.get_bind().connection.dbapi_connection
    script = (_SQL / "0008_append_events.sql").read_text(encoding="utf-8")
    # Straight to the driver, as the migrations before do.
    connection.run_async(lambda driver: driver.execute(script))


def downgrade() -> None:
    raise RuntimeError("restore a backup instead")
