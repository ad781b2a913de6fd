"""Correct answers in odd notations that similar services use.

A byte order mark before the JSON; whole numbers with a point; "" for a time that is not set; NaN for a share
of nothing; 202 for a request that is accepted; headers that a gateway adds in any encoding.
"""

import json
from math import nan
from typing import Any

from starlette.responses import Response

from tests.support.arcanna.faults import Endpoint

HEADERS = [
    (b"x-owner", "Z\u00fcrich".encode("latin-1")),
    (b"x-owner", "Z\u00fcrich".encode()),
    (b"set-cookie", "owner=Z\u00fcrich".encode("latin-1")),
]
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def odd(answer: Response, endpoint: Endpoint) -> Response:
    """The same answer in odd notation. An error keeps its message and status."""
    body, status = json.loads(bytes(answer.body)), answer.status_code
    if status == 200:
        body = _with_points(_undefined(body) if isinstance(body, dict) else body)
        status = 202 if endpoint == "recompute" else 200
    written = Response(BYTE_ORDER_MARK + json.dumps(body).encode(), status, media_type="application/json")
    written.raw_headers += HEADERS
    return written


def _undefined(body: dict[str, Any]) -> dict[str, Any]:
    """The figures of a job or a model, with NaN and "" for undefined values."""
    per_decision = {name: _scores(of) for name, of in body.get("metrics_per_decision", {}).items()}
    changed: dict[str, Any] = {"metrics_per_decision": per_decision} if per_decision else {}
    for name, value in body.items():
        mean_of = [scores.get(name.removeprefix("overall_")) for scores in per_decision.values()]
        if name.startswith("overall_") and (value is None or any(score != score for score in mean_of)):
            changed[name] = nan
        elif name.endswith(("_time", "_timestamp")) and value is None:
            changed[name] = ""
        elif name == "active_model_metrics":
            changed[name] = _undefined(value)
    return {**body, **changed}


def _scores(of: dict[str, float]) -> dict[str, float]:
    """A decision's scores, with NaN where the denominator is 0."""
    predicted = of["true_positives"] + of["false_positives"]
    true = of["true_positives"] + of["false_negatives"]
    undefined = {"precision": nan} if not predicted else {}
    return {**of, **undefined, **({"recall": nan} if not true else {})}


def _with_points(value: Any) -> Any:
    """The value with every integer as a float."""
    if isinstance(value, dict):
        return {name: _with_points(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_points(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
