"""Builds the client of the platform that the environment names."""

from arcanna_metrics.platform import tls
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.platform.key import SecretApiKey
from arcanna_metrics.platform.sigv4 import Credentials, SigV4
from arcanna_metrics.settings import Environment


def arcanna(env: Environment) -> Arcanna:
    """Raises ConfigurationError."""
    env.proxy_url("HTTPS_PROXY")
    # One client for both, because each makes a TLS context, and that takes its time. It takes the proxy from
    # HTTPS_PROXY and NO_PROXY, as boto3 does; plain http, which is loopback, goes without.
    http = BoundedClient(base_url=env.base_url("ARCANNA_BASE_URL"), verify=tls.context(env), trust_env=True)
    return Arcanna(http, _api_key(env, http))


def _api_key(env: Environment, http: BoundedClient) -> SecretApiKey:
    region, url_suffix = env.text("AWS_REGION"), env.text("URL_SUFFIX")
    credentials = Credentials(
        env.text("AWS_ACCESS_KEY_ID"),
        env.text("AWS_SECRET_ACCESS_KEY"),
        env.optional("AWS_SESSION_TOKEN"),
    )
    endpoint = (
        env.optional("AWS_ENDPOINT_URL_SECRETS_MANAGER")
        or env.optional("AWS_ENDPOINT_URL")
        or f"https://secretsmanager.{region}.{url_suffix}"
    )
    auth = SigV4(credentials, region, "secretsmanager")
    arn, field = env.text("ARCANNA_API_KEY_SECRET_ARN"), env.optional("ARCANNA_API_KEY_SECRET_FIELD")
    return SecretApiKey(http, endpoint, auth, arn, field)
