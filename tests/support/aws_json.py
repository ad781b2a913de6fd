"""AWS services in moto, called over httpx as the functions call them."""

import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from arcanna_metrics.aws_json import AwsJson, SigV4

REGION = "eu-central-1"
MOTO = httpx.WSGITransport(DomainDispatcherApplication(create_backend_app))


def endpoint(service: str) -> str:
    """The address of a service."""
    return f"https://{service}.{REGION}.amazonaws.com"


def aws_json(service: str, transport: httpx.BaseTransport = MOTO) -> AwsJson:
    """A service that repeats failed calls without waiting."""
    env = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
    auth = SigV4(env, REGION, service)
    return AwsJson(httpx.Client(transport=transport), endpoint(service), auth, lambda _: None)
