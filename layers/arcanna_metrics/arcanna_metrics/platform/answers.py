"""Arcanna's response to a call, and what it means.

The status decides first. Parts of the API answer 200 with an error in the body. So a 2xx is a success only if
its body has the documented shape or, for a request that may have taken effect, contains no error.
"""

import json
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Self

import httpx

from arcanna_metrics.aws_json import json_value
from arcanna_metrics.errors import PlatformUnavailable, Rejected, Unauthorised, UndocumentedAnswer
from arcanna_metrics.observability import logger

SHOWN = 300
"""Characters of a response that errors show."""

MOST_LEVELS = 100
"""Levels of arrays and objects in a response; the documented ones have three. Python may read thousands, and
then not be able to write them as a part of the workflow's input."""

_GZIP = b"\x1f\x8b"
"""How compressed content begins. The header Content-Encoding proves nothing: some gateways set it wrong."""


class Call(NamedTuple):
    """A call to Arcanna's API. `changes`: the call may have an effect there."""

    method: str
    path: str
    params: Mapping[str, str]
    json: object = None
    changes: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Answer(NamedTuple):
    """A response to a call, from which the API key has been removed."""

    call: Call
    status: int
    text: str
    headers: httpx.Headers

    @classmethod
    def of(cls, call: Call, response: httpx.Response, key: str) -> Self:
        """The answer in `response`, without `key`, the API key."""
        # JSON is UTF-8, whatever charset the response claims. Some services add a byte order mark.
        text = response.content.decode("utf-8-sig", errors="replace")
        if response.content.startswith(_GZIP):
            text = "(The response is compressed, though no compression was asked for. A gateway may do that.)"
        return cls(call, response.status_code, without_key(text, key), response.headers)

    def __str__(self) -> str:
        return f"Arcanna answered {self.call} with {self.status}: {self.text[:SHOWN]!r}"

    def raise_for_status(self) -> None:
        """Raises the error that the status means, unless it is 2xx."""
        if 200 <= self.status < 300:
            return
        if self.status in (401, 403):
            raise Unauthorised(
                f"{self}. Put a valid key with the scopes execute:recompute_model_metrics and"
                " read:job_metrics into the secret."
            )
        if self.status in (404, 422) and self._is_of_arcanna():  # else a gateway's, while Arcanna is away
            raise Rejected(str(self))
        if self.status in (408, 429) or self.status >= 500:
            # The sender, perhaps a gateway, may not know whether the request took effect.
            unknown = self.call.changes and self.status != 429
            raise PlatformUnavailable(str(self), retry_after(self.headers), effect_unknown=unknown)
        raise UndocumentedAnswer(str(self))

    def _is_of_arcanna(self) -> bool:
        """Whether the body of an error has a documented shape."""
        body = json_value(self.text)
        return isinstance(body, dict) and not body.keys().isdisjoint(("error", "detail"))

    def json(self) -> Any:
        """The body as JSON. Raises UndocumentedAnswer.

        Numbers that JSON does not know (NaN, Infinity) are undefined scores: they become null and are logged.
        What AWS's APIs refuse is replaced: whole numbers of more than 64 bits by null, and half a surrogate
        pair by a question mark.
        """
        undefined: list[str] = []
        try:
            # Read twice, because Python also reads 1e999 as a number, and writes it as Infinity.
            plain = json.dumps(json.loads(self.text), ensure_ascii=False).encode(errors="replace").decode()
            body = json.loads(plain, parse_constant=undefined.append, parse_int=_integer)
            levels = _levels(body)
        except (ValueError, RecursionError) as error:
            raise UndocumentedAnswer(f"{self}: not JSON") from error
        if levels > MOST_LEVELS:
            raise UndocumentedAnswer(f"{self}: nested too deeply")
        if undefined:
            logger.warning("undefined numbers", call=str(self.call), numbers=undefined[:20])
        return body

    def json_object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises UndocumentedAnswer."""
        body = self.json()
        if not isinstance(body, dict):
            raise UndocumentedAnswer(f"{self}: not a JSON object")
        return body

    def field(self, body: Mapping[str, Any], name: str, kind: type) -> Any:
        """A required field, of the type `kind` or null. Raises UndocumentedAnswer."""
        if name not in body:
            raise UndocumentedAnswer(f"{self}: {name} is missing")
        value = body[name]
        if value is not None and not isinstance(value, kind):
            raise UndocumentedAnswer(f"{self}: {name} is {value!r:.100}, not a {kind.__name__} or null")
        return value


def _integer(digits: str) -> int | None:
    number = int(digits)
    return number if -(2**63) <= number < 2**63 else None


def _levels(value: Any) -> int:
    """The levels of nested arrays and objects. Raises RecursionError if there are too many to count."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_levels, value.values() if isinstance(value, dict) else value), default=0)


def without_key(text: str, key: str) -> str:
    """The text without the API key, in case a server or gateway echoes it."""
    text = text.replace(key, "[API key]")
    if key.replace("\\", "") in _unescaped(text):
        return "(It quotes the API key, and so is not shown.)"
    return text


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that `Retry-After` asks to wait, as a number or a date; None if there is no such header.

    If a gateway added a second header, the longer wait counts. A proxy may have joined them with a comma.
    """
    date = next(iter(headers.get_list("Date")), "")
    # This also splits a date behind the day of the week, which the rest does not need.
    waits = [_wait(value.strip(), date) for value in headers.get_list("Retry-After", split_commas=True)]
    return max((wait for wait in waits if wait is not None), default=None)


def _wait(value: str, date: str) -> float | None:
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
        return min(float(value), 1e9)
    try:
        # Compared with the clock that wrote it. Every date in HTTP is in UTC (RFC 9110, 5.6.7).
        until, now = (parsedate_to_datetime(text).replace(tzinfo=None) for text in (value, date))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _unescaped(text: str) -> str:
    """Without the escapes of JSON, HTML and URLs, and without backslashes and the zeros of UTF-16."""
    if not set("\\&%\0") & set(text):
        return text
    from html import unescape  # imported here because start-up is billed, and this is rarely needed
    from urllib.parse import unquote

    plain = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), text)
    plain = plain.replace("\\", "").replace("\0", "")
    # unescape() fails with a number of thousands of digits. That of a character has at most seven.
    return unquote(unescape(re.sub(r"&#0*([0-9]{1,7})[0-9]*", r"&#\1", plain)))
