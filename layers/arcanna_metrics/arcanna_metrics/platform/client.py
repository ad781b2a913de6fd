"""The Arcanna management API, as far as recomputes need it.

Only documented answers count as answers: other parts of the API answer 200 with an error body, so a 200 is
a success only if its body has the documented shape.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any, Literal

import httpx

from arcanna_metrics.errors import BadInput, PlatformUnavailable, Rejected, Unauthorised, UndocumentedAnswer
from arcanna_metrics.platform.tls import advice
from arcanna_metrics.targets import Model, identifier

REQUEST_STATUSES = ("queued", "in_progress", "completed", "failed")
FIGURES = (
    "overall_accuracy",
    "overall_f1_score",
    "overall_recall",
    "overall_precision",
    "confusion_matrix",
    "metrics_per_decision",
    "kb_count_per_decision",
    "buckets_in_kb",
)
LARGEST_METRICS = 48 * 1024
"""Bytes of JSON. A workflow has 256 KiB for the metrics from before, those from after, and what differs."""

RequestStatus = Literal["queued", "in_progress", "completed", "failed"]
ApiKey = Callable[[bool], str]
"""Gives the API key; True asks for it to be read again."""


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """What the platform shows of a model. `figures` holds the scores under their documented names."""

    recomputing: bool
    timestamp: str | None
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For workflow data and outcome events."""
        return {"last_recomputed_timestamp": self.timestamp, **self.figures}


@dataclass(frozen=True, slots=True)
class RecomputeRequest:
    """The platform's answer to a request: its status word, and its own time of the request."""

    status: RequestStatus
    requested_at: str | None


class Arcanna:
    """A client for one platform. Safe for several threads; keeps its connections.

    Every method raises PlatformUnavailable, UndocumentedAnswer, Unauthorised, ApiKeyUnavailable (all
    RetryLater) or Rejected.
    """

    def __init__(self, http: httpx.Client, api_key: ApiKey) -> None:
        self._http = http
        self._api_key = api_key

    def metrics(self, model: Model) -> ModelMetrics:
        """The model's metrics and whether they are being recomputed."""
        body = self._call("GET", "/api/v2/metrics/model", model._asdict())
        recomputing = _field(body, "is_recomputing_metrics", bool)
        timestamp = _field(body, "last_recomputed_timestamp", str)
        if (size := len(json.dumps(body))) > LARGEST_METRICS:
            raise UndocumentedAnswer(
                f"The metrics have {size} bytes, more than the {LARGEST_METRICS} that a workflow can take"
            )
        shown = body.get("model_id")
        if shown is not None and shown != model.model_id:
            raise UndocumentedAnswer(f"Arcanna answered with another model's metrics: {shown!r:.300}")
        return ModelMetrics(bool(recomputing), timestamp, {name: body.get(name) for name in FIGURES})

    def request_recompute(self, model: Model) -> RecomputeRequest:
        """Asks the platform to recompute the model's metrics in its own time."""
        body = self._call("POST", "/api/v2/metrics/model/request_recompute_metrics", model._asdict())
        status = body.get("status")
        if status not in REQUEST_STATUSES:
            raise UndocumentedAnswer(f"Arcanna answered the request with the status {status!r:.100}")
        requested_at = body.get("requested_at")
        return RecomputeRequest(status, requested_at if isinstance(requested_at, str) else None)

    def active_model(self, job_id: str) -> str:
        """The id of the model that the job uses now."""
        body = self._call("POST", "/api/v2/metrics/job", {"job_id": job_id}, json={})
        model_id: str | None = _field(body, "active_model_id", str)
        if not model_id:
            raise Rejected(f"Job {job_id!r} has no active model. Train it, or name a model_id in its route.")
        try:
            return identifier("active_model_id", model_id)
        except BadInput as error:
            raise UndocumentedAnswer(f"Arcanna named an active model that is none: {error}") from error

    def scopes(self) -> list[str]:
        """What the key may do, as the platform lists it. Changes nothing, and needs no scope itself."""
        listed = self._call("GET", "/api/v2/token/scopes", {}, kind=list)
        if not all(isinstance(scope, str) for scope in listed):
            raise UndocumentedAnswer(f"Arcanna's scopes are no list of texts: {json.dumps(listed)[:300]}")
        return list(listed)

    def _call(
        self, method: str, path: str, params: Mapping[str, str], json: object = None, kind: type = dict
    ) -> Any:
        """One call; where the key is refused and the secret holds a new one, one more with that.

        Its answer is JSON of that kind.
        """
        key = self._api_key(False)
        response = self._send(method, path, params, key, json)
        if response.status_code in (401, 403) and (fresh := self._api_key(True)) != key:
            key = fresh
            response = self._send(method, path, params, key, json)
        # JSON is UTF-8, whatever charset the answer claims. Should anything on the way echo the key, it goes
        # no further than this line.
        text = response.content.decode(errors="replace").replace(key, "[API key]")
        if ("\\" in text or "&" in text) and key.replace("\\", "") in _unescaped(text):
            text = "(It quotes the API key, and so is not shown.)"
        return _body(response, text, f"{method} {path}", kind)

    def _send(
        self, method: str, path: str, params: Mapping[str, str], key: str, json: object
    ) -> httpx.Response:
        try:
            # Redirects are not followed: they would carry the key elsewhere.
            return self._http.request(
                method,
                path,
                params=params,
                json=json,
                headers={"X-Arcanna-Api-Key": key, "Accept": "application/json"},
                follow_redirects=False,
            )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the latter two of a redirect
            # Not `from error`: the transport's errors may quote the request, and with it the key.
            said = str(error).replace(key, "[API key]")[:300]
            raise PlatformUnavailable(
                f"Arcanna gave no answer to {method} {path}: {type(error).__name__}: {said}{advice(error)}"
            ) from None


