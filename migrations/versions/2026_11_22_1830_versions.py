"""Lets the service's own roles see which migrations are applied."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0006_versions"
down_revision = "0005_key_last_used"

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    connection: Any = op.get_bind().connection.dbapi_connection
    script = (_SQL / "0006_versions.sql").read_text(encoding="utf-8")
    # Straight to the driver, as the migrations before do.
    connection.run_async(lambda driver: driver.execute(script))


def downgrade() -> None:
    raise RuntimeError("restore a backup instead")
