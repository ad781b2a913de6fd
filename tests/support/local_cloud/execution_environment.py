"""One Lambda execution environment: a process under awslambdaric, AWS's runtime client for Python."""

import json
import queue
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.local_cloud.log_streams import LogStreams
from tests.support.local_cloud.runtime_api import Invocation, Outcome, RuntimeApi
from tests.support.waiting import deaths

# Lambda allows 10 s, but this machine may be slow and busy.
INIT_TIMEOUT_SECONDS = 30.0
_WATCH_SECONDS = 0.05
_LAST_LINES = 10


class ProcessDied(Exception):
    """A function's process died unexpectedly. The message has its id, how it ended, and its last output."""


class _Failed(Exception):
    """An invocation failed outside of the handler: error type and message, as Lambda gives them."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


@dataclass(frozen=True)
class Function:
    """A deployed function. `timeout` in seconds, `memory` in MiB, `environment` what the template sets."""

    name: str
    arn: str
    role: str
    handler: str
    timeout: float
    memory: int
    reserved_concurrency: int | None
    task_root: Path
    layers: Path
    environment: Mapping[str, str]
    logs: LogStreams


class ExecutionEnvironment:
    """Starts with its process, runs one invocation at a time, and ends with the process."""

    def __init__(
        self,
        function: Function,
        python: Path,
        variables: Mapping[str, str],
    ) -> None:
        """`variables` are the same in all environments."""
        self.id = str(uuid.uuid4())
        self.function = function
        self.busy = False
        self._python = python
        self._common = variables
        self._killed = False
        self._initialised = False
        self._api = RuntimeApi()
        self._log = function.logs.new()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - the functions are what is to run here
                [self._python, "-m", "awslambdaric", self.function.handler],
                cwd=self.function.task_root,
                env={**self._common, **self._variables(), **self.function.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C ends the local cloud, which ends its processes
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def invoke(self, event: bytes, trace_id: str) -> Outcome:
        """Runs the function. After a failed initialisation, a timeout or a crash it is no longer `alive`."""
        request_id = str(uuid.uuid4())
        try:
            return self._initialise() or self._run(event, trace_id, request_id)
        except _Failed as failure:
            if not (self.alive or self._killed):
                deaths.append(self._death())
                print(f"local cloud: {deaths[-1]}", file=sys.stderr, flush=True)
            self.kill()
            message = f"RequestId: {request_id} Error: {failure.message}"
            error = json.dumps({"errorType": failure.kind, "errorMessage": message})
            with self._log.open("a") as log:  # the process may have stopped in the middle of a line
                log.write(f"\n{error}\n")
            return Outcome(error.encode(), failed=True)

    def kill(self) -> None:
        """Kills the process with SIGKILL."""
        self._killed = True
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends the process and its runtime API."""
        self.kill()
        self._api.close()

    def _initialise(self) -> Outcome | None:
        """Waits until the process is ready. Returns the error if it reports one. Raises _Failed."""
        if self._initialised:
            return None
        try:
            error = self._report(INIT_TIMEOUT_SECONDS)
        except _Failed:
            if self.alive or self._killed:
                raise
            self._process = self._start()  # Lambda, too, restarts a process that dies before it is ready
            error = self._report(INIT_TIMEOUT_SECONDS)
        if error:
            self.kill()
        self._initialised = True
        return error

    def _run(self, event: bytes, trace_id: str, request_id: str) -> Outcome:
        function = self.function
        deadline = time.time() + function.timeout
        self._api.invocations.put(Invocation(request_id, event, trace_id, function.arn, deadline))
        outcome = self._report(function.timeout)
        if outcome is None:
            raise RuntimeError("the runtime client asked for more before it answered")
        return outcome

    def _report(self, seconds: float) -> Outcome | None:
        """The next report of the runtime client. Raises _Failed if none comes, or the process ends."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._api.reports.get(timeout=_WATCH_SECONDS)
            except queue.Empty:
                if failure := self._failure(deadline, seconds):
                    raise failure from None

    def _failure(self, deadline: float, seconds: float) -> "_Failed | None":
        """The error that occurred outside the handler."""
        if not self.alive and self._api.reports.empty():
            code = self._process.returncode
            how = "signal: killed" if code < 0 else f"exit status {code}"
            return _Failed("Runtime.ExitError", f"Runtime exited with error: {how}")
        if self._resident_mebibytes() > self.function.memory:
            return _Failed("Runtime.OutOfMemory", "Runtime exited with error: signal: killed")
        if time.monotonic() > deadline:
            return _Failed("Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds")
        return None

    def _death(self) -> ProcessDied:
        code = self._process.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with status {code}"
        when = "while it was invoked" if self._initialised else "before it was ready"
        last = self._log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        output = "\n  ".join(["Its last output:", *last]) if last else "It has written nothing."
        return ProcessDied(f"process {self.pid} of {self.function.name} {how} {when}. {output}")

    def _resident_mebibytes(self) -> float:
        try:
            pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return 0  # the process has ended, which the next check notices
        return pages * 4096 / 2**20

    def _variables(self) -> dict[str, str]:
        function = self.function
        return {
            "PATH": f"{function.layers}/bin:/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PYTHONPATH": f"{function.task_root}:{function.layers}/python",
            "LAMBDA_TASK_ROOT": str(function.task_root),
            "_HANDLER": function.handler,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._api.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory),
            "AWS_LAMBDA_LOG_STREAM_NAME": f"[$LATEST]{self.id.replace('-', '')}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            # These tell the API the role and the environment of each call.
            "AWS_ACCESS_KEY_ID": function.role,
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": self.id,
        }
