"""What the template hands to the functions, by environment variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

import httpx

from arcanna_metrics.errors import ConfigurationError

_BASE_URL = re.compile(
    r"(?:https://[A-Za-z0-9.\-]+|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{1,5})?"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~\-]+)*"
)
"""As the template's parameter ArcannaBaseUrl, but for "." and ".." in the path."""

_PROXY_URL = re.compile(r"https?://[A-Za-z0-9.\-]+:[0-9]{1,5}/?")
"""As the template's parameter ProxyUrl."""


class Environment:
    """Reads variables by name. Raises ConfigurationError with the name, and what it should be."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str) -> str:
        """A variable that must not be empty."""
        if value := self.optional(name):
            return value
        raise ConfigurationError(f"{name} is not set")

    def optional(self, name: str) -> str | None:
        """A variable that may be missing or empty."""
        return self._variables.get(name, "").strip() or None

    def whole_number(self, name: str) -> int:
        """A number, 0 or more."""
        value = self.text(name)
        if value.isascii() and value.isdigit() and len(value) <= 12:
            return int(value)
        raise ConfigurationError(f"{name} must be a whole number, not {value!r:.100}")

    def seconds(self, name: str) -> float:
        """A number of seconds, 0 or more."""
        return float(self.whole_number(name))

    def base_url(self, name: str) -> str:
        """An https URL without credentials, query or fragment; plain http only for loopback."""
        value = self.text(name).rstrip("/")
        if not _BASE_URL.fullmatch(value):
            raise ConfigurationError(
                f"{name} must be https://host[:port][/path] without credentials, query or fragment"
                " (http:// only for localhost)"
            )
        _assert_readable(name, value)
        return value

    def proxy_url(self, name: str) -> str | None:
        """The URL of a proxy, without credentials; None where there is no proxy."""
        value = self.optional(name)
        if value is None:
            return None
        if not _PROXY_URL.fullmatch(value):
            raise ConfigurationError(
                f"{name} must be empty, http://host:port or https://host:port, without credentials"
            )
        _assert_readable(name, value)
        return value


def _assert_readable(name: str, url: str) -> None:
    try:
        _ = urlsplit(url).port, httpx.URL(url).host  # raise where they cannot be read
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigurationError(f"{name} is no URL: {error}") from error


@dataclass(frozen=True, slots=True)
class PollSettings:
    """All in seconds."""

    shortest: float
    longest: float
    start_grace: float

    @classmethod
    def of(cls, env: Environment) -> Self:
        """Raises ConfigurationError."""
        settings = cls(
            env.seconds("SHORTEST_POLL_SECONDS"),
            env.seconds("LONGEST_POLL_SECONDS"),
            env.seconds("START_GRACE_SECONDS"),
        )
        if not 1 <= settings.shortest <= settings.longest:
            raise ConfigurationError(
                "SHORTEST_POLL_SECONDS must be at least 1 and at most LONGEST_POLL_SECONDS"
            )
        return settings


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """How updates wait for the platform: exponential backoff, and an end to it. All in seconds."""

    interval: float
    maximum: float
    give_up_after: float

    @classmethod
    def of(cls, env: Environment) -> Self:
        """Raises ConfigurationError."""
        return cls(
            env.seconds("RETRY_INTERVAL_SECONDS"),
            env.seconds("RETRY_MAXIMUM_SECONDS"),
            env.seconds("GIVE_UP_SECONDS"),
        )
