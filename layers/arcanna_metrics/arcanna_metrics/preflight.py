"""Checks, from inside the function, that everything that a recompute needs is available."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from arcanna_metrics.errors import (
    ApiKeyUnavailable,
    AwsUnavailable,
    RecomputeError,
    Rejected,
    RetryLater,
    Unauthorised,
)
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.settings import Settings
from arcanna_metrics.targets import Model, Target

SCOPES = {"execute:recompute_model_metrics", "read:job_metrics"}
RESERVE = 45.0
"""Seconds kept for the last target: two calls, each of which may time out and be repeated."""


class Finding(NamedTuple):
    """One check's result. `reason` is None if it passed, or an error's name, ScopesMissing or OutOfTime."""

    check: str
    reason: str | None
    detail: str


def preflight(
    arcanna: Arcanna, settings: Callable[[], Settings], remaining: Callable[[], float]
) -> list[Finding]:
    """Checks the platform, the key, its scopes, the settings and targets of routes. Changes nothing.

    `remaining` returns the invocation's remaining seconds. If a call fails, the checks that need its response
    are left out, and an earlier finding says why.
    """
    platform = _platform(arcanna)
    try:
        targets = sorted(settings().routes.fixed_targets(), key=str)
    except RecomputeError as error:
        return [*platform, _failed("settings", error)]
    answered = any(finding.check == "scopes" for finding in platform)
    known = _targets(arcanna, targets, remaining) if targets and answered else []
    return [*platform, Finding("settings", None, "The settings are valid"), *known]


class LookUp(NamedTuple):
    """What Arcanna knows about a target. `reason` is None if a recompute can be requested.

    `model_id` is the target's current model, and `metrics` are its metrics. If Arcanna does not know the
    target, `unknown` says which part. `known` lists the alternatives: ids and names of jobs, or the ids of
    the job's models.
    """

    reason: str | None
    detail: str
    recomputing: bool = False
    model_id: str | None = None
    metrics: dict[str, Any] | None = None
    unknown: Literal["job", "model"] | None = None
    known: Sequence[str] = ()


def look_up(arcanna: Arcanna, target: Target) -> LookUp:
    """Looks a target up before somebody requests its recompute. Changes nothing."""
    model_id = target.model_id
    try:
        model_id = model_id or arcanna.active_model(target.job_id)
        shown = arcanna.metrics(Model(target.job_id, model_id))
    except Rejected as error:
        return _unknown(arcanna, target, error)
    except RetryLater as error:
        return LookUp(type(error).__name__, str(error), model_id=model_id)
    return LookUp(None, "Arcanna knows the model", shown.recomputing, model_id, shown.as_dict())


def _unknown(arcanna: Arcanna, target: Target, error: Rejected) -> LookUp:
    """Which part of the target Arcanna does not know. Ignores errors in listing names, which only help."""
    found = LookUp(type(error).__name__, str(error))
    with suppress(RetryLater):
        try:
            found = found._replace(unknown="model", known=arcanna.models(target.job_id))
        except Rejected:
            found = found._replace(unknown="job")  # also if the listing fails
            found = found._replace(known=arcanna.job_names())
    return found


def _platform(arcanna: Arcanna) -> list[Finding]:
    """One call proves that the platform answers and accepts the key, and lists the key's scopes."""
    try:
        scopes = {":".join(scope.split(":")[:2]) for scope in arcanna.scopes()}  # without their narrowing
    except (ApiKeyUnavailable, AwsUnavailable, Unauthorised) as error:
        return [_failed("key", error)]
    except (RetryLater, Rejected) as error:
        return [_failed("platform", error)]
    lacking = " and ".join(sorted(SCOPES - scopes))
    return [
        Finding("platform", None, "Arcanna answers the functions"),
        Finding("key", None, "Arcanna accepts the key"),
        Finding("scopes", "ScopesMissing", f"The key lacks {lacking}")
        if lacking
        else Finding("scopes", None, "The key may read metrics and request recomputes"),
    ]


def _targets(arcanna: Arcanna, targets: Sequence[Target], remaining: Callable[[], float]) -> list[Finding]:
    wrong: list[Finding] = []
    for number, target in enumerate(targets):
        if remaining() < RESERVE:
            detail = (
                f"Only {number} of the {len(targets)} targets that the routes name could be checked in time"
            )
            return [*wrong, Finding("targets", "OutOfTime", detail)]
        try:
            model_id = target.model_id or arcanna.active_model(target.job_id)
            arcanna.metrics(Model(target.job_id, model_id))
        except Rejected as error:
            wrong.append(_failed("targets", error, f"{target}: "))
        except RetryLater as error:
            return [*wrong, _failed("targets", error, f"{target}: ")]
    return wrong or [
        Finding("targets", None, f"Arcanna knows every target that the routes name ({len(targets)})")
    ]


def _failed(check: str, error: RecomputeError, of: str = "") -> Finding:
    return Finding(check, type(error).__name__, f"{of}{error}")
