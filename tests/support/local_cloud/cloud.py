"""The local cloud: a SAM template, deployed on this machine."""

import gc
import json
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from moto.awslambda_simple.models import lambda_simple_backends
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_api._internal.models import moto_api_backend
from moto.scheduler.exceptions import ScheduleNotFound
from moto.scheduler.models import scheduler_backends
from moto.sqs.models import sqs_backends
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from tests.support.local_cloud.api import Api, ApiFault, Call
from tests.support.local_cloud.change_sets import change_sets
from tests.support.local_cloud.deployment import deploy
from tests.support.local_cloud.event_sources import SqsPoller, Timer, fire, rate_in_minutes
from tests.support.local_cloud.execution_environment import ExecutionEnvironment, Function
from tests.support.local_cloud.functions import AsyncConfig, Functions
from tests.support.local_cloud.log_streams import LogStreams
from tests.support.local_cloud.moto_corrections import corrected
from tests.support.local_cloud.packaging import merged, package, unpacked, upload
from tests.support.local_cloud.resources import Resource
from tests.support.waiting import deaths

PROJECT = Path(__file__).parents[3]
REGION = "eu-west-1"
STACK = "local"
OPERATOR = "operator"  # the role of calls by tests and people


_only_one = threading.Lock()  # moto's state and its corrections belong to the process


class FunctionError(Exception):
    """A function failed. `type` and `payload` describe the error that Lambda returns."""

    def __init__(self, payload: Mapping[str, Any]) -> None:
        self.type = str(payload.get("errorType"))
        self.payload = payload
        super().__init__(f"{self.type}: {payload.get('errorMessage')}")


class Services(NamedTuple):
    """The services that the stacks of a cloud share."""

    api: Api
    functions: Functions


