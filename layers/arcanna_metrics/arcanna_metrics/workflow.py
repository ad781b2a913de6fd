"""The state machine whose executions follow the runs."""

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from arcanna_metrics.aws import aws_call
from arcanna_metrics.runs.run import Check, Execution, Run

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient


class Workflow:
    """Starts the executions of runs, and describes them. Every method raises AwsUnavailable."""

    def __init__(self, states: "SFNClient", state_machine_arn: str) -> None:
        self._states = states
        self._arn = state_machine_arn

    def arn(self, run_id: str, number: int = 0) -> str:
        """The ARN that the execution has, or will have."""
        return f"{self._arn.replace(':stateMachine:', ':execution:')}:{_name(run_id, number)}"

    def start(self, run_id: str, given: str, number: int = 0) -> None:
        """Starts the execution with this input. Does nothing if it was started before."""
        with aws_call("start the workflow"), suppress(self._states.exceptions.ExecutionAlreadyExists):
            self._states.start_execution(stateMachineArn=self._arn, name=_name(run_id, number), input=given)

    def executions(self, run_id: str, most: int) -> list[Execution]:
        """The executions of a run as they are now, the first one first, at most `most`."""
        found: list[Execution] = []
        with aws_call("describe an execution"), suppress(self._states.exceptions.ExecutionDoesNotExist):
            for number in range(most):
                shown = self._states.describe_execution(executionArn=self.arn(run_id, number))
                is_running = shown["status"] in ("RUNNING", "PENDING_REDRIVE")
                found.append(Execution(is_running, shown.get("input", "")))
        return found


def input_of(run: Run, check: Check) -> str:
    """The input of a run's first execution."""
    return json.dumps({"run": run, "check": check, "number": 0}, ensure_ascii=False)


def resumed_input(given: str, number: int) -> str:
    """The input of the execution of that number, from the input of one before it."""
    return json.dumps({**json.loads(given), "number": number}, ensure_ascii=False)


def _name(run_id: str, number: int) -> str:
    return f"{run_id}-{number}" if number else run_id
