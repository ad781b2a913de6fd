"""The API key from Secrets Manager. It is cached, and never written anywhere."""

from unicodedata import category

from arcanna_metrics.aws_json import AwsJson, CallRefused, json_value
from arcanna_metrics.errors import NOT_ALLOWED, ApiKeyMissing, ApiKeyUnavailable


class SecretApiKey:
    """Reads the key once per execution environment, and again when asked to."""

    def __init__(self, secrets: AwsJson, secret_arn: str, field: str | None = None) -> None:
        """`field` names the key's field if the secret is a JSON object.

        None means that the secret is the key.
        """
        self._secrets = secrets
        self._secret_arn = secret_arn
        self._field = field
        self._key: str | None = None

    def __call__(self, read_again: bool) -> str:
        """The key. Raises ApiKeyUnavailable and AwsUnavailable, which never quote the secret."""
        if self._key is None or read_again:
            self._key = self._read()
        return self._key

    def _read(self) -> str:
        secret = unwrapped(self._get_secret_string())
        key = secret if self._field is None else _field(secret, self._field)
        wrong = not_a_key(key) if key is not None else "it is not a JSON object with this field as a string"
        if key is None or wrong:
            raise ApiKeyUnavailable(
                f"the secret {self._secret_arn} does not hold an API key: {wrong}."
                f" {self._put()}, or correct the parameter ApiKeySecretField"
            )
        return key

    def _put(self) -> str:
        shape = "as plain text" if self._field is None else f"in the field {self._field!r} of a JSON object"
        return f"Put Arcanna's management API key into it {shape}, with put-secret-value"

    def _get_secret_string(self) -> str:
        """https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"""
        try:
            body = self._secrets.call("secretsmanager.GetSecretValue", SecretId=self._secret_arn)
        except CallRefused as refused:
            raise self._refusal(str(refused)) from None
        secret = body.get("SecretString", "")  # a binary one is not here
        if not isinstance(secret, str):
            raise ApiKeyUnavailable(self._not_read("unexpected response from Secrets Manager."))
        return secret

    def _refusal(self, said: str) -> ApiKeyUnavailable:
        """The error for a refusal of Secrets Manager, with what to do about it."""
        if "secret value for staging label" in said:
            return ApiKeyMissing(f"the secret {self._secret_arn} is empty. {self._put()}")
        if "AccessDenied" in said or "DecryptionFailure" in said:
            said = f"{said}. {NOT_ALLOWED}"
        elif "ResourceNotFound" in said:
            said = f"{said}. {self._put()}"
        return ApiKeyUnavailable(self._not_read(said))

    def _not_read(self, why: str) -> str:
        return f"the secret {self._secret_arn} could not be read: {why}"


def _field(secret: str, name: str) -> str | None:
    """The field of a secret that is a JSON object; None if it is missing or not a string."""
    document = json_value(secret)
    value = document.get(name) if isinstance(document, dict) else None
    return unwrapped(value) if isinstance(value, str) else None


def unwrapped(text: str) -> str:
    """The text without the blanks and quotes around it. A JSON string becomes its content."""
    while (bare := _without_a_layer(text)) != text:
        text = bare
    return text


def _without_a_layer(text: str) -> str:
    """Without what editors, consoles and shells add: blanks, a byte order mark, and quotes."""
    text = text.strip().strip("\ufeff")
    content = json_value(text)
    return content if isinstance(content, str) else text.strip("\"'")


def not_a_key(text: str) -> str | None:
    """Why an unwrapped text cannot be sent as a key, without quoting it; None if it can."""
    if not text:
        return "it is empty"
    if isinstance(json_value(text), dict | list):
        # Without blanks it could pass for a key, and the whole document would be sent.
        return "it is a JSON document, and no field is named"
    if '"' in text:
        return "it contains a quotation mark"
    for character in text:
        if category(character)[0] in "CZ":  # invisible, and so worth naming; no part of a secret
            return f"it contains U+{ord(character):04X}"
        if not character.isascii():
            return "it contains a character that no HTTP header can hold"
    return None
