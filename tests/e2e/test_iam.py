"""Each role may do what it does, on what it does it to, and nothing else.

IAM is not enforced here, but the local cloud records who calls what: that is compared with the policies.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.arcanna.faults import Fault
from tests.arcanna.platform import FOR_EVER, SHORT
from tests.deployment import resource
from tests.e2e.alone import settle
from tests.e2e.conftest import JOB
from tests.e2e.test_main_job import (
    alerts,
    asks,
    ended_runs,
    feedback_of,
    key_of,
    ledger_entry,
    restart_trigger,
    send,
)
from tests.harness import Installation, wait_for
from tests.local_cloud import Call

pytestmark = pytest.mark.long

ROLES = ("TriggerRecomputeFunctionRole", "CheckStatusFunctionRole", "RecomputeWorkflowRole", "ScheduleRole")
SERVICES = {"stepfunctions": "states"}
"""Where boto3's name of a service is not IAM's."""

ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction", "sqs:SendMessageBatch": "sqs:SendMessage"}
"""Where the operation's name is not the action's."""

BY_AWS_ITSELF = {
    "logs": "the runtime writes the logs, and Step Functions delivers its own",
    "xray": "the runtime and Step Functions send the traces",
    "kms": "SNS encrypts in the name of who publishes",
}
"""Services that AWS calls in a role's name, each with how, and that are not called so here."""


class Permission(NamedTuple):
    """An action on a resource, by its logical id."""

    role: str
    action: str
    resource: str


OF_THE_LOCAL_CLOUD = {"GetQueueUrl"}
"""What the local cloud calls on the way, where AWS's services go by the ARN."""

UNUSED_HERE = {
    Permission(
        "ScheduleRole", "sqs:SendMessage", "DeadLetterQueue"
    ): "EventBridge Scheduler sends there what it cannot deliver",
    Permission(
        "RecomputeWorkflowRole", "lambda:InvokeFunction", "CheckStatusAlias"
    ): "there is an alias only where deployments are gradual",
    Permission(
        "TriggerRecomputeFunctionRole", "sqs:GetQueueAttributes", "UpdatesQueue"
    ): "Lambda asks for this permission before it polls",
}


@pytest.fixture(scope="module")
def used(here: Installation, fresh_model: Callable[[], str]) -> set[Permission]:
    """What the roles did in runs that complete, fail, are put off, and have to be asked for again."""
    model, unknown = fresh_model(), "generic-1-1234-model-2.hdf5"
    here.arcanna.set_behaviour(FOR_EVER, model)
    here.arcanna.add_fault(Fault("metrics", model_id=model, status=503))
    here.cloud.fire("RecomputeSchedule")
    send(here, {"job_id": JOB, "model_id": unknown})
    gathered = fresh_model()
    here.upload(feedback_of(gathered), alerts())
    here.upload(key_of(model), alerts())
    wait_for("the recompute", lambda: asks(here, model))
    here.upload(key_of(model, "correction.csv"), alerts(2))
    wait_for("the correction's mark", lambda: "pending_at" in ledger_entry(here, model))
    here.arcanna.set_behaviour(SHORT, model)
    ended_runs(here, model, 2)
    ended_runs(here, unknown, 1)
    ended_runs(here, gathered, 1)
    restart_trigger(here)  # a new one looks who has taken the places
    last = fresh_model()
    here.upload(key_of(last), alerts())
    ended_runs(here, last, 1)
    settle(here)
    logical_ids = {here.cloud.physical_id(role): role for role in ROLES}
    calls = [c for c in here.cloud.calls if c.role in logical_ids and c.operation not in OF_THE_LOCAL_CLOUD]
    return {_permission(here, logical_ids[call.role], call) for call in calls}


NAMES = (
    *("UpdatesQueue", "DeadLetterQueue", "Ledger", "RecomputeWorkflow", "RoutesParameter", "ApiKeySecret"),
    *("NotificationTopic", "CheckStatusFunction"),
)
NAMED_IN = {"QueueUrl", "TableName", "stateMachineArn", "Name", "SecretId", "TopicArn", "FunctionName"}


def _permission(here: Installation, role: str, call: Call) -> Permission:
    logical_ids = {_last(here.cloud.physical_id(name)): name for name in NAMES} | {"default": "EventBusName"}
    action = f"{SERVICES.get(call.service, call.service)}:{call.operation}"
    match call.parameters:
        case {"Entries": [{"EventBusName": target}, *_]}:
            pass
        case {"Name": str(parameter)}:
            target = parameter.partition(":")[0]  # after it comes a version
        case {"RequestItems": tables}:
            (target,) = tables
        case given:
            (target,) = [value for name, value in given.items() if name in NAMED_IN]
    return Permission(role, ACTIONS.get(action, action), logical_ids[_last(target)])


def _last(physical_id: str) -> str:
    return re.split("[:/]|%3A", physical_id)[-1]


def _allowed(role: str) -> Iterator[Permission]:
    for policy in resource(role)["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            assert statement["Effect"] == "Allow"
            for action in _listed(statement["Action"]):
                for target in _listed(statement["Resource"]):
                    yield Permission(role, action, _logical_id(target))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _logical_id(target: Any) -> str:
    match target:
        case {"Fn::GetAtt": [str(name), "Arn"]} | {"Fn::GetAtt": str(name)} | {"Ref": str(name)}:
            return name.removesuffix(".Arn")
        case {"Fn::If": [_, created, _]}:
            return _logical_id(created)
        case {"Fn::Sub": str(arn)}:
            return arn.rpartition("${")[2].removesuffix("}")
    return str(target)


def _by_aws_itself(permission: Permission) -> bool:
    return permission.action.partition(":")[0] in BY_AWS_ITSELF


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_what_it_does(used: set[Permission], role: str) -> None:
    did = {permission for permission in used if permission.role == role}
    assert did
    assert did - set(_allowed(role)) == set()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_nothing_that_it_does_not_do(used: set[Permission], role: str) -> None:
    unused = {p for p in _allowed(role) if not _by_aws_itself(p)} - used
    assert unused == {permission for permission in UNUSED_HERE if permission.role == role}
