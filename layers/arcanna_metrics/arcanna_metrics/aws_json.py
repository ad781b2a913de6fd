"""Calls to AWS services that speak JSON, over httpx, because botocore takes long to start (`make bench`).

Most status checks are cold starts, and loading botocore nearly doubles their duration. In the trigger, which
needs it for the ledger and the workflow, a further client would take a tenth of the start.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import random
from typing import Any

import httpx

from arcanna_metrics.errors import NO_WAY, AwsUnavailable

TIMEOUT = 3.0
"""Seconds for each step of a call, as in `aws.BOUNDED`."""

MOST_TRIES = 3

NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)
"""Errors of the transport before it sends a request."""


class CallRefused(Exception):
    """The service answered, but not with what was asked for, and would do so again."""


@dataclass(frozen=True, slots=True)
class AwsJson:
    """One service in one region."""

    http: httpx.Client
    endpoint: str
    auth: httpx.Auth  # signs the calls
    sleep: Callable[[float], None] = time.sleep

    def call(self, operation: str, **parameters: object) -> dict[str, Any]:
        """The answer to an operation such as "AmazonSSM.GetParameter". Raises AwsUnavailable and CallRefused.

        A call that fails for the moment is repeated twice. The errors never quote an answer, except that they
        show an error of the service.
        """
        for tries in range(1, MOST_TRIES):
            try:
                return self._call(operation, parameters)
            except AwsUnavailable:
                self.sleep(random() * tries)  # noqa: S311  # no secret
        return self._call(operation, parameters)

    def _call(self, operation: str, parameters: Mapping[str, object]) -> dict[str, Any]:
        call = f"{operation} at {self.endpoint}"
        try:
            answer = self.http.post(
                self.endpoint,
                json=parameters,
                headers={"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": operation},
                auth=self.auth,
                timeout=TIMEOUT,
            )
        except NOTHING_SENT as error:
            raise AwsUnavailable(f"{call}: {type(error).__name__} {error}. {NO_WAY}") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # Without its text, which may quote what could not be read.
            raise AwsUnavailable(f"{call}: {type(error).__name__}") from None
        if not answer.is_success:
            said = answer.content.decode(errors="replace")[:1000]
            failure = AwsUnavailable if answer.is_server_error or "Throttling" in said else CallRefused
            raise failure(f"{call} answered with {answer.status_code}: {said}")
        body = json_value(answer.content)
        if not isinstance(body, dict):
            raise CallRefused(f"{call}: an unexpected answer")
        return body


def json_value(text: str | bytes) -> object:
    """The JSON value of the text; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # which may quote what it could not read
        return None


@dataclass(frozen=True, slots=True)
class SigV4(httpx.Auth):
    """Signs requests by Signature Version 4: those to the path "/" without a query, as in JSON protocols.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """

    env: Mapping[str, str] = field(repr=False)  # has the credentials of the function's role
    region: str
    service: str

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Amz-Date"] = now
        if token := self.env.get("AWS_SESSION_TOKEN"):
            request.headers["X-Amz-Security-Token"] = token
        # Proxies may change the other headers.
        signed = sorted(n for n in request.headers if n in ("content-type", "host") or n.startswith("x-amz-"))
        names = ";".join(signed)
        lines = [f"{name}:{request.headers[name]}" for name in signed]
        canonical = "\n".join([request.method, "/", "", *lines, "", names, _sha256(request.content)])
        scope = f"{now[:8]}/{self.region}/{self.service}/aws4_request"
        key = f"AWS4{self.env['AWS_SECRET_ACCESS_KEY']}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, _sha256(canonical.encode())])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.env['AWS_ACCESS_KEY_ID']}/{scope},"
            f" SignedHeaders={names}, Signature={signature}"
        )
        yield request


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
