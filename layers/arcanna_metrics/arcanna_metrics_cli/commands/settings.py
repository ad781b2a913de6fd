"""`arcanna-metrics settings`."""
