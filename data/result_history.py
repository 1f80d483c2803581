"""Whether shared results rest on the ledger as it is, or as it was before a backup was restored."""

from __future__ import annotations

from contextlib import suppress

from data.postgres.engine import Engine, LedgerUnavailable
from data.postgres.feed import feed_state
from data.results import Results


async def drop_unknown(results: Results, primary: Engine) -> None:
    """Drop all results if shared ones rest on a batch that the ledger does not have.

    A restored ledger gives positions once more, to other events. A copy that was there before
    notices; a new home has none. What other processes have dropped unheard is forgotten, too.
    """
    if results.shared is None or (newest := await results.shared.look()) is None:
        return
    position, batch_id = newest
    with suppress(LedgerUnavailable):
        known = (await feed_state(primary, position)).known
        if known is None or known.batch_id != batch_id:
            await results.drop(None)
