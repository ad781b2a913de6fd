"""AWS Signature Version 4 for httpx, so that a status check reads its secret without botocore.

Most checks are cold starts, and loading botocore nearly doubles their duration (`make bench`).
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx


@dataclass(frozen=True, slots=True)
class SigV4(httpx.Auth):
    """Signs requests to the path "/" without a query. AWS's JSON protocols need only these.

    The first three are the credentials of the function's role, which Lambda puts into its environment.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    region: str
    service: str

    requires_request_body = True

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Amz-Date"] = now
        if self.session_token:
            request.headers["X-Amz-Security-Token"] = self.session_token
        # Proxies may change the other headers.
        signed = sorted(n for n in request.headers if n in ("content-type", "host") or n.startswith("x-amz-"))
        names = ";".join(signed)
        lines = [f"{name}:{request.headers[name]}" for name in signed]
        canonical = "\n".join([request.method, "/", "", *lines, "", names, _sha256(request.content)])
        scope = f"{now[:8]}/{self.region}/{self.service}/aws4_request"
        key = f"AWS4{self.secret_access_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, _sha256(canonical.encode())])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        request.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key_id}/{scope},"
            f" SignedHeaders={names}, Signature={signature}"
        )
        yield request


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
