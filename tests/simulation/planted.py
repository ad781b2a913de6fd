"""Bugs of the protocol, each planted into the real thing by one small change, that the search must find."""

from copy import deepcopy
from typing import Any, NamedTuple

from arcanna_metrics.coverage import Entry, Plan
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.runs.check import check
from arcanna_metrics.runs.quality import Rules
from arcanna_metrics.runs.run import Check, Run, first_check
from arcanna_metrics.settings import PollSettings
from arcanna_metrics.starter import Fate, Starter
from arcanna_metrics.targets import Model
from arcanna_metrics.times import to_iso
from arcanna_metrics.updates import Update
from tests.simulation.stimuli import KINDS
from tests.simulation.world import MARGIN, SETTLING, Protocol

Request = dict[str, Any]
Definition = dict[str, Any]

GIVE_BACK = "SET pending_at"
"""How the ledger's write begins that gives a claim back."""


def claim_without_condition(request: Request) -> Request:
    return _unconditional(request, "SET run_id")


def pending_without_condition(request: Request) -> Request:
    return _unconditional(request, "SET pending_updates")


def give_back_without_condition(request: Request) -> Request:
    return _unconditional(request, GIVE_BACK)


def places_without_condition(request: Request) -> Request:
    return _unconditional(request, "SET holder")


def _unconditional(request: Request, write: str) -> Request:
    if not request["UpdateExpression"].startswith(write):
        return request
    return {name: part for name, part in request.items() if name != "ConditionExpression"}


def give_back_while_held(request: Request) -> Request:
    if not request["UpdateExpression"].startswith(GIVE_BACK):
        return request
    return {**request, "ConditionExpression": "run_id = :run"}


def claim_counts_as_run(request: Request) -> Request:
    """Updates are acknowledged for a claim that may never become a run."""
    if not request["UpdateExpression"].startswith("SET run_id"):
        return request
    expression = request["UpdateExpression"].replace("REMOVE requested_at,", "REMOVE")
    return {**request, "UpdateExpression": expression.replace("SET", "SET requested_at = :now,")}


def release_without_run_id(definition: Definition) -> Definition:
    return _changed(definition, "Release", {"ConditionExpression": None})


def release_only_once(definition: Definition) -> Definition:
    """A release whose answer was lost is refused when it is tried again, and its pending update forgotten."""
    return _changed(definition, "Release", {"ConditionExpression": "run_id = :run"})


def hold_without_condition(definition: Definition) -> Definition:
    return _changed(definition, "HoldModel", {"ConditionExpression": None})


def coverage_from_a_failed_run(definition: Definition) -> Definition:
    changed = deepcopy(definition)
    parameters = changed["States"]["ReleaseFailed"]["Parameters"]
    expression = parameters["UpdateExpression"].replace("SET", "SET covered_until = :requested_at,")
    parameters["UpdateExpression"] = expression
    parameters["ExpressionAttributeValues"][":requested_at"] = {"S.$": "$.run.requested_at"}
    return changed


def pending_removed_at_release(definition: Definition) -> Definition:
    changed = deepcopy(definition)
    for name in ("ReleaseCompleted", "ReleaseFailed"):
        changed["States"][name]["Parameters"]["UpdateExpression"] += ", pending_at"
    return changed


def asks_again_before_release(definition: Definition) -> Definition:
    """What is pending is read and asked for; what becomes pending from then to the release is forgotten."""
    changed = deepcopy(definition)
    states = changed["States"]
    look = deepcopy(states["HoldModel"])
    look["Parameters"]["ReturnValues"] = "ALL_OLD"
    states["Look"] = {**look, "ResultPath": "$.released", "Next": "Ask"}
    states["Ask"] = {
        "Type": "Choice",
        "Choices": [
            {"Variable": "$.released.Attributes.pending_at.S", "IsPresent": True, "Next": "AskAgain"}
        ],
        "Default": "Release",
    }
    states["AskAgain"]["Next"] = "Release"
    states["Release"] = {
        "Type": "Choice",
        "Choices": [{"Variable": "$.check.status", "StringEquals": "completed", "Next": "ReleaseCompleted"}],
        "Default": "ReleaseFailed",
    }
    states["PublishCompleted"]["Next"] = states["NotifyFailed"]["Next"] = "Look"
    for name in ("ReleaseCompleted", "ReleaseFailed"):
        del states[name]["Parameters"]["ReturnValues"]
    return changed


