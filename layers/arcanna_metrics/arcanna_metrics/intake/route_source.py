"""The routes of an SSM parameter: the latest that are right."""

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from arcanna_metrics.aws import aws_call
from arcanna_metrics.errors import AwsUnavailable, ConfigurationError
from arcanna_metrics.intake import routes
from arcanna_metrics.observability import count, logger
from arcanna_metrics.settings import parse_settings

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

ROUTES_MAX_AGE = 60  # seconds until an edit of the routes is in force
ROUTES_VERSIONS = 20  # how many versions are tried to find one that is right


class RouteSource:
    """The routes of an SSM parameter, at most `ROUTES_MAX_AGE` seconds old."""

    def __init__(self, ssm: "SSMClient", parameter: str, clock: Callable[[], float]) -> None:
        self._ssm = ssm
        self._parameter = parameter
        self._clock = clock
        self._read_at = -inf
        self._routes: routes.Routes | None = None

    def __call__(self) -> routes.Routes:
        """The latest routes that are right: a bad edit, and a failure of SSM, leave those before it in
        force, and are told.

        Raises AwsUnavailable where none have been read yet, and ConfigurationError where SSM keeps no version
        that is right.
        """
        now = self._clock()
        if self._routes is None or now - self._read_at >= ROUTES_MAX_AGE:
            self._routes = self._latest()
            self._read_at = now
        return self._routes

    def newest(self) -> routes.Routes:
        """The routes as they are written now. Raises AwsUnavailable and, where they are wrong,
        ConfigurationError."""
        return parse_settings(self._get(self._parameter)[0]).routes

    def _latest(self) -> routes.Routes:
        try:
            text, version = self._get(self._parameter)
        except AwsUnavailable as error:
            if self._routes is None:
                raise
            count("RoutesInvalid")
            logger.error("the routes cannot be read", detail=str(error))
            return self._routes
        try:
            return parse_settings(text).routes
        except ConfigurationError as error:
            count("RoutesInvalid")
            logger.error("the routes are wrong", version=version, detail=str(error))
            return self._routes or self._last_good(version, error)

    def _last_good(self, version: int, error: ConfigurationError) -> routes.Routes:
        for earlier in range(version - 1, max(0, version - 1 - ROUTES_VERSIONS), -1):
            try:
                found = parse_settings(self._get(f"{self._parameter}:{earlier}")[0]).routes
            except ConfigurationError:
                continue
            logger.warning("earlier routes are in force", version=earlier)
            return found
        raise error

    def _get(self, name: str) -> tuple[str, int]:
        with aws_call("read the routes"):
            parameter = self._ssm.get_parameter(Name=name)["Parameter"]
        return parameter["Value"], parameter["Version"]
