"""Fixtures of all tests. The environment variables keep every call away from a real AWS account."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

import tests.support.this_machine  # noqa: F401

os.environ.update(
    AWS_REGION="eu-central-1",
    AWS_DEFAULT_REGION="eu-central-1",
    POWERTOOLS_METRICS_NAMESPACE="ArcannaMetrics",
    POWERTOOLS_SERVICE_NAME="tests",
)

from arcanna_metrics.observability import logger  # reads the environment
from tests.support.doubles import Logs, Stack, a_stack

# A shell's background jobs, such as make test has, ignore Ctrl-C, and so would their children.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def stack() -> Iterator[Stack]:
    """The stack's AWS resources in moto, new and empty."""
    with a_stack() as stack:
        yield stack


@pytest.fixture
def logs() -> Iterator[Logs]:
    """What the functions log during the test."""
    logs = Logs()
    logger.addHandler(logs)
    yield logs
    logging.getLogger(logger.name).removeHandler(logs)
