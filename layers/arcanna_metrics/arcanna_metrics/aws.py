"""How AWS is called: with bounds, and with the one failure that callers handle."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from arcanna_metrics.errors import NO_WAY, AwsUnavailable

BOUNDED = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})
"""For every client. Where no way leads, or nobody answers, a call fails after 3 * 3 seconds and 3 of waiting.
Three in a row, of an update, of putting it off and of putting off all others, take no more than the trigger's
RESERVE. By default, a single one takes longer than the function may."""


def client(service: str) -> Any:
    """A client of the service, typed by whoever takes it. It is made when it is first used."""
    return _Client(service)


class _Client:
    def __init__(self, service: str) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Any:
        return getattr(new_client(self._service), name)


@cache
def new_client(service: str) -> Any:
    """The client itself."""
    return boto3.client(service, config=BOUNDED)  # type: ignore[call-overload]  # of a service by its name


@contextmanager
def aws_call(what: str) -> Iterator[None]:
    """Raises AwsUnavailable, saying what failed, for any failure of an AWS call."""
    try:
        yield
    except (ConnectTimeoutError, EndpointConnectionError) as error:
        raise AwsUnavailable(f"could not {what}: {error}. {NO_WAY}") from error
    except (BotoCoreError, ClientError) as error:
        raise AwsUnavailable(f"could not {what}: {error}") from error