class LocalCloud:
    """A deployed template, until the `with` block ends. A process can have only one cloud at a time."""

    services: Services

    def __init__(
        self,
        parameters: Mapping[str, str],
        directory: Path = PROJECT / "build" / "local-cloud",
        template: Path = PROJECT / "template.yaml",
        python: Path = PROJECT / "build" / "lambda-env" / "bin" / "python",
        name: str = STACK,
        beside: Self | None = None,
        minute: float | None = 1.0,
        is_empty: bool = False,
        constants: Mapping[str, object] = MappingProxyType({}),
        port: int = 0,
    ) -> None:
        """`directory` keeps the logs of the last cloud. Beside it, `artifacts` keeps the build output of all.

        `python` belongs to an environment with the packages of the Lambda runtime only. `name` is the stack's
        name. With `beside`, the stack is a further one in that cloud, and must end before it. `minute` is the
        length of a minute in a schedule's rate(...), in seconds. With None, tests fire schedules by hand, as
        they always do for schedules without a rate. `constants` replaces values of the template's resources
        by their paths: {"Queue.DelaySeconds": 0}. With `is_empty`, there is no stack at first. `sam deploy`
        creates stacks through CloudFormation's API, and this object stands for the last one with functions.
        `port` is the API's. 0 means a free port.
        """
        self._parameters = parameters
        self._directory = directory.absolute()
        self._artifacts = self._directory.parent / "artifacts"
        self._template = template
        self._python = python.absolute()
        self._name = name
        self._beside = beside
        self._minute = minute
        self._is_empty = is_empty
        self._constants = constants
        self._port = port
        self._session: Any = boto3.Session()
        self._clients: dict[tuple[str, str], Any] = {}
        self._executions: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        self._stack = ExitStack()
        self._resources: dict[str, Resource] = {}
        self._logs: dict[str, LogStreams] = {}
        self.outputs: dict[str, str] = {}

    # --- Up and down ---------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.services = self._beside.services if self._beside else self._set_up(stack)
            if self._is_empty:
                stack.enter_context(change_sets(self.client, self._deployed))
            else:
                self._deploy()
                self._start(stack)
            self._stack = stack.pop_all()
        return self

    def _start(self, stack: ExitStack) -> None:
        """Starts the event sources, until the end of the stack."""
        for poller in [self._poller(r) for r in self._of_type("AWS::Lambda::EventSourceMapping")]:
            stack.callback(poller.stop)
            poller.start()
        if not self._beside:
            stack.callback(self._functions.stop)
        for timer in self._timers():
            stack.callback(timer.stop)
            timer.start()

    def _set_up(self, stack: ExitStack) -> Services:
        if not _only_one.acquire(blocking=False):
            raise RuntimeError("another local cloud is up in this process")
        stack.callback(_only_one.release)
        moto_api_backend.reset()
        deaths.clear()
        gc.freeze()  # everything loaded by now stays, so the garbage collector need not scan it
        api = Api(kill=lambda environment: self._functions.kill(environment), port=self._port)
        functions = Functions(self._python, self._common_variables(api.url), self.client)
        stack.enter_context(corrected(functions, self.client))
        api.start()
        stack.callback(api.stop)
        stack.callback(self._stop_executions)
        return Services(api, functions)

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    # --- Resources -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The value of AWS_ENDPOINT_URL."""
        return self._api.url

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that the operators' commands need."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": OPERATOR,
            "AWS_SECRET_ACCESS_KEY": "local",
            "STACK": self._name,  # of make
            "ARCANNA_METRICS_STACK": self._name,
        }

    def client(self, service: str, role: str = OPERATOR) -> Any:
        """A boto3 client of this cloud. Its calls are recorded under the role."""
        with self._lock:
            if (service, role) not in self._clients:
                self._clients[service, role] = self._session.client(
                    service,
                    region_name=REGION,
                    endpoint_url=self.url,
                    aws_access_key_id=role,
                    aws_secret_access_key="local",  # noqa: S106 - nobody checks it
                    config=Config(max_pool_connections=50, read_timeout=900),
                )
            return self._clients[service, role]

    def physical_id(self, logical_id: str) -> str:
        """The value of `!Ref` in the template."""
        return self._resources[logical_id].physical_resource_id

    @property
    def calls(self) -> list[Call]:
        """The API calls so far, oldest first."""
        return list(self._api.calls)

    def inject(self, fault: ApiFault) -> ApiFault:
        """Makes matching calls fail from now on. The fault lists the calls that it struck in `hits`."""
        return self._api.inject(fault)

    def messages(self, logical_id: str) -> list[str]:
        """The bodies of all messages in a queue: visible ones, delayed ones, and those in flight."""
        name = self.physical_id(logical_id).rpartition("/")[2]
        queue = sqs_backends[DEFAULT_ACCOUNT_ID][REGION].get_queue(name)
        with queue._messages_lock:  # noqa: SLF001 - receiving them would change them
            return [str(message.body) for message in queue._messages]  # noqa: SLF001

    # --- Functions -----------------------------------------------------------------------------------------

    def invoke(self, logical_id: str, event: object) -> Any:
        """Invokes a function synchronously and returns its answer. Raises FunctionError."""
        name = self.physical_id(logical_id)
        answer = self.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event))
        payload = json.loads(answer["Payload"].read() or "null")
        if "FunctionError" in answer:
            raise FunctionError(payload)
        return payload

    def update_code(self, logical_id: str, folder: Path) -> Path:
        """Deploys the folder as the function's code. Returns the previous folder.

        Invocations that are under way end as they began.
        """
        return self._functions.update_code(self.physical_id(logical_id), folder)

    def restart(self, logical_id: str) -> None:
        """Ends the function's environments and their caches. Busy ones end after their invocation."""
        self._functions.restart(self.physical_id(logical_id))

    def sandboxes(self, logical_id: str) -> list[ExecutionEnvironment]:
        """The function's live execution environments. Each has `pid` and `kill()`."""
        return self._functions.environments(self.physical_id(logical_id))

    def logs(self, *logical_ids: str) -> list[str]:
        """The lines of these functions (by default all), one function after the other."""
        return [line for name in logical_ids or self._logs for line in self._logs[name].lines()]

    def log_records(self, *logical_ids: str, having: str = "") -> list[dict[str, Any]]:
        """The log lines that are JSON objects and have this text in them.

        Metrics in the embedded format have `_aws`.
        """
        lines = self.logs(*logical_ids)
        return [json.loads(line) for line in lines if line.startswith("{") and having in line]

    # --- The workflow, and schedules -----------------------------------------------------------------------

    def executions(self) -> list[dict[str, Any]]:
        """All executions, as DescribeExecution answers, oldest first."""
        states = self.client("stepfunctions")
        pages = states.get_paginator("list_executions")
        with self._listing:
            changing = [arn for arn, known in self._executions.items() if known["status"] == "RUNNING"]
            for machine in self._of_type("AWS::StepFunctions::StateMachine"):
                machine_arn, size = machine.physical_resource_id, {"PageSize": 20}
                for page in pages.paginate(stateMachineArn=machine_arn, PaginationConfig=size):
                    listed = {execution["executionArn"] for execution in page["executions"]}
                    if listed <= self._executions.keys():
                        break  # the newest come first
                    changing += listed - self._executions.keys()
            for arn in changing:
                self._executions[arn] = states.describe_execution(executionArn=arn)
            return sorted(self._executions.values(), key=lambda execution: execution["startDate"])

    def history(self, execution_arn: str) -> list[dict[str, Any]]:
        """All events of an execution, oldest first."""
        pages = self.client("stepfunctions").get_paginator("get_execution_history")
        return [e for page in pages.paginate(executionArn=execution_arn) for e in page["events"]]

    def fire_schedule(self, logical_id: str) -> None:
        """Fires the schedule now, as EventBridge Scheduler does at its time."""
        fire(self._schedule(logical_id), self.client)

    # --- Deploying -----------------------------------------------------------------------------------------

    def _deploy(self) -> None:
        packaged = package(self._template, self._parameters, REGION, self._artifacts, self._constants)
        upload(packaged, self.client("s3"))
        self._resources = deploy(packaged, self._name, self._parameters, self.client)
        self._take_up(packaged.folders)

    def _deployed(self, name: str, resources: Mapping[str, Resource]) -> None:
        """Adopts a stack that `sam deploy` has created or updated."""
        if not any(resource.type == "AWS::Lambda::Function" for resource in resources.values()):
            return  # SAM's own stack, which has its bucket
        is_update, self._name, self._resources = self._name == name, name, dict(resources)
        s3, folders = self.client("s3"), {}
        for resource in resources.values():
            location = resource.properties.get("Code") or resource.properties.get("Content")
            if location:
                key = location["S3Key"]
                body = s3.get_object(Bucket=location["S3Bucket"], Key=key)["Body"].read()
                folders[key] = unpacked(key, body, self._artifacts)
        self._take_up(folders)
        if not is_update:
            self._start(self._stack)

    def _take_up(self, folders: Mapping[str, Path]) -> None:
        """Makes the functions run the code in the folders, which have the archives' keys in S3."""
        described = self.client("cloudformation").describe_stacks(StackName=self._name)["Stacks"][0]
        self.outputs = {o["OutputKey"]: o["OutputValue"] for o in described["Outputs"]}
        layer_keys = {
            layer.physical_resource_id: layer.properties["Content"]["S3Key"]
            for layer in self._of_type("AWS::Lambda::LayerVersion")
        }
        async_configs = {
            config.properties["FunctionName"]: _async_config(config.properties)
            for config in self._of_type("AWS::Lambda::EventInvokeConfig")
        }
        for logical_id, resource in self._resources.items():
            if resource.type != "AWS::Lambda::Function":
                continue
            keys = [layer_keys[arn] for arn in resource.properties.get("Layers", [])]
            self._logs[logical_id] = LogStreams(self._directory / "logs" / logical_id)
            function = _function(
                resource,
                task_root=folders[resource.properties["Code"]["S3Key"]],
                layers=merged([folders[key] for key in keys], self._artifacts),
                logs=self._logs[logical_id],
            )
            self._functions.add(function, async_configs.get(resource.name, AsyncConfig()))
            self._functions.restart(resource.name)

    def _poller(self, mapping: Resource) -> SqsPoller:
        moto_lambda = lambda_simple_backends[DEFAULT_ACCOUNT_ID][REGION]
        model: Any = moto_lambda.get_event_source_mapping(mapping.physical_resource_id)
        backend = sqs_backends[DEFAULT_ACCOUNT_ID][REGION]
        name = _function_name(mapping.properties["FunctionName"])
        queue = model.event_source_arn.rpartition(":")[2]
        url = self.client("sqs").get_queue_url(QueueName=queue)["QueueUrl"]

        def record(operation: str) -> None:
            role = self._functions.role(name)
            self._api.record(Call(time.time(), role, "", "sqs", operation, {"QueueUrl": url}))

        return SqsPoller(model, name, backend, self._functions, record)

    def _timers(self) -> list[Timer]:
        """A timer for each schedule with a rate."""
        timers = []
        for logical_id, resource in self._resources.items():
            if resource.type == "AWS::Scheduler::Schedule" and self._minute is not None:
                rate = rate_in_minutes(resource.properties["ScheduleExpression"])
                if rate is not None:
                    timers.append(Timer(rate * self._minute, partial(self._fire_if_enabled, logical_id)))
        return timers

    def _fire_if_enabled(self, logical_id: str) -> None:
        try:
            schedule = self._schedule(logical_id)
        except ScheduleNotFound:
            return  # the schedule was deleted
        if schedule["State"] == "ENABLED":
            with suppress(BotoCoreError, ClientError):  # failed deliveries are not retried here
                fire(schedule, self.client)

    def _schedule(self, logical_id: str) -> Any:
        # Not through the API: it records calls and injects faults, and these calls are not the functions'.
        group = self._resources[logical_id].properties.get("GroupName", "default")
        scheduler = scheduler_backends[DEFAULT_ACCOUNT_ID][REGION]
        return scheduler.get_schedule(group, self.physical_id(logical_id)).to_dict()

    def _of_type(self, cfn_type: str) -> list[Resource]:
        return [r for r in self._resources.values() if r.type == cfn_type]

    @property
    def _api(self) -> Api:
        return self.services.api

    @property
    def _functions(self) -> Functions:
        return self.services.functions

    def _common_variables(self, url: str) -> dict[str, str]:
        return {
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": url,
            # Byte code must not get into the built folders, which must be as they would be deployed.
            "PYTHONPYCACHEPREFIX": str(self._directory / "byte-code"),
        }

    def _stop_executions(self) -> None:
        for machine in stepfunctions_parser_backends[DEFAULT_ACCOUNT_ID][REGION].state_machines:
            for execution in machine.executions:
                if execution.status == "RUNNING":
                    execution.stop(None, error=None, cause=None)


