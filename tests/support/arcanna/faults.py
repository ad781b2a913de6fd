"""Misbehaviour on demand, declared as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Endpoint = Literal["recompute", "metrics", "job", "job_and_latest_model", "resources", "scopes", "health"]

# Parts of the API answer 200 with one of these bodies although they have failed.
ERROR_MESSAGE_BODY = {"status": "error", "error_message": "Internal error"}
REASON_BODY = {"status": "error", "reason": "Internal error", "reason_details": "See the logs"}


@dataclass(frozen=True)
class Fault:
    """A fault of matching requests.

    It matches requests to `endpoint` ("any": all) for `model_id` (None: any). It skips the first `skip` of
    them, then strikes every `every`-th, `times` times (None: until cleared).

    The answer comes `slow` seconds late. `status`, `headers` and `body` (text unchanged, anything else as
    JSON) replace the real answer. `fields` replaces and `without` removes fields of it. `drop` cuts the
    connection: "reset" and "close" instead of an answer, "truncate" after half of its body.

    With `after_effect`, the request takes effect before it is delayed, replaced or dropped. Otherwise a
    replaced or dropped request has no effect, and a slow one has it after the delay.
    """

    endpoint: Endpoint | Literal["any"] = "any"
    model_id: str | None = None
    skip: int = 0
    every: int = 1
    times: int | None = 1
    slow: float = 0.0
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    drop: Literal["reset", "close", "truncate"] | None = None
    after_effect: bool = False

    def concerns(self, endpoint: Endpoint, model_id: str | None) -> bool:
        return self.endpoint in ("any", endpoint) and self.model_id in (None, model_id)

    @property
    def replaces_answer(self) -> bool:
        return self.status is not None or self.body is not None


@dataclass
class _Planned:
    fault: Fault
    seen: int = 0
    hits: int = 0

    def is_due(self) -> bool:
        if self.fault.times is not None and self.hits >= self.fault.times:
            return False
        position = self.seen - 1 - self.fault.skip
        return position >= 0 and position % self.fault.every == 0


class FaultPlan:
    """The active faults, in the order they were added. At most one strikes each request."""

    def __init__(self) -> None:
        self._planned: list[_Planned] = []

    def add(self, fault: Fault) -> None:
        self._planned.append(_Planned(fault))

    def remove(self, fault: Fault) -> None:
        self._planned = [plan for plan in self._planned if plan.fault != fault]

    def clear(self) -> None:
        self._planned.clear()

    def take(self, endpoint: Endpoint, model_id: str | None) -> Fault | None:
        """The fault that strikes this request. Counts the request for all faults that match it."""
        concerned = [plan for plan in self._planned if plan.fault.concerns(endpoint, model_id)]
        for plan in concerned:
            plan.seen += 1
        due = next((plan for plan in concerned if plan.is_due()), None)
        if due is None:
            return None
        due.hits += 1
        return due.fault
