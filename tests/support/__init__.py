"""What tests and tools stand on: the reference server, the local cloud, an installation, doubles."""
