"""Each role has exactly the permissions that it uses, on the resources that it uses.

IAM is not enforced here, but the local cloud records who calls what: that is compared with the policies.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from arcanna_metrics.protocol.slots import KEY
from tests.e2e.scene import (
    CHECK,
    CHECK_ROLE,
    JOB,
    OTHER_JOB,
    OTHER_MODELS,
    TRIGGER,
    TRIGGER_ROLE,
    WORKFLOW_ROLE,
    NewScene,
    Scene,
    alerts,
    edited_settings,
    send,
    settle,
)
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import SHORT
from tests.support.deployment import allowed
from tests.support.installation import Installation
from tests.support.local_cloud import Call
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

ROLES = (TRIGGER_ROLE, CHECK_ROLE, WORKFLOW_ROLE, "ScheduleRole")
SERVICES = {"stepfunctions": "states"}
"""IAM's names of services that have another name in boto3."""

ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction", "sqs:SendMessageBatch": "sqs:SendMessage"}
"""IAM's actions for operations with another name."""

BY_AWS_ITSELF = {
    "logs": "the runtime writes the logs, and Step Functions delivers its own",
    "kms": "SNS and Secrets Manager use keys in the name of who calls them",
    "ec2": "Lambda makes the network interfaces in a VPC",
}
"""Permissions that only AWS itself uses with a role, which the local cloud does not."""


class Permission(NamedTuple):
    """An action on a resource, by its logical id."""

    role: str
    action: str
    resource: str


OF_THE_LOCAL_CLOUD = {"GetQueueUrl"}
"""Calls that only the local cloud makes."""

UNUSED_HERE = {
    Permission(
        "ScheduleRole", "sqs:SendMessage", "DeadLetterQueue"
    ): "EventBridge Scheduler sends there what it cannot deliver",
    Permission(
        TRIGGER_ROLE, "sqs:GetQueueAttributes", "UpdatesQueue"
    ): "Lambda asks for this permission before it polls",
}
MANY = 101
"""More models than a schedule records itself, so that it sends a message for each."""

EXECUTIONS, INDEX, BUSES = "executions of RecomputeWorkflow", "Ledger/index/due", "event buses"


@pytest.fixture(scope="module")
def used(here: Installation, new_scene: NewScene) -> set[Permission]:
    """The permissions used in runs that complete, fail, wait or are aborted, with and without a free slot."""
    _fill_the_slots(here)
    scene, unknown = new_scene(), Scene(here, "generic-1-1234-model-2.hdf5")
    scene.meets(Fault("metrics", status=503))
    send(here, {"not": "understood"})
    unknown.request()
    scene.long_under_way()
    scene.upload("correction.csv", alerts(2))
    scene.until_waiting()
    scene.stop_execution()  # a look checks up on the run and resumes it
    scene.behaves(SHORT)
    scene.until_fresh()
    _request_many_models(here)
    _break_the_settings(here, new_scene())
    settle(here)
    logical_ids = {here.cloud.physical_id(role): role for role in ROLES}
    calls = [c for c in here.cloud.calls if c.role in logical_ids and c.operation not in OF_THE_LOCAL_CLOUD]
    return {_permission(here, logical_ids[call.role], call) for call in calls}


def _fill_the_slots(here: Installation) -> None:
    """Fills the slots with runs that have ended. The next look notices that."""
    takers = [(f"ended-{number}", (str(JOB), "generic-1-1234-model-3.hdf5")) for number in range(50)]
    item = {**KEY, "rev": {"N": "1000"}, "takers": {"S": json.dumps(takers)}}
    here.cloud.client("dynamodb").put_item(TableName=here.cloud.outputs["LedgerTable"], Item=item)


def _break_the_settings(here: Installation, scene: Scene) -> None:
    """Stores wrong settings, so that the trigger reads the parameter's history."""
    with edited_settings(here, {"pace": {"slots": -1}}):
        scene.invoke()
        scene.ended(1)


