"""The recompute workflow, run by two independent interpreters: moto's and the simulation's."""

import json
import time
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import pytest

from tests.integration.local_cloud_stack import TEMPLATE
from tests.integration.local_cloud_stack.steps import app
from tests.simulation.workflow import Ending, Interpreter, StateError
from tests.support.deployment import workflow
from tests.support.local_cloud import ApiFault, LocalCloud
from tests.support.waiting import eventually

BUS = "outcomes"
RUNNING = {"status": "running", "wait_seconds": 0, "outcome": None}


def ended(status: str, reason: str, told: str | None = None) -> dict[str, Any]:
    """The check of an ended run. `told` is the notification's subject."""
    return {
        "status": status,
        "detail": f"the detail of {reason}",
        "wait_seconds": 0,
        "outcome": {
            "events": [
                {
                    "Source": "arcanna.metrics",
                    "DetailType": f"Recompute {status}",
                    "EventBusName": BUS,
                    "Detail": json.dumps({"reason": reason}),
                }
            ],
            "notification": told and {"subject": told, "message": f"{told}: text\nof two lines"},
            "result": {"outcome": status, "failure": {"reason": reason}},
        },
    }


COMPLETED, REGRESSED = ended("completed", "Fresh"), ended("completed", "Fresh", "regressed")
FAILED = ended("failed", "NoNewResult", "failed")
NOT_CHECKED = ended("failed", "NotChecked", "not checked")


class Case(NamedTuple):
    """The behaviour of functions and services, and the execution's end: status and error."""

    name: str
    first: dict[str, Any]
    checks: list[dict[str, Any] | None]
    ending: tuple[str, str]
    told: list[str]
    """Reasons of events, and subjects of notifications."""
    held: bool = True
    released: bool = True
    refused: tuple[str, ...] = ()
    """Operations that always fail."""


CASES = [
    Case("completed", RUNNING, [RUNNING, COMPLETED], ("SUCCEEDED", ""), ["Fresh"]),
    Case("regressed", RUNNING, [REGRESSED], ("SUCCEEDED", ""), ["Fresh", "regressed"]),
    Case("failed", RUNNING, [RUNNING, FAILED], ("FAILED", "NoNewResult"), ["NoNewResult", "failed"]),
    Case("failed-at-its-start", FAILED, [], ("FAILED", "NoNewResult"), ["NoNewResult", "failed"]),
    Case("superseded", RUNNING, [], ("SUCCEEDED", ""), [], held=False),
    Case("not-checked", RUNNING, [None], ("FAILED", "NotChecked"), ["NotChecked", "not checked"]),
    Case("not-published", RUNNING, [FAILED], ("FAILED", "NotTold"), ["failed"], refused=("PutEvents",)),
    Case("not-notified", RUNNING, [FAILED], ("FAILED", "NotTold"), ["NoNewResult"], refused=("Publish",)),
    Case("not-released", RUNNING, [COMPLETED], ("FAILED", "Refused"), ["Fresh"], released=False),
]


def given(case: Case) -> dict[str, Any]:
    """The execution's input."""
    script = {"held": case.held, "checks": case.checks, "released": case.released}
    run = {"run_id": case.name, "script": script, "not_checked": NOT_CHECKED}
    return {"run": run, "check": {**case.first, "polls": 0}, "number": 0}


# --- By moto -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with LocalCloud({}, tmp_path_factory.mktemp("workflow"), TEMPLATE, minute=None) as cloud:
        yield cloud


def by_moto(cloud: LocalCloud, case: Case) -> tuple[Ending, list[str]]:
    states = cloud.client("stepfunctions")
    services = {"PutEvents": "events", "Publish": "sns"}
    faults = [ApiFault(services[name], name, "Refused", 400, times=100) for name in case.refused]
    for fault in faults:
        cloud.inject(fault)
    machine = cloud.physical_id("RecomputeWorkflow")
    execution = states.start_execution(
        stateMachineArn=machine, name=f"{case.name}-{time.time_ns()}", input=json.dumps(given(case))
    )["executionArn"]
    eventually("the end", lambda: states.describe_execution(executionArn=execution)["status"] != "RUNNING")
    for fault in faults:
        fault.times = 0
    described = states.describe_execution(executionArn=execution)
    ending = Ending(described["status"], described.get("error", ""), described.get("cause", ""))
    return ending, [told(message) for message in _messages(cloud)]


def _messages(cloud: LocalCloud) -> Iterator[dict[str, Any]]:
    sqs, url = cloud.client("sqs"), cloud.physical_id("Told")
    while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            yield json.loads(message["Body"])


def told(message: dict[str, Any]) -> str:
    """Reason of an event, or subject of a notification."""
    return str(message["detail"]["reason"] if "detail" in message else message["Subject"])


# --- By the simulation -------------------------------------------------------------------------------------


class Visited(dict[str, Any]):
    """The states of a state machine. Notes the names of those entered."""

    def __init__(self, states: dict[str, Any]) -> None:
        super().__init__(states)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)


def by_simulation(case: Case, states: dict[str, Any] | None = None) -> tuple[Ending, list[str]]:
    said: list[str] = []

    def step(parameters: dict[str, Any]) -> Any:
        try:
            return app.handler(json.loads(json.dumps(parameters)), None)
        except app.Refused as refused:
            raise StateError(type(refused).__name__, str(refused)) from refused

    def put_events(parameters: dict[str, Any]) -> Any:
        if "PutEvents" in case.refused:
            raise StateError("EventBridge.Refused", "as told")
        said.extend(json.loads(entry["Detail"])["reason"] for entry in parameters["Entries"])
        return {"FailedEntryCount": 0}

    def publish(parameters: dict[str, Any]) -> Any:
        if "Publish" in case.refused:
            raise StateError("Sns.Refused", "as told")
        assert parameters["Message"].startswith(f"{parameters['Subject']}: ")
        said.append(parameters["Subject"])
        return {"MessageId": "1"}

    definition = workflow(tries=2)
    tasks = {
        definition["States"]["Hold"]["Resource"]: step,
        definition["States"]["CheckStatus"]["Resource"]: step,
        "arn:aws:states:::events:putEvents": put_events,
        "arn:aws:states:::sns:publish": publish,
    }
    changed = {**definition, "States": states or definition["States"]}
    interpreter = Interpreter(changed, tasks, wait=lambda seconds: None)
    return interpreter.run("arn:execution", given(case), Random(0)), said


# --- Both --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_both_interpreters_end_a_run_in_the_same_way(cloud: LocalCloud, case: Case) -> None:
    for ending, said in (by_moto(cloud, case), by_simulation(case)):
        assert (ending.status, ending.error) == case.ending
        assert sorted(said) == sorted(case.told)
        if case.ending[1] in ("NoNewResult", "NotChecked"):
            assert ending.cause == f"the detail of {ending.error}"


def test_cases_enter_every_state_of_the_workflow() -> None:
    visited = Visited(workflow(tries=2)["States"])
    for case in CASES:
        by_simulation(case, visited)
    assert visited.names == visited.keys()
