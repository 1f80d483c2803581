"""Adds sources, their records and the audits of their refreshes."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0007_sources"
down_revision = "0006_versions"

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    connection: Any = op.get_bind().connection.dbapi_connection
    script = (_SQL / "0007_sources.sql").read_text(encoding="utf-8")
    # Straight to the driver, as the migrations before do.
    connection.run_async(lambda driver: driver.execute(script))


def downgrade() -> None:
    raise RuntimeError("restore a backup instead")
