"""Turns a claim into a run that its workflow follows."""

from dataclasses import replace
from typing import Any

from arcanna_metrics.controller.reference import learn_baseline
from arcanna_metrics.controller.services import Services
from arcanna_metrics.errors import ActiveModelChanged, AwsUnavailable, PlatformBusy, Rejected
from arcanna_metrics.observability import count, logger
from arcanna_metrics.protocol.decide import Start, decide
from arcanna_metrics.protocol.entry import NEVER, Claim, Entry, Waiting, earliest
from arcanna_metrics.protocol.transitions import satisfy
from arcanna_metrics.runs.check import active_model_changed, failed_at_start, first_check
from arcanna_metrics.runs.limits import as_many_as_fit
from arcanna_metrics.runs.outcome import Origin, fitting
from arcanna_metrics.runs.quality import Rules, measured
from arcanna_metrics.runs.run import Cause, Check, Object, Run
from arcanna_metrics.settings import JobSettings, Pace
from arcanna_metrics.targets import Model, is_id
from arcanna_metrics.times import from_iso, parsed, to_iso
from arcanna_metrics.workflow import input_of

LARGEST_CLOCK_LEAD = 3600.0
"""Seconds that the platform's clock may be ahead. A later timestamp does not prove fresh metrics."""

LARGEST_EXAMPLES = 6 * 1024
"""Bytes of JSON. A key and a version may have 1,024 bytes each, and usually have a tenth of that."""


def start(services: Services, entry: Entry, claim: Claim) -> None:
    """Turns the claim into a run, or gives it back if the platform's metrics already satisfy a wish.

    `entry` is the entry as it was claimed. Everything that the workflow needs is built before the request, so
    that every request is followed. If the platform rejects the request, the run has failed. The workflow then
    reports it and releases the target, as for every run. Raises RetryLater; the caller then gives the claim
    back.
    """
    arcanna, (job_id, model_id) = services.arcanna, entry.target
    run = new_run(entry, claim, services.settings().for_job(job_id))
    try:
        model = Model(job_id, model_id or arcanna.active_model(job_id))
        run["model_id"] = model.model_id
        shown = arcanna.metrics(model)
        # Arcanna's clock may be wrong, so the last run of this model that the ledger knows counts as well.
        known = [past["requested_at"] for past in entry.history if past["model_id"] == model.model_id]
        if any(give_back_if_satisfied(services, entry, claim, at) for at in (shown.timestamp, *known[-1:])):
            return
        if shown.recomputing:
            # It may use older data than ours, and its end could be mistaken for the end of ours.
            raise PlatformBusy(f"Arcanna is recomputing {model.model_id!r} already")
        _add_baseline(services, run, model, shown.as_dict())
        check = _request(services, run, model)
    except Rejected as error:
        if run["model_id"] is not None and active_model_changed(arcanna, run):
            raise ActiveModelChanged(f"{run['model_id']!r} is no longer the active model") from error
        check = _failed(services, run, type(error).__name__, str(error))
    try:
        services.workflow.start(run["run_id"], input_of(run, check))
    except AwsUnavailable as error:
        # If the request was accepted, the recompute may be queued: treat it as a request of unknown effect.
        error.effect_unknown = run["accepted_at"] is not None
        raise
    told = {"model_id": run["model_id"], "status": check["status"], "updates": run["cause"]}
    logger.info("run started", extra=told)
    if check["status"] == "running":
        count("RecomputesRequested")


def new_run(entry: Entry, claim: Claim, settings: JobSettings) -> Run:
    """The run that claims the entry, as far as it is known without asking the platform."""
    (job_id, model_id), (pace, gate), asked = entry.target, settings, claim.requested_at
    return {
        "run_id": claim.run_id,
        "target": {"job_id": job_id, "model_id": model_id},
        "job_id": job_id,
        "model_id": model_id,
        "cause": _cause_of(entry.waiting, asked, pace),
        "requested_at": to_iso(asked),
        "accepted_at": None,
        "platform_requested_at": None,
        "platform_job_id": None,
        "baseline": None,
        "baseline_cut": False,
        "pace": {
            "deadline": pace.deadline,
            "start_grace": pace.start_grace,
            "shortest_poll": pace.shortest_poll,
            "longest_poll": pace.longest_poll,
        },
        "gate": gate,
        "durations": [past["duration_seconds"] for past in entry.history],
        "reference": None,
    }


def _add_baseline(services: Services, run: Run, model: Model, shown: dict[str, Any]) -> None:
    """Adds the baseline and the reference to the run."""
    # The reference is of all metrics shown. For the workflow, a large baseline is cut.
    run["reference"] = learn_baseline(services.ledger, run, model, measured(shown, Rules(**run["gate"])))
    run["baseline"] = kept = fitting(shown)
    run["baseline_cut"] = kept["metrics_per_decision"] != shown["metrics_per_decision"]


def _cause_of(waiting: Waiting, asked: float, pace: Pace) -> Cause:
    """For people: the updates that led to the run that claimed the target then."""
    shares = (element.as_of - pace.visibility_lag for element in waiting.batch)
    first_at = earliest(waiting.since, waiting.wanted_at, *shares) or asked
    examples = [Object(bucket=bucket, key=key, version_id=v) for bucket, key, v in waiting.examples]
    return {
        "kind": waiting.cause,
        "updates": max(waiting.updates, 1),
        "first_at": to_iso(first_at),
        "last_at": to_iso(max(first_at, waiting.last_at)),
        "examples": as_many_as_fit(examples, LARGEST_EXAMPLES),
    }


def _request(services: Services, run: Run, model: Model) -> Check:
    """Requests the recompute, and adds the platform's answer to the run. Returns its first check."""
    check = first_check(run)
    answered = services.arcanna.request_recompute(model)
    run["accepted_at"] = to_iso(services.clock())
    run["platform_requested_at"] = answered.requested_at
    run["platform_job_id"] = None if is_id(model.job_id) else answered.job_id
    if answered.failed:
        detail = "Arcanna answered the request itself with the status failed"
        check = _failed(services, run, "RequestFailed", detail)
    return check


def _failed(services: Services, run: Run, reason: str, detail: str) -> Check:
    execution = services.workflow.arn(run["run_id"])
    return failed_at_start(run, reason, detail, Origin(execution, services.event_bus, services.clock()))


def give_back_if_satisfied(services: Services, entry: Entry, claim: Claim, timestamp: str | None) -> bool:
    """Gives the claim back, and returns True, if it is for a wish only, and the metrics satisfy it."""
    now, pace = services.clock(), services.pace(entry)
    without_wish = replace(entry.waiting, wanted_as_of=NEVER)
    if isinstance(decide(replace(entry, waiting=without_wish), now, pace), Start):
        return False
    try:
        made, offset = from_iso(timestamp or ""), parsed(timestamp or "").tzinfo
    except ValueError:
        return False  # no time, or an unreadable one: no proof of freshness
    if offset is None:
        return False  # read as UTC, which may be wrong by hours
    if not entry.waiting.wanted_as_of <= made <= now + LARGEST_CLOCK_LEAD:
        return False
    services.ledger.apply(entry.target, satisfy, claim.run_id, made, pace)
    return True
