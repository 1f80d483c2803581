"""Adds destinations of exports, their runs, and what their owners are told of them."""

from pathlib import Path
from typing import Any

from alembic import op

revision = "0009_exports"
down_revision = "0008_append_events"

_SQL = Path(__file__).parents[1] / "sql"


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    connection: Any = op.get_bind().connection.dbapi_connection
    for name in ("0009_exports", "0009_export_notices"):
        script = (_SQL / f"{name}.sql").read_text(encoding="utf-8")
        # Straight to the driver, as the migrations before do.
        connection.run_async(lambda driver, script=script: driver.execute(script))


def downgrade() -> None:
    raise RuntimeError("restore a backup instead")
