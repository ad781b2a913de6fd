"""Corrections of moto where it differs from AWS and this matters here. They apply while the cloud is up."""

import json
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from datetime import UTC, datetime
from functools import cache, wraps
from types import ModuleType
from typing import Any
from unittest.mock import patch

from moto.awslambda.models import LambdaBackend
from moto.awslambda_simple.models import LambdaSimpleBackend
from moto.cloudformation.models import Stack
from moto.core.config import default_user_config
from moto.core.exceptions import JsonRESTError
from moto.core.loaders import create_loader
from moto.core.responses import ActionResult
from moto.dynamodb.models import DynamoDBBackend
from moto.events.models import Rule, events_backends
from moto.iam.access_control import PermissionResult
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.s3 import notifications
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response
from moto.stepfunctions.parser.asl.parse.asl_parser import AmazonStateLanguageParser
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from tests.support.local_cloud.functions import Functions, Throttled
from tests.support.local_cloud.moto_queues import corrected_queues

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
_S3_REASONS = {
    "s3:ObjectCreated:Put": "PutObject",
    "s3:ObjectCreated:Post": "POST Object",
    "s3:ObjectCreated:Copy": "CopyObject",
    "s3:ObjectCreated:CompleteMultipartUpload": "CompleteMultipartUpload",
    "s3:ObjectRemoved:Delete": "DeleteObject",
    "s3:ObjectRemoved:DeleteMarkerCreated": "DeleteObject",
}


@contextmanager
def corrected(functions: Functions, client: Callable[[str, str], Any]) -> Iterator[None]:
    """`client(service, role)` makes the clients that the Step Functions interpreter calls with."""
    config = {
        "lambda": {"use_docker": False},
        "stepfunctions": {"execute_state_machine": True},
        "iam": {"load_aws_managed_policies": True},
    }
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(patch.dict(default_user_config, config))
        enter(patch.object(LambdaSimpleBackend, "invoke", _invoke_in(functions)))
        for module in _interpreter_modules():
            enter(patch.object(module, "boto_client_for", _client_of(client)))
        enter(patch.object(notifications, "_send_event_bridge_message", _send_s3_event))
        enter(patch.object(notifications, "_invoke_awslambda", _notify_in(functions)))
        enter(patch.object(Rule, "send_to_targets", _send_to_targets_with(client)))
        enter(patch.object(BaseExecutionWorkerCommunication, "terminated", _terminated))
        enter(patch.object(StepFunctionResponse, "get_execution_history", _get_execution_history))
        # moto would make an object of each of AWS's 1,600 managed policies, which takes a second.
        enter(patch("moto.iam.models.aws_managed_policies_data", _policies_for_functions()))
        # moto would search all service descriptions again for each service.
        enter(patch("moto.core.utils.create_loader", cache(create_loader)))
        # moto parses the definition again for each execution, which takes 0.1 s.
        parse = staticmethod(cache(AmazonStateLanguageParser.parse))
        enter(patch.object(AmazonStateLanguageParser, "parse", parse))
        for backend, method in (
            (DynamoDBBackend, "put_item"),
            (StepFunctionsParserBackend, "start_execution"),
        ):
            enter(patch.object(backend, method, _one_at_a_time(getattr(backend, method))))
        enter(patch.object(FakeBucket, "get_permission", _get_permission))
        enter(patch.object(S3Response, "get_bucket_notification", _get_bucket_notification))
        enter(patch.object(Stack, "parameter_list", property(_parameter_list)))
        enter(corrected_queues())
        yield


@cache
def _policies_for_functions() -> str:
    """The managed policies in moto's list that are about functions."""
    known = json.loads(aws_managed_policies_data)
    return json.dumps({name: policy for name, policy in known.items() if "Lambda" in name})


# --- Lambda runs functions -----------------------------------------------------------------------------