def _request_many_models(here: Installation) -> None:
    """Fires a schedule for many models whose metrics are all new enough."""
    models = [f"generic-1-{OTHER_JOB}-model-{number}.hdf5" for number in range(1000, 1000 + MANY)]
    for model in models:
        here.arcanna.set_active_model(OTHER_JOB, model)
        here.arcanna.external_recompute(OTHER_JOB, model)
    here.arcanna.set_active_model(OTHER_JOB, OTHER_MODELS[-1])
    targets = [{"job_id": OTHER_JOB, "model_id": model} for model in models]
    scenes = [Scene(here, model, str(OTHER_JOB)) for model in models]
    eventually("their ends", lambda: all(s.recomputes()[0].state == "completed" for s in scenes))
    with edited_settings(here, {"routes": [{"name": "nightly", "targets": targets}]}):
        here.cloud.fire_schedule("RecomputeSchedule")
        eventually("a look at all", lambda: all(scene.requests("metrics") for scene in scenes))


NAMES = (
    *("UpdatesQueue", "DeadLetterQueue", "Ledger", "RecomputeWorkflow", "SettingsParameter", "ApiKeySecret"),
    *("NotificationTopic", TRIGGER, CHECK),
)
NAMED_IN = {"QueueUrl", "TableName", "stateMachineArn", "Name", "SecretId", "TopicArn", "FunctionName"}


def _permission(here: Installation, role: str, call: Call) -> Permission:
    action = f"{SERVICES.get(call.service, call.service)}:{call.operation}"
    return Permission(role, ACTIONS.get(action, action), _resource_of_call(here, call.parameters))


def _resource_of_call(here: Installation, parameters: Mapping[str, Any]) -> str:
    logical_ids = {_last(here.cloud.physical_id(name)): name for name in NAMES}
    match parameters:
        case {"Entries": [{"EventBusName": _}, *_]}:
            return BUSES
        case {"IndexName": "due"}:
            return INDEX
        case {"executionArn": _}:
            return EXECUTIONS
        case {"Name": str(target)}:
            pass
        case {"RequestItems": tables}:
            (target,) = tables
        case given:
            (target,) = [value for name, value in given.items() if name in NAMED_IN]
    return logical_ids[_last(target)]


def _last(physical_id: str) -> str:
    return re.split("[:/]|%3A", physical_id)[-1]


def _allowed(role: str) -> Iterator[Permission]:
    for statement in allowed(role):
        for action in _listed(statement["Action"]):
            for target in _listed(statement["Resource"]):
                yield Permission(role, action, _resource_of_policy(target))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _resource_of_policy(target: Any) -> str:
    match target:
        case {"Fn::GetAtt": [str(name), "Arn"]} | {"Ref": str(name)}:
            return name
        case {"Fn::If": [_, created, _]}:
            return _resource_of_policy(created)
        case {"Fn::Sub": [str(arn), _]} | {"Fn::Sub": str(arn)}:
            return next(name for part, name in PATTERNS.items() if part in arn)
    return str(target)


PATTERNS = {
    ":stateMachine:": "RecomputeWorkflow",
    ":execution:": EXECUTIONS,
    "/index/due": INDEX,
    ":event-bus/*": BUSES,
    ":ec2:": "network interfaces",
    "${SettingsParameter}": "SettingsParameter",
}
"""The resource that each kind of ARN in the template stands for."""


def _by_aws_itself(permission: Permission) -> bool:
    return permission.action.partition(":")[0] in BY_AWS_ITSELF


@pytest.mark.parametrize("role", ROLES)
def test_role_has_a_permission_for_every_call(used: set[Permission], role: str) -> None:
    did = {permission for permission in used if permission.role == role}
    assert did
    assert did - set(_allowed(role)) == set()


@pytest.mark.parametrize("role", ROLES)
def test_role_has_no_permission_that_it_never_uses(used: set[Permission], role: str) -> None:
    unused = {p for p in _allowed(role) if not _by_aws_itself(p)} - used
    assert unused == {permission for permission in UNUSED_HERE if permission.role == role}
