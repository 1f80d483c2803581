"""When each key was last used."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0005_key_last_used"
down_revision = "0003_daily_active_users"

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    connection: Any = op.get_bind().connection.dbapi_connection
    script = (_SQL / "0005_key_last_used.sql").read_text(encoding="utf-8")
    # Straight to the driver: it takes several statements at once and reads no `:name` in them.
    connection.run_async(lambda driver: driver.execute(script))


def downgrade() -> None:
    raise RuntimeError("restore a backup instead")
