"""What follows when a process or an execution dies, wherever it can die: by SIGKILL or StopExecution.

All rows run at the same time, each on its own model. No end of an execution is reported, so that the
sweeps alone must bring everything to its end.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from arcanna_metrics.protocol.entry import Entry
from tests.e2e.scene import TRIGGER, Mailbox, NewScene, Scene, is_superseded
from tests.e2e.steps import (
    CLAIM,
    INVOKE_HOLD,
    INVOKE_RELEASE,
    KILLED_AFTER,
    KILLED_BEFORE,
    READ,
    RECORD,
    RELEASE,
    SLOT,
    START,
    UNANSWERED,
    Step,
    refused,
)
from tests.support.arcanna.platform import SHORT, Behaviour
from tests.support.installation import Installation
from tests.support.local_cloud import ApiFault, Call
from tests.support.waiting import eventually

Row = Callable[[Scene, Mailbox], None]

COMPLETED, FAILED = "Recompute Completed", "Recompute Failed"
TRIES = 4
"""Attempts of a step of the workflow."""


@contextmanager
def unreported(here: Installation) -> Iterator[None]:
    """Suppresses reports of ended executions until the block ends."""
    events, rule = here.cloud.client("events"), here.cloud.physical_id("RunEndedRule")
    events.disable_rule(Name=rule)
    try:
        yield
    finally:
        events.enable_rule(Name=rule)


def until_struck(fault: ApiFault, times: int = 1) -> None:
    eventually(f"{fault.operation} to meet the fault", lambda: len(fault.hits) >= times)


def until_failed(scene: Scene) -> None:
    eventually("the execution's end", lambda: scene.executions()[0]["status"] == "FAILED")


def abort(scene: Scene) -> None:
    """Stops the execution and makes its check-up due."""
    scene.stop_execution()
    scene.let_check_up_come()


def ends_fresh(scene: Scene, told: Mailbox, posts: int) -> None:
    """Waits until one run has completed and nothing waits. The outcome was announced once."""
    scene.until_fresh()
    scene.until_rest()
    assert len(scene.posts()) == posts
    assert told.outcomes(scene.model) == [(COMPLETED, scene.entry().history[-1]["run_id"])]


# --- The trigger -----------------------------------------------------------------------------------------


def killed_before_the_step(scene: Scene, told: Mailbox, step: Step) -> None:
    """SQS delivers the message again, and one run follows."""
    fault = step.meets(KILLED_BEFORE, scene)
    scene.request()
    until_struck(fault)
    ends_fresh(scene, told, posts=1)


def killed_after_the_step(scene: Scene, told: Mailbox, step: Step) -> None:
    """The next look continues, and one run follows."""
    fault = step.meets(KILLED_AFTER, scene)
    scene.try_to_invoke()
    until_struck(fault)
    ends_fresh(scene, told, posts=1)


def killed_with_the_claim(scene: Scene, told: Mailbox, step: Step, how: ApiFault, posts: int) -> None:
    """The claim is taken back after its lifetime, and another run follows."""
    fault = step.meets(replace(how, times=1000), scene)  # a sweep may try to claim the target, too
    scene.try_to_invoke()
    until_struck(fault)
    first = scene.until("the claim", lambda entry: entry.run_id).run_id
    fault.times = 0

    scene.let_claim_expire()

    ends_fresh(scene, told, posts)
    assert scene.entry().history[-1]["run_id"] != first
    lines = [
        line for line in scene.here.cloud.log_records(TRIGGER) if line.get("message") == "run taken back"
    ]
    assert first in [line["run_id"] for line in lines]


def start_seems_to_fail(scene: Scene, told: Mailbox) -> None:
    """Whether or not the execution holds in time, one run at a time is announced once."""
    fault = START.meets(UNANSWERED, scene)
    scene.try_to_invoke()
    until_struck(fault)

    scene.until_fresh()
    scene.until_rest()

    (run,) = scene.runs()  # the first if its hold came before it was given back, else the second
    assert len(scene.posts()) == len(scene.executions())
    assert told.outcomes(scene.model) == [(COMPLETED, run["run"]["run_id"])]


def execution_starts_late(scene: Scene, told: Mailbox) -> None:
    """It finds its claim taken over, and ends without an effect."""
    fault = START.meets(KILLED_BEFORE, scene)
    scene.try_to_invoke()
    until_struck(fault)
    scene.let_claim_expire()
    ends_fresh(scene, told, posts=2)
    entry = scene.entry()

    (call,) = fault.hits
    started = {name: call.parameters[name] for name in ("stateMachineArn", "name", "input")}
    scene.here.cloud.client("stepfunctions").start_execution(**started)

    def late() -> list[dict[str, Any]]:
        return [e for e in scene.executions() if e["name"] == started["name"] and e["status"] != "RUNNING"]

    (execution,) = eventually("its end", late)
    assert execution["status"] == "SUCCEEDED"
    assert is_superseded(execution)
    assert scene.entry() == entry
    assert len(told.outcomes(scene.model)) == 1


def hold_fails_for_good(scene: Scene, told: Mailbox) -> None:
    """The run is resumed in another execution, which holds the target."""
    fault = INVOKE_HOLD.meets(refused(TRIES), scene)
    scene.try_to_invoke()
    until_struck(fault, TRIES)
    until_failed(scene)
    scene.let_check_up_come()
    ends_fresh(scene, told, posts=1)


# --- The execution ---------------------------------------------------------------------------------------


def aborted_and_resumed(
    scene: Scene, told: Mailbox, behaviour: Behaviour, outcome: str, reason: str | None
) -> None:
    """The resumed run is announced with the outcome that the platform proves."""
    scene.long_under_way()
    run_id = scene.entry().run_id
    abort(scene)
    scene.until("its resumption", lambda entry: entry.claim and entry.claim.number == 1)
    checks = len(scene.requests("metrics"))
    eventually("its next checks", lambda: len(scene.requests("metrics")) > checks + 1)
    scene.behaves(behaviour)

    scene.until_rest()

    first, second = scene.executions()
    assert (first["status"], second["name"], second["number"]) == ("ABORTED", f"{run_id}-1", 1)
    assert told.outcomes(scene.model) == [(outcome, run_id)]
    assert len(scene.posts()) == 1
    assert scene.last_failure().get("reason") == reason


def aborted_while_an_update_waits(scene: Scene, told: Mailbox) -> None:
    """The update gets its run after the resumed one."""
    scene.long_under_way()
    scene.try_to_invoke()
    scene.until_waiting()
    abort(scene)
    scene.behaves(SHORT)

    scene.until_fresh()
    scene.until_rest()
    assert len(scene.posts()) == 2
    assert [kind for kind, _ in told.outcomes(scene.model)] == [COMPLETED, COMPLETED]


def aborted_again_and_again(scene: Scene, told: Mailbox) -> None:
    """After three resumptions the run is taken back, and the update gets another one."""
    scene.long_under_way()
    run_id = scene.entry().run_id
    for number in range(4):
        scene.until(f"execution {number}", partial(_is_held_by, number))
        abort(scene)
    scene.until("its end", lambda entry: entry.run_id != run_id)
    scene.behaves(SHORT)

    scene.until_fresh()
    scene.until_rest()

    assert [execution["number"] for execution in scene.executions()] == [0, 1, 2, 3, 0]
    assert [run for _, run in told.outcomes(scene.model)] == [scene.entry().history[-1]["run_id"]]


def _is_held_by(number: int, entry: Entry) -> bool:
    return entry.claim is not None and entry.claim.number == number


def aborted_between_publish_and_release(scene: Scene, told: Mailbox) -> None:
    """The outcome is announced once more, and the run is released."""
    fault = INVOKE_RELEASE.meets(refused(1000), scene)
    scene.try_to_invoke()
    until_struck(fault)
    run_id = scene.entry().run_id
    abort(scene)
    fault.times = 0

    scene.until_fresh()
    scene.until_rest()

    assert told.outcomes(scene.model) == [(COMPLETED, run_id)] * 2
    assert [past["run_id"] for past in scene.entry().history] == [run_id]
    assert len(scene.posts()) == 1


def aborted_while_its_release_is_in_flight(scene: Scene, told: Mailbox) -> None:
    """The release takes effect, and nothing else follows."""
    fault = RELEASE.meets(ApiFault("", "", delay=2.0), scene)
    scene.try_to_invoke()
    until_struck(fault)
    scene.stop_execution()

    ends_fresh(scene, told, posts=1)

    assert [execution["status"] for execution in scene.executions()] == ["ABORTED"]


def release_fails_for_good(scene: Scene, told: Mailbox) -> None:
    """Another execution releases the target."""
    fault = RELEASE.meets(refused(TRIES), scene)
    scene.try_to_invoke()
    until_struck(fault, TRIES)
    until_failed(scene)
    scene.let_check_up_come()

    scene.until_fresh()
    scene.until_rest()

    assert [execution["status"] for execution in scene.executions()] == ["FAILED", "SUCCEEDED"]
    assert len(told.outcomes(scene.model)) == 2
    assert len(scene.posts()) == 1


def killed_between_release_and_look(scene: Scene, told: Mailbox) -> None:
    """A sweep starts the next run."""
    scene.long_under_way()
    scene.try_to_invoke()
    scene.until_waiting()
    first = scene.entry().run_id
    killed = RELEASE.meets(KILLED_AFTER, scene)

    def tries_again(call: Call) -> bool:
        release = call.parameters.get("release", {})
        return bool(killed.hits) and release.get("run", {}).get("run_id") == first

    refusal = INVOKE_RELEASE._replace(is_it=tries_again).meets(refused(TRIES - 1), scene)
    scene.behaves(SHORT)
    until_struck(killed)
    scene.until("another run", lambda entry: entry.run_id not in (None, first))
    until_failed(scene)

    scene.until_fresh()
    scene.until_rest()

    assert len(refusal.hits) == TRIES - 1
    assert len(scene.posts()) == 2
    runs = [past["run_id"] for past in scene.entry().history]
    assert runs[0] == first
    assert told.outcomes(scene.model) == [(COMPLETED, run) for run in runs]


# --- All of them -----------------------------------------------------------------------------------------

ROWS: Mapping[str, Row] = {
    "killed before the read of the record": partial(killed_before_the_step, step=READ),
    "killed before the record": partial(killed_before_the_step, step=RECORD),
    "killed after the record": partial(killed_after_the_step, step=RECORD),
    "killed after the claim, before the slot": partial(
        killed_with_the_claim, step=CLAIM, how=KILLED_AFTER, posts=1
    ),
    "killed after the slot, before the POST": partial(
        killed_with_the_claim, step=SLOT, how=KILLED_AFTER, posts=1
    ),
    "killed after the POST, before StartExecution": partial(
        killed_with_the_claim, step=START, how=KILLED_BEFORE, posts=2
    ),
    "killed after StartExecution": partial(killed_after_the_step, step=START),
    "StartExecution seems to fail": start_seems_to_fail,
    "StartExecution comes late": execution_starts_late,
    "hold fails for good": hold_fails_for_good,
    "aborted, and the recompute completes": partial(
        aborted_and_resumed,
        behaviour=SHORT,
        outcome=COMPLETED,
        reason=None,
    ),
    "aborted, and the recompute fails": partial(
        aborted_and_resumed,
        behaviour=Behaviour(fails=True),
        outcome=FAILED,
        reason="NoNewResult",
    ),
    "aborted while an update waits": aborted_while_an_update_waits,
    "aborted again and again": aborted_again_and_again,
    "aborted after Publish, before Release": (aborted_between_publish_and_release),
    "aborted while its release is in flight": aborted_while_its_release_is_in_flight,
    "release fails for good": release_fails_for_good,
    "killed after Release, before looking on": (killed_between_release_and_look),
}


@pytest.fixture(scope="module")
def played(here: Installation, new_scene: NewScene, told: Mailbox) -> Mapping[str, Future[None]]:
    with unreported(here), ThreadPoolExecutor(8) as pool:
        return {name: pool.submit(row, new_scene(), told) for name, row in ROWS.items()}


@pytest.mark.parametrize("row", ROWS)
def test_update_is_recomputed_and_announced_once_after_a_death(
    played: Mapping[str, Future[None]], row: str
) -> None:
    played[row].result()


def test_reported_abort_is_resumed_before_the_check_up_is_due(scene: Scene, told: Mailbox) -> None:
    scene.long_under_way()
    scene.stop_execution()
    scene.behaves(SHORT)
    ends_fresh(scene, told, posts=1)

    assert [execution["status"] for execution in scene.executions()] == ["ABORTED", "SUCCEEDED"]
