"""The API key, from Secrets Manager: cached, and never written anywhere."""

import json

import httpx

from arcanna_metrics.errors import NO_WAY, ApiKeyUnavailable

NOT_ALLOWED = "The policy of the role, the secret, its KMS key or the VPC endpoint does not allow it"
"""What the error says of a secret that AWS refuses to show."""


class SecretApiKey:
    """Reads the key once per execution environment, and again when asked to."""

    def __init__(
        self, http: httpx.Client, endpoint: str, auth: httpx.Auth, secret_arn: str, field: str | None = None
    ) -> None:
        """`endpoint`: base URL of Secrets Manager, for which `auth` signs.

        `field` names the key's field in a secret that is a JSON object; None is a secret that is the key.
        """
        self._http = http
        self._endpoint = endpoint
        self._auth = auth
        self._secret_arn = secret_arn
        self._field = field
        self._key: str | None = None

    def __call__(self, read_again: bool) -> str:
        """The key. Raises ApiKeyUnavailable, which never quotes what the secret holds."""
        if self._key is None or read_again:
            self._key = self._read()
        return self._key

    def _read(self) -> str:
        secret = self._get_secret_string()
        key: object = None if self._field else secret
        if (document := _document(secret)) is not None:
            # Also where no field is named: without blanks it could pass for a key, and would be sent whole.
            key = document.get(self._field or "")
        if not isinstance(key, str) or not _is_header_value(key := key.strip()):
            raise ApiKeyUnavailable(
                f"the secret {self._secret_arn} does not hold an API key."
                f" {self._put()}, or correct the parameter ApiKeySecretField"
            )
        return key

    def _put(self) -> str:
        shape = "as plain text" if self._field is None else f"in the field {self._field!r} of a JSON object"
        return f"Put Arcanna's management API key into it {shape}, with put-secret-value"

    def _get_secret_string(self) -> str:
        """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"""
        try:
            answer = self._http.post(
                self._endpoint,
                json={"SecretId": self._secret_arn},
                headers={
                    "Content-Type": "application/x-amz-json-1.1",
                    "X-Amz-Target": "secretsmanager.GetSecretValue",
                },
                auth=self._auth,
                follow_redirects=False,
            )
            answer.raise_for_status()
            body = answer.json()
        except httpx.HTTPStatusError as error:
            said = error.response.text[:300]  # of an error: no secret is in there
            raise self._unavailable(said, self._remedy(said)) from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:  # nothing has come yet
            raise self._unavailable(f"{self._endpoint}: {type(error).__name__} {error}", NO_WAY) from None
        except (httpx.HTTPError, ValueError, RecursionError) as error:
            raise self._unavailable(type(error).__name__) from None  # which may quote what it could not read
        secret = body.get("SecretString", "") if isinstance(body, dict) else None
        if not isinstance(secret, str):
            raise self._unavailable("the answer is none of Secrets Manager's")
        return secret

    def _remedy(self, said: str) -> str:
        """What to do about an error that Secrets Manager answers."""
        if "AccessDenied" in said or "DecryptionFailure" in said:
            return NOT_ALLOWED
        return self._put() if "ResourceNotFound" in said else ""

    def _unavailable(self, why: str, remedy: str = "") -> ApiKeyUnavailable:
        return ApiKeyUnavailable(f"the secret {self._secret_arn} could not be read: {why}. {remedy}".strip())


def _document(secret: str) -> dict[str, object] | None:
    """The fields of a secret that is a JSON object; None where it is none."""
    try:
        document = json.loads(secret)
    except (ValueError, RecursionError):  # which may quote what it could not read
        return None
    return document if isinstance(document, dict) else None


def _is_header_value(text: str) -> bool:
    return text != "" and text.isascii() and text.isprintable() and " " not in text
