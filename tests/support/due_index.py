"""The index of what is due, as doubles of DynamoDB show it."""

PROJECTED = ["since", "failing_since", "run_id", "requested_at", "attempts", "retry_at", "not_before"]
"""The attributes of an entry that the index has beside the keys."""
