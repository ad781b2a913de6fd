"""Every state and every transition of the workflow, taken at least once: the execution histories show it.

The executions are started by hand, each on a model of its own and with the fault that leads its way, all at
once. That includes what a healthy system never does.
"""

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from arcanna_metrics.runs.run import Check, Run, first_check
from arcanna_metrics.times import from_iso, to_iso
from tests.arcanna.faults import Fault
from tests.e2e.conftest import JOB
from tests.e2e.test_main_job import ledger_entry
from tests.harness import Installation, wait_for
from tests.local_cloud import ApiFault, Call

DEFINITION = yaml.safe_load(Path("functions/recompute_workflow.asl.yaml").read_text())
HELD = ["HoldModel", "Judge"]
REGRESSED = ["NotifyRegressed", "PublishRegressed"]
COMPLETED = ["PublishCompleted", "ReleaseCompleted", "Conclude", "Completed"]
FAILED = ["PublishFailed", "NotifyFailed", "ReleaseFailed", "Conclude", "RecomputeFailed"]


@dataclass(frozen=True)
class Way:
    """How an execution is led (a first status, faults) and the states that it must take."""

    states: list[str]
    status: str = "running"
    verdict: str = "not_judged"
    error: str | None = None
    held: bool = True
    pending: bool = False
    followed: bool = False
    active_changed: bool = False
    broken_run: bool = False
    fault: tuple[str, str, str] | None = None
    """Service, operation and error, of all tries."""
    skip: Callable[[Call], bool] = field(default=lambda call: False)
    platform: Fault | None = None


def _is_hold(call: Call) -> bool:
    return "lease_expires_at = :until" in call.parameters["UpdateExpression"]


