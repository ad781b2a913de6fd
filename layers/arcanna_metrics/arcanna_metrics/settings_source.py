"""The settings in an SSM parameter: its last valid version is in force."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Any

from arcanna_metrics.aws_json import AwsJson, CallRefused
from arcanna_metrics.errors import AwsUnavailable, ConfigurationError
from arcanna_metrics.observability import count, logger
from arcanna_metrics.settings import Settings, parse_settings

MAX_AGE = 60.0
"""Seconds until an edit is in force."""


@dataclass(slots=True)
class SettingsSource:
    """The settings of an SSM parameter, at most `MAX_AGE` seconds old.

    While the newest version is wrong, the last valid one before it is in force. It is looked up in the
    parameter's history, so that all execution environments agree, also those that start meanwhile.
    """

    ssm: AwsJson
    parameter: str
    visibility_lag: float  # seconds; counts where the settings have none
    clock: Callable[[], float]
    _read_at: float = -inf
    _in_force: Settings | None = None

    def __call__(self) -> Settings:
        """The settings in force. If a newer version is wrong or cannot be read, logs that and counts it.

        Raises AwsUnavailable if no settings have been read yet, and ConfigurationError if SSM keeps no valid
        version.
        """
        now = self.clock()
        if self._in_force is None or now - self._read_at >= MAX_AGE:
            try:
                self._in_force = self._last_valid()
            except (AwsUnavailable, ConfigurationError) as error:
                if isinstance(error, AwsUnavailable):
                    count("SettingsInvalid")
                    logger.error("the settings cannot be read", detail=str(error))
                if self._in_force is None:
                    raise
            self._read_at = now
        return self._in_force

    def newest(self) -> Settings:
        """The settings as stored now. Raises AwsUnavailable and ConfigurationError."""
        found = self._call("AmazonSSM.GetParameter")["Parameter"]["Value"]
        return parse_settings(found, self.visibility_lag)

    def _last_valid(self) -> Settings:
        """The last valid version, after a report of a newer one that is wrong.

        Raises AwsUnavailable, and ConfigurationError if SSM keeps no valid version.
        """
        try:
            return self.newest()
        except ConfigurationError as error:
            count("SettingsInvalid")
            logger.error("the settings are wrong", detail=str(error))
            for version, text in sorted(self._versions().items(), reverse=True):
                with suppress(ConfigurationError):
                    found = parse_settings(text, self.visibility_lag)
                    logger.warning("earlier settings are in force", version=version)
                    return found
            raise

    def _versions(self) -> dict[int, str]:
        """All versions that SSM keeps, by number. Raises AwsUnavailable."""
        page = self._call("AmazonSSM.GetParameterHistory")
        versions = page["Parameters"]
        while token := page.get("NextToken"):
            page = self._call("AmazonSSM.GetParameterHistory", NextToken=token)
            versions += page["Parameters"]
        return {version["Version"]: version["Value"] for version in versions}

    def _call(self, operation: str, **parameters: str) -> dict[str, Any]:
        try:
            return self.ssm.call(operation, Name=self.parameter, **parameters)
        except CallRefused as refused:
            raise AwsUnavailable(f"could not read the settings: {refused}") from refused
