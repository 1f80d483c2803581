"""The ledger: roles, sites, keys, events and their change feed."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0001_ledger"
down_revision = None

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    connection: Any = op.get_bind().connection.dbapi_connection
    for part in ("roles", "tables", "functions", "grants"):
        script = (_SQL / f"0001_{part}.sql").read_text(encoding="utf-8")
        # Straight to the driver: it takes several statements at once and reads no `:name` in them.
        connection.run_async(lambda driver, script=script: driver.execute(script))


def downgrade() -> None:
    raise RuntimeError("the first migration has no way back: drop the database instead")
