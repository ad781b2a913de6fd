"""An interpreter of the part of the Amazon States Language (JSONPath) that our state machine uses.

What it does not know, it refuses: an unknown field, state type, intrinsic function or comparison raises
NotImplementedError, so that a definition is never simulated as something that it is not.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

DEFINITION = Path(__file__).parents[2] / "functions/recompute_workflow.asl.yaml"

Task = Callable[[dict[str, Any]], Any]
"""Takes the parameters, gives the result, and raises StateError."""


class StateError(Exception):
    """An error by the name that Retry and Catch know."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Ending:
    """How an execution ended; `cause` is for people."""

    status: str
    error: str = ""
    cause: str = ""


def load(substitutions: Mapping[str, str]) -> dict[str, Any]:
    """The definition in the repository, with the deployment's substitutions."""
    text = re.sub(r"\$\{(\w+)\}", lambda found: substitutions[found[1]], DEFINITION.read_text())
    definition: dict[str, Any] = yaml.safe_load(text)
    return definition


_FIELDS = {
    "Task": {"Resource", "Parameters", "ResultPath", "Retry", "Catch", "Next"},
    "Pass": {"Parameters", "ResultPath", "Next"},
    "Wait": {"SecondsPath", "Next"},
    "Choice": {"Choices", "Default"},
    "Succeed": set[str](),
    "Fail": {"Error", "Cause", "ErrorPath", "CausePath"},
}


def check_fields(definition: Mapping[str, Any]) -> None:
    """Raises NotImplementedError where the definition has what is not simulated."""
    _only(definition, {"Comment", "StartAt", "States", "TimeoutSeconds"})
    for state in definition["States"].values():
        if state["Type"] not in _FIELDS:
            raise NotImplementedError(state["Type"])
        _only(state, _FIELDS[state["Type"]] | {"Type"})
        for retry in state.get("Retry", []):
            _only(
                retry,
                {
                    "ErrorEquals",
                    "MaxAttempts",
                    "IntervalSeconds",
                    "MaxDelaySeconds",
                    "BackoffRate",
                    "JitterStrategy",
                },
            )
        for catch in state.get("Catch", []):
            _only(catch, {"ErrorEquals", "ResultPath", "Next"})


