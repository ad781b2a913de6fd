"""Calls to AWS: limited in time, with the one error that callers handle."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from arcanna_metrics.errors import NO_WAY, AwsUnavailable

BOUNDED = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})
"""For every client. If a service cannot be reached or does not answer, a call fails after three tries of 3
seconds, and up to 3 seconds between them. Three such calls in a row take no more than the trigger's RESERVE.
With boto3's defaults, a single call would take longer than the function's time-out."""


@cache
def client(service: str) -> Any:
    """A client of the service. The caller gives it a type."""
    return boto3.client(service, config=BOUNDED)  # type: ignore[call-overload]  # of a service by its name


@contextmanager
def aws_call(what: str) -> Iterator[None]:
    """Turns any error of an AWS call into AwsUnavailable, which says what failed."""
    try:
        yield
    except (ConnectTimeoutError, EndpointConnectionError) as error:
        raise AwsUnavailable(f"could not {what}: {error}. {NO_WAY}") from error
    except (BotoCoreError, ClientError) as error:
        raise AwsUnavailable(f"could not {what}: {error}") from error
