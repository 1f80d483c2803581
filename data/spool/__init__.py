"""Events on local disk while the ledger is away: durable when acknowledged, drained in order."""