def _changed(definition: Definition, prefix: str, changes: dict[str, str | None]) -> Definition:
    changed = deepcopy(definition)
    for name, state in changed["States"].items():
        if name.startswith(prefix):
            parameters = state["Parameters"] | changes
            state["Parameters"] = {key: part for key, part in parameters.items() if part is not None}
    return changed


class BaselineAfterRequest(Starter):
    """Cannot tell any more whether it is somebody else's recompute that is running."""

    def _request(self, run: Run, model: Model, entry: Entry) -> Check:
        request = self._arcanna.request_recompute(model)
        run["baseline"] = self._arcanna.metrics(model).as_dict()
        run["platform_requested_at"] = request.requested_at
        return first_check(entry.history, 30)


class RequestedAtAfterRequest(Starter):
    """Takes updates between the request and its answer for covered."""

    def _request(self, run: Run, model: Model, entry: Entry) -> Check:
        answer = super()._request(run, model, entry)
        run["requested_at"] = to_iso(self._clock())
        return answer


class GathersWithoutWaker(Starter):
    """Relies on a message that nobody has sent."""

    def _wait(
        self, planned: Plan, entry: Entry, update: Update, model: Model, now: float
    ) -> tuple[Fate | None, Entry]:
        fate, entry = super()._wait(planned, entry, update, model, now)
        return (Fate("gathered") if fate else None), entry


class WakesOnce(Starter):
    """The message that wakes is not sent again when it is too early."""

    def ask(self, update: Update, model: Model, lease: float) -> Fate:
        fate = super().ask(update, model, lease)
        return Fate("covered") if update.waker and fate.outcome == "waiting" else fate


class AcknowledgesWhatItHasSeen(Starter):
    """An idempotency table that is written before the work is done."""

    def ask(self, update: Update, model: Model, lease: float) -> Fate:
        seen = self.__dict__.setdefault("seen", set())
        if (model, update.happened_at) in seen:
            return Fate("covered")
        seen.add((model, update.happened_at))
        return super().ask(update, model, lease)


def completed_when_idle(
    arcanna: Arcanna, run: Run, last: Check, polls: PollSettings, rules: Rules, now: float
) -> Check:
    """Believes the flag."""
    found = check(arcanna, run, last, polls, rules, now)
    idle = not arcanna.metrics(Model(run["job_id"], run["model_id"])).recomputing
    return {**found, "status": "completed"} if idle else found


def completed_by_any_timestamp(
    arcanna: Arcanna, run: Run, last: Check, polls: PollSettings, rules: Rules, now: float
) -> Check:
    """Believes a timestamp of before the request, if only the baseline had not shown it yet."""
    return check(arcanna, {**run, "platform_requested_at": None}, last, polls, rules, now)


def active_model_not_looked_up_again(
    arcanna: Arcanna, run: Run, last: Check, polls: PollSettings, rules: Rules, now: float
) -> Check:
    """Believes that the model which was active at first still is."""
    return {**check(arcanna, run, last, polls, rules, now), "active_changed": False}


def does_not_ask_for_whom_updates_follow(definition: Definition) -> Definition:
    """Only the run's own cause tells whether there may be another active model to ask for."""
    changed = deepcopy(definition)
    choices = changed["States"]["Conclude"]["Choices"]
    choices[:] = [choice for choice in choices if choice["Next"] != "AskAgainForActive"]
    return changed


