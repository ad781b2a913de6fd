"""The Arcanna platform: its client, the API key, and the connection to it."""
