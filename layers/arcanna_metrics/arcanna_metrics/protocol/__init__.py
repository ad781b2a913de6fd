"""Record, then reconcile: the ledger's entries, their transitions, and the decisions about them."""
