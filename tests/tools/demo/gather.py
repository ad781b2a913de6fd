"""Gathers the record of a demo from its installation."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from arcanna_metrics.times import from_iso
from arcanna_metrics_cli.deployed import Deployed
from arcanna_metrics_cli.report import Gatherer
from arcanna_metrics_cli.report.facts import Facts
from tests.support.arcanna.platform import Recompute
from tests.support.installation import Installation
from tests.tools.demo.record import Model, Outage, Poll, Record, Run, Upload


def gather(
    here: Installation,
    jobs: Mapping[str, str],
    uploads: Sequence[Upload],
    outage: tuple[float, float],
    outcomes: Iterable[Mapping[str, Any]],
    summary: Mapping[str, str],
    promises: Mapping[str, bool],
) -> Record:
    """The record of a demo whose runs have all ended.

    `jobs` gives the job's name by model id, `uploads` and `outage` have epoch seconds, `outcomes` are events.
    """
    began = min(upload.at for upload in uploads)
    lines = here.cloud.log_records("CheckStatusFunction")
    checks = [line for line in lines if line.get("message") == "status checked"]
    of_run = {outcome["detail"]["run_id"]: outcome for outcome in outcomes}
    runs: dict[str, list[Run]] = {model_id: [] for model_id in jobs}
    for execution in here.cloud.executions():
        if not (outcome := of_run.get(execution["name"])):
            continue
        model_id = outcome["detail"]["model_id"]
        runs[model_id].append(run_of(execution, outcome, checks, here.arcanna.recomputes(model_id), began))
    return Record(
        facts=facts_of(here, jobs),
        models=tuple(Model(job, model_id, tuple(runs[model_id])) for model_id, job in jobs.items()),
        uploads=tuple(replace(upload, at=upload.at - began) for upload in uploads),
        outage=Outage(
            outage[0] - began,
            outage[1] - began,
            tuple(
                Poll(from_iso(line["timestamp"]) - began, f"{line['reason']}: {line['detail']}")
                for line in here.cloud.log_records("TriggerRecomputeFunction")
                if line.get("message") == "attempt failed"
            ),
        ),
        summary=dict(summary),
        promises=dict(promises),
    )


def facts_of(here: Installation, jobs: Mapping[str, str]) -> Facts:
    """The report's facts of the stack, with the names of the demo's jobs."""
    os.environ |= here.cloud.variables
    facts = Gatherer(Deployed(here.cloud.variables["STACK"])).look(time.time())
    named = (replace(model, job_name=jobs.get(model.model_id or "")) for model in facts.models)
    return replace(facts, models=tuple(named))


def run_of(
    execution: Mapping[str, Any],
    outcome: Mapping[str, Any],
    checks: Iterable[Mapping[str, Any]],
    recomputes: Iterable[Recompute],
    began: float,
) -> Run:
    """A run: from its execution, its outcome event, the log lines of checks and what the platform did.

    The release of the target is the last step of an execution, so its end counts as the release.
    """
    detail = outcome["detail"]
    claimed, released = from_iso(detail["requested_at"]), execution["stopDate"].timestamp()
    work = [
        (ask.at, recompute.started_at, recompute.finished_at)
        for recompute in recomputes
        for ask in recompute.asks
        if claimed <= ask.at <= released
    ]
    asked, started, finished = (
        None if at is None else at - began for at in (work[0] if work else (None, None, None))
    )
    return Run(
        run_id=detail["run_id"],
        claimed_at=claimed - began,
        asked_at=asked,
        started_at=started,
        finished_at=finished,
        polls=tuple(
            Poll(from_iso(check["timestamp"]) - began, check["detail"])
            for check in checks
            if check["run_id"] == detail["run_id"]
        ),
        released_at=released - began,
        outcome=outcome["detail-type"],
        verdict=detail.get("verdict"),
        why=detail["why"] if "why" in detail else f"{detail['reason']}: {detail['detail']}",
    )
