"""Does what is due: decides about an entry, then calls Arcanna, the workflow or the ledger."""
