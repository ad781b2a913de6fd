"""How AWS is called: with bounds, and with the one failure that callers handle."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError

from arcanna_metrics.errors import NO_WAY, AwsUnavailable

BOUNDED = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})
"""For every client. Where no way leads, or nobody answers, a call fails after 3 * 3 seconds and 3 of waiting.
Three in a row, of an update, of putting it off and of putting off all others, take no more than the trigger's
RESERVE. By default, a single one takes longer than the function may."""


@contextmanager
def aws_call(what: str) -> Iterator[None]:
    """Raises AwsUnavailable, saying what failed, for any failure of an AWS call."""
    try:
        yield
    except (ConnectTimeoutError, EndpointConnectionError) as error:
        raise AwsUnavailable(f"could not {what}: {error}. {NO_WAY}") from error
    except (BotoCoreError, ClientError) as error:
        raise AwsUnavailable(f"could not {what}: {error}") from error