class Interpreter:
    """Runs executions of one definition."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        tasks: Mapping[str, Task],
        *,
        wait: Callable[[float], None],
        entered_time: Callable[[], str],
    ) -> None:
        check_fields(definition)
        self._start: str = definition["StartAt"]
        self._states: dict[str, dict[str, Any]] = definition["States"]
        self._tasks = tasks
        self._wait = wait
        self._entered_time = entered_time

    def run(self, execution_id: str, given: dict[str, Any], random: Random) -> Ending:
        """One execution, from its input to its ending."""
        try:
            return self._run(execution_id, given, random)
        except StateError as error:
            return Ending("FAILED", error.name, error.cause)

    def _run(self, execution_id: str, given: dict[str, Any], random: Random) -> Ending:
        name, data = self._start, given
        while True:
            state = self._states[name]
            scope = _Scope(
                data, {"Execution": {"Id": execution_id}, "State": {"EnteredTime": self._entered_time()}}
            )
            match state["Type"]:
                case "Succeed":
                    return Ending("SUCCEEDED")
                case "Fail":
                    return Ending("FAILED", scope.either(state, "Error"), scope.either(state, "Cause"))
                case "Wait":
                    self._wait(float(scope.value(state["SecondsPath"])))
                    name = state["Next"]
                case "Choice":
                    name = next(
                        (rule["Next"] for rule in state["Choices"] if _holds(rule, scope)), state["Default"]
                    )
                case "Pass":
                    data = _with(data, state, scope.fill(state["Parameters"]))
                    name = state["Next"]
                case _:
                    name, data = self._task(state, scope, random)

    def _task(self, state: dict[str, Any], scope: "_Scope", random: Random) -> tuple[str, dict[str, Any]]:
        attempts: dict[int, int] = {}
        parameters = scope.fill(state["Parameters"])
        while True:
            try:
                result = self._tasks[state["Resource"]](parameters)
                return state["Next"], _with(scope.data, state, result)
            except StateError as error:
                number, retry = _rule(state.get("Retry", []), error.name)
                attempt = attempts.get(number, 0)
                if retry is not None and attempt < retry.get("MaxAttempts", 3):
                    attempts[number] = attempt + 1
                    self._wait(_backoff(retry, attempt, random))
                    continue
                _, catch = _rule(state.get("Catch", []), error.name)
                if catch is None:
                    raise
                return catch["Next"], _with(scope.data, catch, {"Error": error.name, "Cause": error.cause})


def _rule(rules: list[dict[str, Any]], error: str) -> tuple[int, dict[str, Any] | None]:
    for number, rule in enumerate(rules):
        if error in rule["ErrorEquals"] or "States.ALL" in rule["ErrorEquals"]:
            return number, rule
    return -1, None


def _backoff(retry: Mapping[str, Any], attempt: int, random: Random) -> float:
    if retry["JitterStrategy"] != "FULL":
        raise NotImplementedError(retry["JitterStrategy"])
    ceiling = float(retry["IntervalSeconds"] * retry["BackoffRate"] ** attempt)
    return min(ceiling, float(retry["MaxDelaySeconds"])) * random.random()


def _with(data: dict[str, Any], state: Mapping[str, Any], result: object) -> dict[str, Any]:
    """The data with the result where ResultPath wants it: at a field, or at one of a field that is there."""
    path = state["ResultPath"]
    if path is None:
        return data
    if not re.fullmatch(r"\$(\.\w+)+", path):
        raise NotImplementedError(path)
    # Through JSON, as between the states of the real thing.
    return _put(data, path.split(".")[1:], json.loads(json.dumps(result)))


def _put(data: dict[str, Any], path: list[str], value: object) -> dict[str, Any]:
    first, *rest = path
    return {**data, first: _put(data[first], rest, value) if rest else value}


def _holds(rule: Mapping[str, Any], scope: "_Scope") -> bool:
    known = {"Variable", "Next", "StringEquals", "StringGreaterThanPath", "BooleanEquals", "IsPresent", "And"}
    _only(rule, known)
    if "And" in rule:
        return all(_holds(part, scope) for part in rule["And"])
    if "BooleanEquals" in rule:
        return scope.value(rule["Variable"]) is rule["BooleanEquals"]
    if "IsPresent" in rule:
        return scope.has(rule["Variable"]) is bool(rule["IsPresent"])
    if "StringGreaterThanPath" in rule:
        return bool(scope.value(rule["Variable"]) > scope.value(rule["StringGreaterThanPath"]))
    return bool(scope.value(rule["Variable"]) == rule["StringEquals"])


class _Scope:
    """What a state can refer to: its data by `$.`, the context object by `$$.`."""

    def __init__(self, data: dict[str, Any], context: dict[str, Any]) -> None:
        self.data = data
        self._context = context

    def fill(self, template: Any) -> Any:
        """A payload template with its references resolved."""
        if isinstance(template, list):
            return [self.fill(part) for part in template]
        if not isinstance(template, dict):
            return template
        return {
            key.removesuffix(".$"): self.value(part) if key.endswith(".$") else self.fill(part)
            for key, part in template.items()
        }

    def either(self, state: Mapping[str, Any], field: str) -> str:
        """A field given as itself or, with Path at the end of its name, by reference."""
        return str(self.value(state[f"{field}Path"]) if f"{field}Path" in state else state[field])

    def has(self, path: str) -> bool:
        """Whether there is anything at the path."""
        try:
            self.value(path)
        except StateError:
            return False
        return True

    def value(self, expression: str) -> Any:
        """A path or a call of an intrinsic function."""
        if call := re.fullmatch(r"States\.(\w+)\((.*)\)", expression, re.DOTALL):
            return _intrinsic(call[1], [self._argument(text) for text in _arguments(call[2])])
        if not re.fullmatch(r"\${1,2}(\.\w+)+", expression):
            raise NotImplementedError(expression)
        root, *names = expression.split(".")
        found: Any = self._context if root == "$$" else self.data
        for name in names:
            if not isinstance(found, dict) or name not in found:
                raise StateError("States.Runtime", f"there is nothing at {expression}")
            found = found[name]
        return found

    def _argument(self, text: str) -> Any:
        if text.startswith("'"):
            return text[1:-1]
        return self.value(text)


def _arguments(text: str) -> list[str]:
    found = re.findall(r"'[^']*'|[^,\s][^,]*", text)
    if "\\" in text:
        raise NotImplementedError("escapes in the text of an intrinsic function")
    return [argument.strip() for argument in found]


def _intrinsic(name: str, arguments: list[Any]) -> Any:
    if name == "Format":
        text, *values = arguments
        first, *rest = text.split("{}")
        if len(rest) != len(values):
            raise StateError("States.IntrinsicFailure", f"{len(values)} values for {text!r}")
        shown = [value if isinstance(value, str) else json.dumps(value) for value in values]
        return first + "".join(value + part for value, part in zip(shown, rest, strict=True))
    if name == "StringToJson":
        try:
            return json.loads(arguments[0])
        except ValueError as error:
            raise StateError("States.IntrinsicFailure", str(error)) from error
    if name == "JsonToString":
        return json.dumps(arguments[0])
    raise NotImplementedError(f"States.{name}")


def _only(found: Mapping[str, Any], known: set[str]) -> None:
    if unknown := found.keys() - known:
        raise NotImplementedError(f"the simulation does not know {', '.join(sorted(unknown))}")
