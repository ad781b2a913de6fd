"""Builds the clients of what the environment names: the platform, its API key, and the settings."""

from collections.abc import Collection

import httpx

from arcanna_metrics.aws_json import AwsJson, SigV4
from arcanna_metrics.environment import Environment
from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.platform import tls
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.platform.key import SecretApiKey

Mounts = dict[str, httpx.BaseTransport | None]
"""httpx's transports by URL pattern; None means the client's own transport, which connects directly."""


def http_client(env: Environment) -> BoundedClient:
    """The client for Arcanna and for AWS: one, because building a TLS context is slow.

    Raises ConfigurationError.
    """
    base_url, context = env.base_url("ARCANNA_BASE_URL"), tls.context(env.optional("ARCANNA_CA_BUNDLE"))
    by_proxy: Mounts = {}
    if proxy := env.optional("HTTPS_PROXY"):
        transport = httpx.HTTPTransport(verify=context, trust_env=False, proxy=_valid("ProxyUrl", proxy))
        by_proxy = mounts(transport, env.hosts("NO_PROXY"))
    return BoundedClient(base_url=base_url, verify=context, trust_env=False, mounts=by_proxy)


def arcanna(env: Environment, http: BoundedClient) -> Arcanna:
    """The platform. Raises ConfigurationError."""
    arn, field = env.text("ARCANNA_API_KEY_SECRET_ARN"), env.optional("ARCANNA_API_KEY_SECRET_FIELD")
    region = arn.split(":")[3]  # the secret may be in another region than the stack
    secrets = _aws_json(env, http, "secretsmanager", region)
    return Arcanna(http, SecretApiKey(secrets, arn, field))


def parameters(env: Environment, http: BoundedClient) -> AwsJson:
    """SSM, where the settings are. Raises ConfigurationError."""
    return _aws_json(env, http, "ssm", env.text("AWS_REGION"))


def mounts(proxy: httpx.BaseTransport, direct: Collection[str]) -> Mounts:
    """Sends https through the proxy, except to the hosts of NO_PROXY, which botocore also calls directly.

    httpx could read the variables itself, but for httpx `.host` means the subdomains only. Plain http is
    loopback, and never uses the proxy. Raises ConfigurationError.
    """
    if "*" in direct:
        return {}
    # httpx decodes hosts that begin with "xn--", but not in a pattern with "*", which includes subdomains.
    patterns = [_valid("NoProxy", f"all://{start}{host}") for host in direct for start in ("", "*")]
    return {"https://": proxy, **dict.fromkeys(patterns)}


def _valid(parameter: str, url: str) -> str:
    """The URL, if httpx can read its host, which the template's pattern cannot tell."""
    try:
        _ = httpx.URL(url).host
    except (httpx.InvalidURL, UnicodeError) as error:  # UnicodeError: the host begins with xn--
        host = url.partition("//")[2]
        raise ConfigurationError(f"{host!r} in the parameter {parameter} is not a host: {error}") from error
    return url


def _aws_json(env: Environment, http: BoundedClient, service: str, region: str) -> AwsJson:
    """A service of AWS, or of another cloud at AWS_ENDPOINT_URL. Raises ConfigurationError."""
    auth = SigV4(
        env.text("AWS_ACCESS_KEY_ID"),
        env.text("AWS_SECRET_ACCESS_KEY"),
        env.optional("AWS_SESSION_TOKEN"),
        region,
        service,
    )
    endpoint = env.optional("AWS_ENDPOINT_URL") or f"https://{service}.{region}.{env.text('URL_SUFFIX')}"
    return AwsJson(http, endpoint, auth)
