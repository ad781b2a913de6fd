"""A run while it holds its target: hold and release, as the workflow calls them, and what is logged of it."""

import json
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from arcanna_metrics.protocol.check_up import MOST_RESUMPTIONS
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.holding import hold, look_after, release
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.protocol.services import Services
from arcanna_metrics.protocol.transitions import CHECK_UP_INTERVAL, claim, resume
from arcanna_metrics.protocol.transitions import hold as hold_entry
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.workflow import Execution, Workflow
from tests.support.doubles import PACE, TARGET, Clock, Logs, Stack
from tests.support.runs import a_new_run

MACHINE = "arn:aws:states:eu-central-1:123456789012:stateMachine:recompute"
EXECUTION = MACHINE.replace("stateMachine", "execution") + ":run-1"
RUN = a_new_run(TARGET, TARGET.model_id, requested_at=Clock.now)
OF_RUN = {"run_id": "run-1", "job_id": TARGET.job_id, "model_id": TARGET.model_id, "cause": "manual"}
COMPLETED: Result = {
    "outcome": "completed",
    "active_changed": False,
    "past_run": cast("Any", {"run_id": "run-1", "duration_seconds": 9.0}),
    "reference": None,
    "failure": None,
}


class Executions(Workflow):
    """Step Functions, where all executions have ended that were started."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None), MACHINE)
        self.started = {0: json.dumps({"run": RUN})}

    def start(self, run_id: str, given: str, number: int = 0) -> None:
        self.started[number] = given

    def describe(self, run_id: str, number: int) -> Execution | None:
        return Execution(False, self.started[number]) if number in self.started else None


class Scene:
    """A target that the run run-1 has claimed."""

    def __init__(self, stack: Stack) -> None:
        self.clock = Clock()
        self.ledger = Ledger(stack.dynamodb, stack.ledger_table, self.clock)
        nobody: Any = None  # is asked
        self.services = Services(
            self.ledger, nobody, Executions(), nobody, lambda job_id: JobSettings(PACE, {}), "bus", self.clock
        )
        self.ledger.apply(TARGET, lambda entry: replace(entry, cause="manual"))
        self.ledger.apply(TARGET, partial(claim, run_id="run-1", now=self.clock.now))

    def held(self) -> Entry:
        self.ledger.apply(TARGET, partial(hold_entry, run_id="run-1", number=0, now=self.clock.now))
        return self.entry()

    def entry(self) -> Entry:
        return self.ledger.read(TARGET)


@pytest.fixture
def scene(stack: Stack) -> Scene:
    return Scene(stack)


def test_execution_holds_the_target_that_its_run_has_claimed(scene: Scene) -> None:
    assert hold(scene.services, RUN, 0)
    assert hold(scene.services, RUN, 0)  # repeated, because its answer was lost
    assert (scene.entry().held, scene.entry().due_at) == (True, scene.clock.now + CHECK_UP_INTERVAL)


@pytest.mark.parametrize(("run_id", "number"), [("run-2", 0), ("run-1", 1)])
def test_execution_of_a_claim_or_number_that_was_taken_over_ends(
    scene: Scene, run_id: str, number: int
) -> None:
    assert not hold(scene.services, cast("Run", {**RUN, "run_id": run_id}), number)
    assert not scene.entry().held


def test_release_remembers_the_result(scene: Scene) -> None:
    scene.held()
    assert release(scene.services, RUN, 0, COMPLETED)
    entry = scene.entry()
    assert (entry.run_id, entry.fresh_as_of, entry.due_at) == (None, Clock.now, None)
    assert [past["run_id"] for past in entry.history] == ["run-1"]


def test_release_that_is_repeated_changes_nothing(scene: Scene) -> None:
    scene.held()
    release(scene.services, RUN, 0, COMPLETED)
    before = scene.entry()
    assert not release(scene.services, RUN, 0, COMPLETED)
    assert scene.entry() == before


def test_late_release_of_an_aborted_execution_changes_nothing_after_a_resumption(scene: Scene) -> None:
    scene.held()
    scene.ledger.apply(TARGET, lambda entry: resume(entry, 1, scene.clock.now))
    before = scene.entry()
    assert not release(scene.services, RUN, 0, COMPLETED)
    assert scene.entry() == before
    assert release(scene.services, RUN, 1, COMPLETED)


# --- What is logged of a run, as events/README.md promises ------------------------------------------------


def line(logs: Logs, message: str) -> dict[str, Any]:
    (found,) = [line for line in logs.lines if line["message"] == message]
    return found


def test_release_is_logged_with_its_run(scene: Scene, logs: Logs) -> None:
    scene.held()
    release(scene.services, RUN, 0, COMPLETED)
    assert line(logs, "run released").items() >= (OF_RUN | {"execution": EXECUTION}).items()


def test_superseded_execution_is_logged_with_its_run(scene: Scene, logs: Logs) -> None:
    hold(scene.services, RUN, 1)
    assert line(logs, "run superseded").items() >= (OF_RUN | {"execution": f"{EXECUTION}-1"}).items()


def test_resumption_is_logged_with_its_run_and_the_execution_that_follows(scene: Scene, logs: Logs) -> None:
    look_after(scene.services, scene.held())
    assert line(logs, "run resumed").items() >= (OF_RUN | {"execution": f"{EXECUTION}-1"}).items()


def test_run_that_is_taken_back_is_logged_with_its_run(scene: Scene, logs: Logs) -> None:
    cast("Executions", scene.services.workflow).started[MOST_RESUMPTIONS] = "{}"
    look_after(scene.services, replace(scene.held(), resumed=MOST_RESUMPTIONS))
    last = f"{EXECUTION}-{MOST_RESUMPTIONS}"
    assert line(logs, "run taken back").items() >= (OF_RUN | {"execution": last}).items()
