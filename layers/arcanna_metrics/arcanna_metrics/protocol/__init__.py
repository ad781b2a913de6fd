"""The ledger: its entries, every change of an entry, the decisions about it, and the slots."""