def _body(response: httpx.Response, text: str, call: str, kind: type) -> Any:
    """The JSON of a 200 answer; any other answer as the error that it means."""
    status = response.status_code
    said = f"Arcanna answered {call} with {status}: {text[:300]!r}"
    if status in (401, 403):
        raise Unauthorised(
            f"{said}. Put a valid key with the scopes execute:recompute_model_metrics and"
            " read:job_metrics into the secret."
        )
    if status in (404, 422):
        raise Rejected(said)
    if status == 429 or status >= 500:
        raise PlatformUnavailable(said, retry_after(response.headers))
    if status != 200:
        raise UndocumentedAnswer(said)
    try:
        body = json.loads(text, parse_constant=_finite, parse_float=_finite)
        json.dumps(body, ensure_ascii=False).encode()  # half a surrogate pair can be read, but not passed on
    except (ValueError, RecursionError) as error:
        raise UndocumentedAnswer(f"{said}: not JSON") from error
    if not isinstance(body, kind):
        raise UndocumentedAnswer(f"{said}: no JSON {'object' if kind is dict else 'list'}")
    return body


def _unescaped(text: str) -> str:
    """Without the escapes of JSON and HTML, and without backslashes."""
    from html import unescape  # start-up is billed, and this is seldom needed

    return unescape(
        re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), text).replace("\\", "")
    )


def _finite(number: str) -> float:
    """JSON knows no NaN and no infinity, and the workflow's data must be JSON."""
    if not isfinite(value := float(number)):
        raise ValueError(f"{number} is not JSON")
    return value


def _field(body: Mapping[str, Any], name: str, kind: type) -> Any:
    """A field that must be there, and be of its kind or null."""
    if name not in body:
        raise UndocumentedAnswer(f"Arcanna's answer lacks {name}: {json.dumps(body)[:300]}")
    value = body[name]
    if value is not None and not isinstance(value, kind):
        raise UndocumentedAnswer(f"Arcanna's {name} is {value!r:.100}, not a {kind.__name__} or null")
    return value


def retry_after(headers: httpx.Headers) -> float | None:
    """Seconds that the `Retry-After` header asks to wait, given as seconds or as a date; else None."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
        # Against the same clock that wrote it, where it says so.
        now = parsedate_to_datetime(headers["Date"])
        return max(0.0, (date - now).total_seconds())
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