def _function(resource: Resource, task_root: Path, layers: Path, logs: LogStreams) -> Function:
    properties = resource.properties
    logging = properties.get("LoggingConfig", {})
    variables = {
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{properties['Runtime']}",
        "AWS_LAMBDA_LOG_FORMAT": logging.get("LogFormat", "Text"),
        "AWS_LAMBDA_LOG_GROUP_NAME": logging.get("LogGroup", f"/aws/lambda/{resource.name}"),
    }
    if variables["AWS_LAMBDA_LOG_FORMAT"] == "JSON":
        variables["AWS_LAMBDA_LOG_LEVEL"] = logging.get("ApplicationLogLevel", "INFO")
    given = properties.get("Environment", {}).get("Variables", {})
    reserved = properties.get("ReservedConcurrentExecutions")
    return Function(
        name=resource.name,
        arn=resource.get_cfn_attribute("Arn"),
        role=properties["Role"].rpartition("/")[2],
        handler=properties["Handler"],
        timeout=float(properties.get("Timeout", 3)),
        memory=int(properties.get("MemorySize", 128)),
        reserved_concurrency=None if reserved is None else int(reserved),
        task_root=task_root,
        layers=layers,
        environment=variables | {name: str(value) for name, value in given.items()},
        logs=logs,
    )


def _function_name(reference: str) -> str:
    """The name in a name or ARN."""
    return reference.split(":")[6] if reference.startswith("arn:") else reference


def _async_config(properties: Mapping[str, Any]) -> AsyncConfig:
    on_failure = properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    return AsyncConfig(int(properties.get("MaximumRetryAttempts", 2)), on_failure)
