"""Unit tests do no I/O: sockets are closed."""

import pytest
from hypothesis import settings

# The machines that run this are shared: how long one example takes says nothing.
settings.register_profile("unit", deadline=None)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _sockets_are_closed(socket_disabled: None) -> None:
    """`socket_disabled` is pytest-socket's."""
