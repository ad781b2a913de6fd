"""Executions take every state and every transition of the workflow at least once.

The test starts the executions directly and all at once, each on its own model and with the fault that leads
to its states. This includes transitions that a healthy system never makes.
"""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from arcanna_metrics.protocol.entry import NEVER, Claim
from arcanna_metrics.protocol.transitions import claim
from arcanna_metrics.runs.check import failed_at_start, first_check
from arcanna_metrics.runs.outcome import Origin
from tests.e2e.scene import NewScene, Scene
from tests.e2e.steps import HOLD, INVOKE_CHECK, NOTIFY, PUBLISH, RELEASE, Step, refused
from tests.support.deployment import workflow
from tests.support.installation import Installation
from tests.support.local_cloud import ApiFault
from tests.support.runs import a_new_run
from tests.support.waiting import eventually

HELD = ["Hold", "IsHeld", "Judge"]
CHECKED = ["Wait", "CheckStatus"]
RELEASED = ["Release", "Conclude"]
NOTIFIED = ["Publish", "IsNotified", "Notify", *RELEASED]


@dataclass(frozen=True)
class Way:
    """How an execution is driven, and the states that it must pass.

    Its recompute completes, or its run has `failed` before. The step that is `broken` fails at every try.
    """

    states: list[str]
    error: str | None = None
    failed: bool = False
    claimed: bool = True
    broken: Step | None = None


WAYS = {
    "completed": Way([*HELD, *CHECKED, "Judge", "Publish", "IsNotified", *RELEASED, "Completed"]),
    "failed": Way([*HELD, *NOTIFIED, "NotCompleted"], "because", failed=True),
    "superseded": Way(["Hold", "IsHeld", "Superseded"], claimed=False),
    "not held": Way(["Hold"], "AwsUnavailable", broken=HOLD),
    "check not called": Way(
        [*HELD, *CHECKED, "NotChecked", *NOTIFIED, "NotCompleted"], "NotChecked", broken=INVOKE_CHECK
    ),
    "completion not published": Way(
        [*HELD, *CHECKED, "Judge", "Publish", "IsNotified", *RELEASED, "NotTold"], "NotTold", broken=PUBLISH
    ),
    "failure not published": Way([*HELD, *NOTIFIED, "NotTold"], "NotTold", failed=True, broken=PUBLISH),
    "failure not notified": Way([*HELD, *NOTIFIED, "NotTold"], "NotTold", failed=True, broken=NOTIFY),
    "not released": Way([*HELD, *NOTIFIED[:-1]], "AwsUnavailable", failed=True, broken=RELEASE),
}


@dataclass(frozen=True)
class Taken:
    """An ended execution and the states that it passed."""

    scene: Scene
    execution: dict[str, Any]
    states: list[str]


@pytest.fixture(scope="module")
def taken(here: Installation, new_scene: NewScene) -> dict[str, Taken]:
    scenes = {name: new_scene() for name in WAYS}
    faults: list[ApiFault] = []
    arns = {name: _start(scenes[name], way, faults) for name, way in WAYS.items()}
    states = here.cloud.client("stepfunctions")

    def ended() -> dict[str, Taken]:
        found = {name: states.describe_execution(executionArn=arn) for name, arn in arns.items()}
        if any(execution["status"] == "RUNNING" for execution in found.values()):
            return {}
        return {n: Taken(scenes[n], e, _states(here.cloud.history(arns[n]))) for n, e in found.items()}

    found = eventually("the end of all executions", ended)
    for fault in faults:
        fault.times = 0  # the operator has fixed it
    return found


def _start(scene: Scene, way: Way, faults: list[ApiFault]) -> str:
    run_id, now = str(uuid.uuid4()), time.time()
    machine = scene.here.cloud.outputs["RecomputeWorkflowArn"]
    arn = f"{machine.replace(':stateMachine:', ':execution:')}:{run_id}"
    origin = Origin(arn, "default", now)
    run = a_new_run(
        scene.target, scene.model, run_id=run_id, requested_at=now, shortest_poll=1, longest_poll=1
    )
    check = failed_at_start(run, "because", "of something", origin) if way.failed else first_check(run)
    if way.claimed:
        scene.ledger.apply(scene.target, partial(claim, by=Claim(run_id, now)))
    if way.broken:
        faults.append(way.broken.meets(refused(times=1000), scene))
    scene.recompute_by_somebody_else()  # the run is released already
    scene.here.cloud.client("stepfunctions").start_execution(
        stateMachineArn=machine, name=run_id, input=json.dumps({"run": run, "check": check, "number": 0})
    )
    return arn


def _states(history: list[dict[str, Any]]) -> list[str]:
    return [e["stateEnteredEventDetails"]["name"] for e in history if "stateEnteredEventDetails" in e]


@pytest.mark.parametrize("name", WAYS)
def test_execution_passes_the_expected_states(taken: dict[str, Taken], name: str) -> None:
    way, found = WAYS[name], taken[name]

    assert found.states == way.states
    assert found.execution["status"] == ("FAILED" if way.error else "SUCCEEDED")
    assert found.execution.get("error") == way.error


def test_every_transition_of_the_workflow_is_taken(taken: dict[str, Taken]) -> None:
    seen = {pair for found in taken.values() for pair in zip(found.states, found.states[1:], strict=False)}

    assert set(_transitions(workflow())) - seen == set()


def _transitions(definition: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, state in definition["States"].items():
        for choice in (state, *state.get("Choices", ()), *state.get("Catch", ())):
            if "Next" in choice:
                yield name, choice["Next"]
        if "Default" in state:
            yield name, state["Default"]


@pytest.mark.parametrize("name", [name for name, way in WAYS.items() if "Conclude" in way.states])
def test_target_is_free_after_the_execution(taken: dict[str, Taken], name: str) -> None:
    assert taken[name].scene.entry().run_id is None


def test_unreleased_target_is_released_by_another_execution(taken: dict[str, Taken]) -> None:
    scene = taken["not released"].scene
    scene.until("the release", lambda entry: entry.run_id is None)
    assert scene.last_failure()["reason"] == "because"


def test_unchecked_run_leaves_its_target_due(taken: dict[str, Taken]) -> None:
    scene = taken["check not called"].scene
    assert scene.entry().watermark == NEVER
    assert scene.last_failure()["reason"] == "NotChecked"
