"""Builds the clients of what the environment names: the platform, its API key, and the settings.

The patterns of the template's parameters reject wrong values before a deployment. Only the base URL is
checked again here, because the API key is sent there, and whether httpx can call the hosts, which no pattern
can tell.
"""

import re
from collections.abc import Mapping

import httpx

from arcanna_metrics.aws_json import AwsJson, SigV4
from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.platform import tls
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.platform.key import SecretApiKey

Environment = Mapping[str, str]
"""The variables that the template gives to the functions. Those that may be empty may also be missing."""

Mounts = dict[str, httpx.BaseTransport | None]
"""httpx's transports by URL pattern; None means the client's own transport, which connects directly."""

_BASE_URL = re.compile(
    r"(?:https://[A-Za-z0-9.\-]+|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{1,5})?"
    r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~\-]+)*"
)
"""Like the template's parameter ArcannaBaseUrl, but without "." and ".." in the path."""


def http_client(env: Environment) -> BoundedClient:
    """The client for Arcanna and for AWS: one, because building a TLS context is slow.

    Raises ConfigurationError.
    """
    address, context = base_url(env["ARCANNA_BASE_URL"]), tls.context(env.get("ARCANNA_CA_BUNDLE", ""))
    by_proxy: Mounts = {}
    if proxy := env.get("HTTPS_PROXY"):
        transport = httpx.HTTPTransport(verify=context, trust_env=False, proxy=_valid("ProxyUrl", proxy))
        by_proxy = mounts(transport, env.get("NO_PROXY", ""))
    return BoundedClient(base_url=address, verify=context, trust_env=False, mounts=by_proxy)


def base_url(address: str) -> str:
    """The address of Arcanna, without a slash at its end.

    An https URL without credentials, query or fragment; plain http only for loopback. Raises
    ConfigurationError.
    """
    address = address.rstrip("/")
    if not _BASE_URL.fullmatch(address):
        raise ConfigurationError(
            "ARCANNA_BASE_URL must be https://host[:port][/path] without credentials, query or fragment"
            " (http:// only for localhost)"
        )
    return _valid("ArcannaBaseUrl", address)


def arcanna(env: Environment, http: BoundedClient) -> Arcanna:
    """The platform."""
    arn, field = env["ARCANNA_API_KEY_SECRET_ARN"], env.get("ARCANNA_API_KEY_SECRET_FIELD") or None
    region = arn.split(":")[3]  # the secret may be in another region than the stack
    secrets = _aws_json(env, http, "secretsmanager", region)
    return Arcanna(http, SecretApiKey(secrets, arn, field))


def parameters(env: Environment, http: BoundedClient) -> AwsJson:
    """SSM, where the settings are."""
    return _aws_json(env, http, "ssm", env["AWS_REGION"])


def mounts(proxy: httpx.BaseTransport, no_proxy: str) -> Mounts:
    """Sends https through the proxy, except to the hosts of NO_PROXY, which botocore also calls directly.

    They are separated by commas, and each includes its subdomains. httpx could read the variables itself, but
    for httpx `.host` means the subdomains only. Plain http is loopback, and never uses the proxy. Raises
    ConfigurationError.
    """
    direct = [host.strip().lower().removeprefix(".") for host in no_proxy.split(",") if host.strip()]
    if "*" in direct:
        return {}
    # httpx decodes hosts that begin with "xn--", but not in a pattern with "*", which includes subdomains.
    patterns = [_valid("NoProxy", f"all://{start}{host}") for host in direct for start in ("", "*")]
    return {"https://": proxy, **dict.fromkeys(patterns)}


def _valid(parameter: str, url: str) -> str:
    """The URL, if httpx can read its host and port, which the template's pattern cannot tell."""
    try:
        read = httpx.URL(url)
        if read.host and (read.port or 443) <= 65535:
            return url
        why = "the host is missing, or the port is above 65535"
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: the host begins with xn--
        why = str(error)
    raise ConfigurationError(f"{url.partition('//')[2]!r} in the parameter {parameter} is not a host: {why}")


def _aws_json(env: Environment, http: BoundedClient, service: str, region: str) -> AwsJson:
    """A service of AWS, or of another cloud at AWS_ENDPOINT_URL."""
    endpoint = env.get("AWS_ENDPOINT_URL") or f"https://{service}.{region}.{env['URL_SUFFIX']}"
    return AwsJson(http, endpoint, SigV4(env, region, service))
