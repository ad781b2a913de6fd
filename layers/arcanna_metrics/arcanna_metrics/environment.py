"""What the template hands to the functions, by environment variables."""

import re
from collections.abc import Mapping
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

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?"
_NAME = rf"\.?(?:{_LABEL}\.)*(?=[0-9\-]*[A-Za-z]){_LABEL}"
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_PORT = r"(?!443(?![0-9]))[1-9][0-9]{0,4}"
_DIRECT = rf"(?:{_NAME}|{_OCTET}(?:\.{_OCTET}){{3}})(?::{_PORT})?"
NO_PROXY_PATTERN = rf"^(?! *,)(?:\*|(?:(?:^| *, *){_DIRECT})*)$"
"""As the template's parameter NoProxy: what both HTTP clients, httpx and boto3, obey in the same way.

A last label without a letter is a part of an address, and never matches a host. No URL shows its port 443.
"""


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

    def no_proxy(self, name: str) -> tuple[str, ...]:
        """The hosts to call without the proxy: each with its subdomains, and with a port or for all ports.

        `*` stands for all hosts, and then alone. What one of the HTTP clients would ignore is refused.
        """
        value = self._variables.get(name, "")  # not stripped: boto3 takes it as it is
        hosts = [host.strip(" ") for host in value.split(",")] if value else []
        if value != "*":
            for host in hosts:
                if wrong := _not_a_direct_host(host):
                    raise ConfigurationError(
                        f"{name} must be empty, * or hosts separated by commas, each of which includes its"
                        f" subdomains, such as arcanna.internal,.example.com: {wrong}"
                    )
        return tuple(host.lower().removeprefix(".") for host in hosts)


def _not_a_direct_host(host: str) -> str | None:
    """What is wrong with an entry of NO_PROXY, and what to write instead; None where it is good."""
    port = re.search(r":([0-9]+)$", host)
    if re.fullmatch(_DIRECT, host) and not (port and int(port[1]) > 65535):
        return None
    shown = f"{host!r:.100} is not a host"
    if not host:
        return "there is an empty entry"
    if host == "*":
        return "* must stand alone, without blanks and other hosts"
    if " " in host:
        return f"{shown}: separate hosts with commas"
    if re.fullmatch(r"[0-9.*/\-]+", host):
        return f"{shown}: write every IP address in full, ranges are not supported"
    bare = re.sub(r"^https?://|^\*?\.*|/$|\.$|:443$", "", host)
    if bare != host and re.fullmatch(_DIRECT, bare):
        return f"{shown}: write {bare}"
    return shown


def _assert_readable(name: str, url: str) -> None:
    try:
        _ = urlsplit(url).port, httpx.URL(url).host  # raise where they cannot be read
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigurationError(f"{name} is no URL: {error}") from error