CONDITION = "ConditionalCheckFailedException"
DENIED = "AccessDeniedException"  # which nothing below the workflow retries
WAYS = {
    "completed": Way(
        [*HELD, "Wait", "CheckStatus", "Judge", *COMPLETED],
    ),
    "completed, updates waiting": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "Conclude", "AskAgain", "Conclude", "Completed"],
        status="completed",
        pending=True,
    ),
    "regressed": Way([*HELD, *REGRESSED, *COMPLETED], status="completed", verdict="regressed"),
    "regression not notified": Way(
        [*HELD, *REGRESSED, "PublishCompleted", "ReleaseCompleted", "Conclude", "NotTold"],
        status="completed",
        verdict="regressed",
        fault=("sns", "Publish", DENIED),
        error="NotTold",
    ),
    "regression not published": Way(
        [*HELD, *REGRESSED, "PublishCompleted", "ReleaseCompleted", "Conclude", "NotTold"],
        status="completed",
        verdict="regressed",
        fault=("events", "PutEvents", DENIED),
        error="NotTold",
    ),
    "failed": Way([*HELD, *FAILED], status="failed", error="because"),
    "timed out": Way([*HELD, *FAILED], status="timed_out", error="because"),
    "unknown status": Way(
        [*HELD, "UnknownStatus", "GiveUp", *FAILED], status="splendid", error="UnknownStatus"
    ),
    "superseded": Way(["HoldModel", "Superseded"], held=False, error="Superseded"),
    "ledger down at the start": Way(
        ["HoldModel", "GiveUp", *FAILED],
        fault=("dynamodb", "UpdateItem", DENIED),
        skip=lambda call: not _is_hold(call),
        error="DynamoDB.AccessDeniedException",
    ),
    "platform down": Way(
        [*HELD, "Wait", "CheckStatus", "ParseCause", "TakeMessage", "GiveUp", *FAILED],
        platform=Fault("metrics", times=None, status=503),
        error="PlatformUnavailable",
    ),
    "check broken": Way(
        [*HELD, "Wait", "CheckStatus", "ParseCause", "TakeMessage", "GiveUp", *FAILED],
        broken_run=True,
        error="BadInput",
    ),
    "check not allowed": Way(
        [*HELD, "Wait", "CheckStatus", "GiveUp", *FAILED],
        fault=("lambda", "Invoke", DENIED),
        error="Exception",  # the interpreter's; Step Functions itself says Lambda.AccessDeniedException
    ),
    "completion not published": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "Conclude", "NotTold"],
        status="completed",
        fault=("events", "PutEvents", DENIED),
        error="NotTold",
    ),
    "failure not published": Way(
        [*HELD, "PublishFailed", "NotifyFailed", "ReleaseFailed", "Conclude", "NotTold"],
        status="failed",
        fault=("events", "PutEvents", DENIED),
        error="NotTold",
    ),
    "failure not notified": Way(
        [*HELD, "PublishFailed", "NotifyFailed", "ReleaseFailed", "Conclude", "NotTold"],
        status="failed",
        fault=("sns", "Publish", DENIED),
        error="NotTold",
    ),
    "superseded before the release": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "Conclude", "Completed"],
        status="completed",
        fault=("dynamodb", "UpdateItem", CONDITION),
        skip=_is_hold,
    ),
    "superseded before the release of a failure": Way(
        [*HELD, *FAILED],
        status="failed",
        fault=("dynamodb", "UpdateItem", CONDITION),
        skip=_is_hold,
        error="because",
    ),
    "completion not released": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "NotReleased"],
        status="completed",
        fault=("dynamodb", "UpdateItem", DENIED),
        skip=_is_hold,
        error="NotReleased",
    ),
    "failure not released": Way(
        [*HELD, "PublishFailed", "NotifyFailed", "ReleaseFailed", "NotReleased"],
        status="failed",
        fault=("dynamodb", "UpdateItem", DENIED),
        skip=_is_hold,
        error="NotReleased",
    ),
    "not asked again": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "Conclude", "AskAgain", "NotAskedAgain"],
        status="completed",
        pending=True,
        fault=("sqs", "SendMessage", DENIED),
        error="NotAskedAgain",
    ),
    "updates waiting, and one that follows": Way(
        [
            *HELD,
            "PublishCompleted",
            "ReleaseCompleted",
            *("Conclude", "AskAgain", "Conclude", "AskAgainForActive", "Conclude", "Completed"),
        ],
        status="completed",
        pending=True,
        followed=True,
    ),
    "one that follows not asked for": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "Conclude", "AskAgainForActive", "NotAskedAgain"],
        status="completed",
        followed=True,
        fault=("sqs", "SendMessage", DENIED),
        error="NotAskedAgain",
    ),
    "another model active": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "Conclude", "AskForActive", "Conclude", "Completed"],
        status="completed",
        active_changed=True,
    ),
    "another model active, and later ones that follow": Way(
        [
            *HELD,
            "PublishCompleted",
            "ReleaseCompleted",
            *("Conclude", "AskAgainForActive", "Conclude", "AskForActive", "Conclude", "Completed"),
        ],
        status="completed",
        followed=True,
        active_changed=True,
    ),
    "another model active, and not asked for": Way(
        [*HELD, "PublishCompleted", "ReleaseCompleted", "Conclude", "AskForActive", "NotAskedAgain"],
        status="completed",
        active_changed=True,
        fault=("sqs", "SendMessage", DENIED),
        error="NotAskedAgain",
    ),
}


@dataclass(frozen=True)
class Taken:
    """An execution that has ended: how, and by which states."""

    model: str
    execution: dict[str, Any]
    states: list[str]


@pytest.fixture(scope="module")
def taken(here: Installation, fresh_model: Callable[[], str]) -> dict[str, Taken]:
    models = {name: fresh_model() for name in WAYS}
    faults: list[ApiFault] = []
    arns = {name: _start(here, models[name], way, faults) for name, way in WAYS.items()}
    states = here.cloud.client("stepfunctions")

    def ended() -> dict[str, Taken]:
        found = {name: states.describe_execution(executionArn=arn) for name, arn in arns.items()}
        if any(execution["status"] == "RUNNING" for execution in found.values()):
            return {}
        return {n: Taken(models[n], e, _states(here.cloud.history(arns[n]))) for n, e in found.items()}

    found = wait_for("the end of all executions", ended, 90)
    for fault in faults:
        fault.times = 0  # the operator has mended it
    return found