def _invoke_in(functions: Functions) -> Callable[..., bytes]:
    def invoke(
        backend: LambdaBackend,
        function_name: str,
        qualifier: str | None,
        body: bytes | str | None,
        headers: Any,
        response_headers: dict[str, str],
    ) -> bytes:
        name = backend.get_function(function_name, qualifier).function_name
        event = (body.encode() if isinstance(body, str) else body) or b"{}"
        trace_id = headers.get("X-Amzn-Trace-Id")
        if headers.get("X-Amz-Invocation-Type") == "Event":
            functions.invoke_later(name, event, trace_id)
            return b""
        try:
            outcome = functions.invoke(name, event, trace_id)
        except Throttled as error:
            throttled = JsonRESTError("TooManyRequestsException", "Rate Exceeded.")
            throttled.code = 429
            raise throttled from error
        response_headers["X-Amz-Executed-Version"] = "$LATEST"
        if outcome.failed:
            response_headers["x-amz-function-error"] = "Unhandled"
        return outcome.payload

    return invoke


def _notify_in(functions: Functions) -> Callable[..., None]:
    # moto would run the function itself, in the uploader's thread, and hide its errors.
    def notify(_account_id: str, event: Any, arn: str, _region: str) -> None:
        functions.invoke_later(arn.split(":")[6], json.dumps(event).encode())

    return notify


def _interpreter_modules() -> list[ModuleType]:
    """The modules that make clients."""
    making = boto_client.boto_client_for
    return [m for m in list(sys.modules.values()) if getattr(m, "boto_client_for", None) is making]


def _client_of(make: Callable[[str, str], Any]) -> Callable[..., Any]:
    # moto makes a client for every task, and ignores the role.
    def client(service: str, state_credentials: Any, **_: Any) -> Any:
        return make(service, state_credentials.role_arn.rpartition("/")[2])

    return client


# --- EventBridge gets the events of S3 and of Step Functions -------------------------------------------


def _send_s3_event(account_id: str, bucket: Any, event_name: str, key: Any) -> None:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    changed = {"key": key.name, "sequencer": f"{time.time_ns():018X}"}
    if key.version_id not in (None, "null"):
        changed["version-id"] = key.version_id
    if "ObjectCreated" in event_name:
        changed |= {"size": key.size, "etag": key.etag.strip('"')}
    detail = {
        "version": "0",
        "bucket": {"name": bucket.name},
        "object": changed,
        "request-id": secrets.token_hex(8).upper(),
        "requester": account_id,
        "source-ip-address": "127.0.0.1",
        "reason": _S3_REASONS.get(event_name, event_name),
    }
    detail_type = notifications._detail_type(event_name)  # noqa: SLF001 - moto's table of AWS's names
    _put_on_default_bus(account_id, bucket.region_name, "aws.s3", detail_type, [bucket.arn], detail)


_terminated_by_moto = BaseExecutionWorkerCommunication.terminated


def _terminated(ending: BaseExecutionWorkerCommunication) -> None:
    # https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    _terminated_by_moto(ending)
    execution: Any = ending.execution
    described = execution.to_describe_output()
    detail = {
        "executionArn": execution.exec_arn,
        "stateMachineArn": execution.state_machine.arn,
        "name": execution.name,
        "status": execution.status,
        "startDate": int(execution.start_date.timestamp() * 1000),
        "stopDate": int(execution.stop_date.timestamp() * 1000),
        "input": execution.execution_input,
        "output": described.get("output"),
        "stateMachineVersionArn": None,
        "stateMachineAliasArn": None,
        "redriveCount": 0,
        "redriveDate": None,
        "redriveStatus": "NOT_REDRIVABLE" if execution.status == "SUCCEEDED" else "REDRIVABLE",
        "redriveStatusReason": None,
        "inputDetails": {"included": True},
        "outputDetails": {"included": True} if "output" in described else None,
        "error": execution.error,
        "cause": execution.cause,
    }
    _put_on_default_bus(
        execution.account_id,
        execution.region_name,
        "aws.states",
        "Step Functions Execution Status Change",
        [execution.exec_arn],
        detail,
    )


