"""The Lambda service: runs the deployed functions, each in as many execution environments as it needs."""

import json
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.local_cloud.execution_environment import ExecutionEnvironment, Function
from tests.support.local_cloud.runtime_api import Outcome

# Lambda waits one minute, then two, before it retries an asynchronous invocation.
ASYNC_RETRY_SECONDS = (0.5, 1.0)
# Environments of one function. Lambda allows hundreds; here, further invocations wait.
MOST_ENVIRONMENTS = 16


class Throttled(Exception):
    """The function's reserved concurrency is exhausted."""


@dataclass(frozen=True)
class AsyncConfig:
    """How Lambda handles a failed asynchronous invocation. `on_failure` is the ARN of a queue."""

    retries: int = 2
    on_failure: str | None = None


class Functions:
    """The deployed functions, by physical name."""

    def __init__(self, python: Path, variables: Mapping[str, str], client: Callable[..., Any]) -> None:
        """`client(service, role)` makes a client that calls the API as that role."""
        self._python = python
        self._variables = variables
        self._client = client
        self._functions: dict[str, Function] = {}
        self._async: dict[str, AsyncConfig] = {}
        self._environments: dict[str, list[ExecutionEnvironment]] = defaultdict(list)
        self._idle: dict[str, list[ExecutionEnvironment]] = defaultdict(list)
        self._change = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, function: Function, async_config: AsyncConfig) -> None:
        self._functions[function.name] = function
        self._async[function.name] = async_config

    def update_code(self, name: str, folder: Path) -> Path:
        """Makes further invocations run the code in the folder. Returns the previous folder."""
        before = self._functions[name].task_root
        self._deploy(name, folder)
        return before

    def restart(self, name: str) -> None:
        """Makes further invocations run in new environments."""
        self._deploy(name, self._functions[name].task_root)

    def _deploy(self, name: str, folder: Path) -> None:
        with self._change:
            self._functions[name] = replace(self._functions[name], task_root=folder)
            outdated = list(self._idle[name])
            self._idle[name].clear()
            for environment in outdated:
                self._environments[name].remove(environment)
        for environment in outdated:
            environment.close()

    def role(self, name: str) -> str:
        return self._functions[name].role

    def environments(self, name: str) -> list[ExecutionEnvironment]:
        """The environments that are alive, busy or idle."""
        with self._change:
            return [e for e in self._environments[name] if e.alive]

    def kill(self, environment_id: str) -> None:
        """Ends an execution environment with SIGKILL."""
        with self._change:
            known = [e for es in self._environments.values() for e in es if e.id == environment_id]
        for environment in known:
            environment.kill()

    def invoke(self, name: str, event: bytes, trace_id: str | None = None) -> Outcome:
        """Invokes synchronously. Raises Throttled."""
        with self._environment(self._functions[name]) as environment:
            return environment.invoke(event, trace_id or _new_trace_id())

    def invoke_later(self, name: str, event: bytes, trace_id: str | None = None) -> None:
        """Invokes asynchronously. Retries a failure, then sends it to the failure destination."""
        thread = threading.Thread(target=self._invoke_until_done, args=(name, event, trace_id))
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Ends all processes and waits for all threads."""
        self._stopping.set()
        with self._change:
            environments = [e for es in self._environments.values() for e in es]
            self._change.notify_all()
        for environment in environments:
            environment.kill()
        for thread in self._threads:
            thread.join()
        for environment in environments:
            environment.close()

    @contextmanager
    def _environment(self, function: Function) -> Iterator[ExecutionEnvironment]:
        environment = self._acquire(function)
        environment.busy = True
        try:
            yield environment
        finally:
            environment.busy = False
            with self._change:
                if environment.alive and environment.function is self._functions[function.name]:
                    self._idle[function.name].append(environment)
                elif not self._stopping.is_set():
                    self._environments[function.name].remove(environment)
                    environment.close()
                self._change.notify_all()

    def _acquire(self, function: Function) -> ExecutionEnvironment:
        environments, idle = self._environments[function.name], self._idle[function.name]
        with self._change:
            while not self._stopping.is_set():
                while idle:
                    if (environment := idle.pop()).alive:
                        return environment
                    environments.remove(environment)
                    environment.close()
                if len(environments) == function.reserved_concurrency:
                    raise Throttled(function.name)
                if len(environments) < MOST_ENVIRONMENTS:
                    environment = ExecutionEnvironment(function, self._python, self._variables)
                    environments.append(environment)
                    return environment
                self._change.wait()
        raise Throttled(f"{function.name}: the local cloud is stopping")

    def _invoke_until_done(self, name: str, event: bytes, trace_id: str | None) -> None:
        config = self._async[name]
        waits = iter(ASYNC_RETRY_SECONDS[: config.retries])
        count = 0
        while not self._stopping.is_set():
            try:
                outcome = self.invoke(name, event, trace_id)
            except Throttled:
                self._stopping.wait(ASYNC_RETRY_SECONDS[0])  # Lambda continues for six hours
                continue
            count += 1
            wait = next(waits, None)
            if outcome.failed and wait is None:
                self._to_destination(name, event, outcome, count)
            if not outcome.failed or wait is None:
                return
            self._stopping.wait(wait)

    def _to_destination(self, name: str, event: bytes, outcome: Outcome, count: int) -> None:
        """https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html"""
        config, function = self._async[name], self._functions[name]
        if config.on_failure is None or self._stopping.is_set():
            return
        record = {
            "version": "1.0",
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": f"{function.arn}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": count,
            },
            "requestPayload": json.loads(event),
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": json.loads(outcome.payload),
        }
        sqs = self._client("sqs", function.role)
        url = sqs.get_queue_url(QueueName=config.on_failure.rpartition(":")[2])["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(record))


def _new_trace_id() -> str:
    return f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent={uuid.uuid4().hex[:16]};Sampled=1"