def _start(here: Installation, model: str, way: Way, faults: list[ApiFault]) -> str:
    run_id = str(uuid.uuid4())
    last_at = to_iso(
        from_iso(PAST) + int(model.partition("-model-")[2][:10]) % 86400
    )  # its own, in any message
    run: Run = {
        "run_id": run_id,
        "job_id": str(JOB),
        "model_id": model,
        "label": "by hand",
        "cause": {"kind": "manual", "updates": 1, "first_at": PAST, "last_at": last_at, "sample": []},
        "requested_at": PAST,
        "deadline_at": FUTURE,
        "lease_until": FUTURE,
        "platform_requested_at": None,
        "baseline": None,
        "follows_active": False,
    }
    check: Check = {**first_check([], 1), "status": way.status, "reason": "because"}  # type: ignore[typeddict-item]
    check["active_changed"] = way.active_changed
    check["quality"] = {"verdict": way.verdict, "why": "", "differences": []}  # type: ignore[typeddict-item]
    if way.broken_run:
        del run["deadline_at"]  # type: ignore[misc]
    if way.held:
        held = {"run_id": run_id, "requested_at": PAST, "lease_expires_at": FUTURE}
        texts = {"job_id": str(JOB), "model_id": model, **held} | (
            {"follows_at": last_at} if way.followed else {}
        )
        item: dict[str, Any] = {name: {"S": text} for name, text in texts.items()}
        if way.pending:
            pending = {"pending_at": {"S": PAST}, "pending_since": {"S": PAST}, "pending_updates": {"N": "2"}}
            item |= pending
        here.cloud.client("dynamodb").put_item(TableName=here.cloud.outputs["LedgerTable"], Item=item)
    if way.fault:
        service, operation, error = way.fault
        fault = ApiFault(
            service,
            operation,
            error,
            status=400,
            times=1000,
            role=here.cloud.physical_id("RecomputeWorkflowRole"),
            where=lambda call: (
                any(own in json.dumps(call.parameters, default=str) for own in (model, last_at))
                and not way.skip(call)
            ),
        )
        faults.append(here.cloud.inject(fault))
    if way.platform:
        here.arcanna.add_fault(Fault(**{**vars(way.platform), "model_id": model}))
    elif way.states[-1] == "Completed" and way.status == "running":
        here.arcanna.external_recompute(JOB, model)  # the recompute that this run finds done
    started = here.cloud.client("stepfunctions").start_execution(
        stateMachineArn=here.cloud.outputs["RecomputeWorkflowArn"],
        name=run_id,
        input=json.dumps({"run": run, "check": check}),
    )
    return str(started["executionArn"])


PAST = "2026-01-01T00:00:00.000Z"
FUTURE = "2126-01-01T00:00:00.000Z"


def _states(history: list[dict[str, Any]]) -> list[str]:
    return [e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e]


@pytest.mark.parametrize("name", WAYS)
def test_the_execution_takes_its_way(taken: dict[str, Taken], name: str) -> None:
    way, found = WAYS[name], taken[name]

    assert found.states == way.states
    assert found.execution["status"] == ("FAILED" if way.error else "SUCCEEDED")
    assert found.execution.get("error") == way.error


def test_every_transition_is_taken(taken: dict[str, Taken]) -> None:
    seen = {pair for found in taken.values() for pair in zip(found.states, found.states[1:], strict=False)}

    assert set(_transitions(DEFINITION)) - seen == set()


def _transitions(definition: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, state in definition["States"].items():
        for choice in (state, *state.get("Choices", ()), *state.get("Catch", ())):
            if "Next" in choice:
                yield name, choice["Next"]
        if "Default" in state:
            yield name, state["Default"]


@pytest.mark.parametrize("name", ["completion not released", "failure not released"])
def test_a_model_that_was_not_released_is_released_when_its_execution_ends(
    here: Installation, taken: dict[str, Taken], name: str
) -> None:
    wait_for("the release", lambda: "run_id" not in ledger_entry(here, taken[name].model))


def test_an_update_that_was_not_asked_for_again_is_recomputed_when_the_execution_ends(
    here: Installation, taken: dict[str, Taken]
) -> None:
    model = taken["not asked again"].model

    wait_for("the recompute", lambda: here.arcanna.recomputes(model))
    wait_for("the release", lambda: ledger_entry(here, model).get("last_outcome") == "completed")
