"""Shared by tests and tools: the reference server, the local cloud, an installation, test doubles."""
