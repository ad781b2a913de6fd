"""Calls to AWS: limited in time, with the one error that callers handle.

boto3 is botocore with a layer for resources, which is not needed here and would take a tenth of the trigger's
start. A client of a botocore session is what boto3.client() returns.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Literal, get_args

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectTimeoutError, EndpointConnectionError
from botocore.loaders import Loader
from botocore.session import Session, get_session

from arcanna_metrics.errors import NO_WAY, AwsUnavailable

BOUNDED = Config(connect_timeout=3, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})
"""For every client. If a service cannot be reached or does not answer, a call fails after three tries of 3
seconds, and up to 3 seconds between them. Three such calls in a row take no more than the trigger's RESERVE.
If an interface endpoint lets nobody connect, each of its addresses takes 3 seconds of a try. With
botocore's defaults, a single call would take longer than the function's time-out."""


Service = Literal["dynamodb", "sqs", "stepfunctions"]
"""The services that have a client here. SSM and Secrets Manager are called without one: see `aws_json`."""


@cache
def client(service: Service) -> Any:
    """A client of the service. The caller gives it a type."""
    return _session().create_client(service, config=BOUNDED)


@cache
def _session() -> Session:
    session = get_session()
    session.register_component("data_loader", _Descriptions())
    return session


class _Descriptions(Loader):
    """Loads botocore's descriptions of the services.

    By itself, botocore would first look through the folders of all 400 services, to learn which there are.
    """

    def list_available_services(self, type_name: str) -> list[str]:
        """The services, whatever the type of description."""
        return list(get_args(Service))


@contextmanager
def aws_call(what: str) -> Iterator[None]:
    """Turns any error of an AWS call into AwsUnavailable, which says what failed."""
    try:
        yield
    except (ConnectTimeoutError, EndpointConnectionError) as error:
        raise AwsUnavailable(f"could not {what}: {error}. {NO_WAY}") from error
    except (BotoCoreError, ClientError) as error:
        raise AwsUnavailable(f"could not {what}: {error}") from error