def follows_forgotten_when_pending(request: Request) -> Request:
    if not request["UpdateExpression"].startswith("SET pending_updates"):
        return request
    return {**request, "UpdateExpression": request["UpdateExpression"].replace(", follows_at = :follows", "")}


class Planted(NamedTuple):
    """A broken protocol, and the guarantees that it may break."""

    protocol: Protocol
    breaks: tuple[str, ...]


# Some bugs need a coincidence: the search is led to histories with more of the faults that they take.
SLOW = {"is slow": 0.4}
LATE = {"fails, takes effect later": 0.15}
LOST = {"fails after its effect": 0.2}
SLOW_AND_GONE = {"is slow": 0.3, "crashes before its effect": 0.05}
APART = {"flag and timestamp change apart": 0.33, "fails at the platform": 0.1}

TRAINED = {**KINDS, "training": 8, "message": 6, "recent": 6}
FOLLOWING = {"upload": 6, "message": 6, "event": 4, "training": 4}

ONCE: dict[str, Any] = {"places": (0,), "spacing": (0.0,)}

PLANTED = {
    "claim without condition": Planted(Protocol(write=claim_without_condition), ("2", "3")),
    "pending set without condition": Planted(
        Protocol(write=pending_without_condition, rates=SLOW, **ONCE), ("1",)
    ),
    "give back without condition": Planted(Protocol(write=give_back_without_condition, rates=LATE), ("2",)),
    "give back while the workflow holds": Planted(Protocol(write=give_back_while_held, rates=LOST), ("2",)),
    "a claim counts as a run": Planted(Protocol(write=claim_counts_as_run), ("1",)),
    "hold without condition": Planted(Protocol(definition=hold_without_condition, rates=LATE), ("2",)),
    "release without run_id": Planted(Protocol(definition=release_without_run_id, rates=LATE), ("2", "3")),
    "release that cannot be repeated": Planted(Protocol(definition=release_only_once, rates=LOST), ("1",)),
    "coverage from a failed run": Planted(Protocol(definition=coverage_from_a_failed_run), ("4",)),
    "pending removed at release": Planted(
        Protocol(definition=pending_removed_at_release, rates=LOST), ("1",)
    ),
    "ask again before release": Planted(Protocol(definition=asks_again_before_release), ("1",)),
    "baseline after the request": Planted(Protocol(starter=BaselineAfterRequest), ("4",)),
    "requested_at after the request": Planted(Protocol(starter=RequestedAtAfterRequest, rates=SLOW), ("1",)),
    "no margin": Planted(Protocol(margin=SETTLING), ("1",)),
    "settling does not count": Planted(Protocol(margin=MARGIN - SETTLING), ("1",)),
    "acknowledged because seen before": Planted(Protocol(starter=AcknowledgesWhatItHasSeen), ("1",)),
    "gathered without a waker": Planted(Protocol(starter=GathersWithoutWaker), ("1",)),
    "waker that does not come back": Planted(Protocol(starter=WakesOnce), ("1",)),
    "places without condition": Planted(Protocol(write=places_without_condition), ("6",)),
    "completed by the flag alone": Planted(Protocol(check=completed_when_idle), ("4",)),
    "active model not looked up again": Planted(
        Protocol(check=active_model_not_looked_up_again, kinds=TRAINED), ("1",)
    ),
    "whom updates follow not asked for": Planted(
        Protocol(
            definition=does_not_ask_for_whom_updates_follow, kinds=FOLLOWING, rates=SLOW_AND_GONE, **ONCE
        ),
        ("1",),
    ),
    "whom updates follow forgotten when pending": Planted(
        Protocol(write=follows_forgotten_when_pending, kinds=TRAINED), ("1",)
    ),
    "completed by any timestamp": Planted(Protocol(check=completed_by_any_timestamp, rates=APART), ("4",)),
}