def _put_on_default_bus(
    account: str, region: str, source: str, detail_type: str, resources: list[str], detail: Any
) -> None:
    event: Any = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": detail_type,
        "source": source,
        "account": account,
        "time": time.time(),  # moto, like AWS, writes it in whole seconds
        "ingestion-time": time.time(),  # which moto requires and removes again
        "region": region,
        "resources": resources,
        "detail": json.loads(json.dumps(detail)),
    }
    for rule in events_backends[account][region].event_buses["default"].rules.values():
        if rule.state == "ENABLED":
            rule.send_to_targets(event)


# --- EventBridge starts executions, which moto refuses ------------------------------------------------------

_send_to_targets_by_moto = Rule.send_to_targets


def _send_to_targets_with(client: Callable[[str, str], Any]) -> Callable[..., None]:
    # moto would raise an error at the first target that is a state machine.
    def send_to_targets(rule: Rule, event: Any, transform_input: bool = True) -> None:
        machines = [target for target in rule.targets if ":states:" in target["Arn"]]
        others = copy(rule)
        others.targets = [target for target in rule.targets if target not in machines]
        _send_to_targets_by_moto(others, event, transform_input)
        if machines and rule.event_pattern.matches_event(event):
            at = datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            sent = {name: value for name, value in event.items() if name != "ingestion-time"}
            for target in machines:
                states = client("stepfunctions", target["RoleArn"].rpartition("/")[2])
                name, given = str(uuid.uuid4()), json.dumps(sent | {"time": at})
                states.start_execution(stateMachineArn=target["Arn"], name=name, input=given)

    return send_to_targets


# --- Step Functions lists the events of an execution in reverse, on request ------------------------------

_get_execution_history_by_moto = StepFunctionResponse.get_execution_history


def _get_execution_history(response: StepFunctionResponse) -> ActionResult:
    answer = _get_execution_history_by_moto(response)
    history: Any = answer.result
    if response._get_bool_param("reverseOrder"):  # noqa: SLF001 - as moto's own answers do
        history["events"].reverse()
    return answer


# --- DynamoDB checks a condition and writes in one step, and Step Functions looks for an execution of a name
# and starts it; moto does both in two steps --------------------------------------------------------------


def _one_at_a_time(by_moto: Callable[..., Any]) -> Callable[..., Any]:
    lock = threading.Lock()

    @wraps(by_moto)
    def call(*arguments: Any, **named: Any) -> Any:
        with lock:
            return by_moto(*arguments, **named)

    return call


# --- S3 ignores the conditions of bucket policies, and so denies everything that "TLS only" does not ----


def _get_permission(bucket: FakeBucket, action: str, resource: str) -> PermissionResult:
    return PermissionResult.NEUTRAL  # this cloud does not enforce access anywhere


# --- S3 says so where a bucket sends its events to EventBridge, which moto leaves out --------------------
# (The template's types allow no other notifications beside it.)

_get_bucket_notification_by_moto = S3Response.get_bucket_notification


def _get_bucket_notification(response: S3Response) -> Any:
    configuration = response.backend.get_bucket_notification_configuration(response.bucket_name)
    if configuration is None or configuration.event_bridge is None:
        return _get_bucket_notification_by_moto(response)
    response.data["Action"] = "GetBucketNotificationConfiguration"
    return response.serialized(ActionResult({"EventBridgeConfiguration": {}}))


# --- CloudFormation describes a list as the text that was given, moto as Python would write it -----------


def _parameter_list(stack: Stack) -> list[dict[str, str]]:
    values = stack.stack_parameters.items()
    return [
        {"ParameterKey": name, "ParameterValue": ",".join(v) if isinstance(v, list) else str(v)}
        for name, v in values
    ]
