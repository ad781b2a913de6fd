"""Unit tests do no I/O: sockets are closed."""

import boto3
import pytest
from hypothesis import HealthCheck, settings

from tests.support.doubles import Stack, session
from tests.unit.harness import Harness

# Shared machines run the tests, so the duration of an example means nothing. A test also passes if many of
# its random examples are filtered out, as long as enough are left.
settings.register_profile(
    "unit", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
settings.register_profile("quick", settings.get_profile("unit"), max_examples=10)
settings.load_profile("unit")


@pytest.fixture(autouse=True)
def _sockets_are_closed(socket_disabled: None) -> None:
    """Applies `socket_disabled` of pytest-socket to all tests."""


@pytest.fixture(autouse=True)
def _aws_sessions_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a session and its clients takes longer than most tests."""
    monkeypatch.setattr(boto3, "Session", session)


@pytest.fixture
def harness(stack: Stack) -> Harness:
    """The protocol on an empty stack."""
    return Harness(stack)
