"""The environment variables that the template gives to the functions.

The patterns of the template's parameters reject wrong values before a deployment. Only the base URL is
checked again here, because the API key is sent there.
"""

import re
from collections.abc import Mapping

import httpx

from arcanna_metrics.errors import ConfigurationError

_BASE_URL = re.compile(
    r"(?:https://[A-Za-z0-9.\-]+|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{1,5})?"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~\-]+)*"
)
"""Like the template's parameter ArcannaBaseUrl, but without "." and ".." in the path."""


class Environment:
    """Reads variables by name. Raises ConfigurationError with the name and what is allowed."""

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

    def base_url(self, name: str) -> str:
        """An https URL without credentials, query or fragment; plain http only for loopback."""
        value = self.text(name).rstrip("/")
        try:
            url = httpx.URL(value)
            if _BASE_URL.fullmatch(value) and url.host and (url.port or 443) <= 65535:
                return value
        except (httpx.InvalidURL, UnicodeError):  # UnicodeError: a host that begins with xn--
            pass
        raise ConfigurationError(
            f"{name} must be https://host[:port][/path] without credentials, query or fragment"
            " (http:// only for localhost)"
        )

    def hosts(self, name: str) -> tuple[str, ...]:
        """Hosts separated by commas, in lower case. Each includes its subdomains."""
        listed = (self.optional(name) or "").split(",")
        return tuple(host.strip().lower().removeprefix(".") for host in listed if host.strip())
