"""An interpreter of the part of the Amazon States Language (JSONPath) that our state machine uses.

What it does not know, it refuses: an unknown field, state type, path or comparison raises
NotImplementedError, so that a definition is never simulated as something that it is not.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Task = Callable[[dict[str, Any]], Any]
"""Takes the parameters and returns the result. Raises StateError."""


class StateError(Exception):
    """An error by the name that Retry and Catch know."""

    def __init__(self, name: str, cause: str) -> None:
        super().__init__(f"{name}: {cause}")
        self.name = name
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an execution. `cause` is for people."""

    status: str
    error: str = ""
    cause: str = ""


_FIELDS = {
    "Task": {"Resource", "TimeoutSeconds", "Parameters", "ResultPath", "Retry", "Catch", "Next"},
    "Pass": {"InputPath", "ResultPath", "Next"},
    "Wait": {"SecondsPath", "Next"},
    "Choice": {"Choices", "Default"},
    "Succeed": set[str](),
    "Fail": {"Error", "Cause", "ErrorPath", "CausePath"},
}
_OF_RETRY = {
    *("ErrorEquals", "MaxAttempts", "IntervalSeconds", "MaxDelaySeconds"),
    *("BackoffRate", "JitterStrategy"),
}
_COMPARISONS = {"StringEquals", "BooleanEquals", "IsNull", "IsPresent"}


def check_fields(definition: Mapping[str, Any]) -> None:
    """Raises NotImplementedError for a definition with parts that are not simulated."""
    only_known(definition, {"Comment", "StartAt", "States", "TimeoutSeconds"})
    for state in definition["States"].values():
        if state["Type"] not in _FIELDS:
            raise NotImplementedError(state["Type"])
        only_known(state, _FIELDS[state["Type"]] | {"Type"})
        for retry in state.get("Retry", []):
            only_known(retry, _OF_RETRY)
        for catch in state.get("Catch", []):
            only_known(catch, {"ErrorEquals", "ResultPath", "Next"})
        for rule in state.get("Choices", []):
            only_known(rule, _COMPARISONS | {"Variable", "Next"})


class Interpreter:
    """Runs executions of one definition."""

    def __init__(
        self,
        definition: Mapping[str, Any],
        tasks: Mapping[str, Task],
        *,
        wait: Callable[[float], None],
    ) -> None:
        """`tasks` by their Resource; `wait` takes seconds."""
        check_fields(definition)
        self._start: str = definition["StartAt"]
        self._states: dict[str, dict[str, Any]] = definition["States"]
        self._tasks = tasks
        self._wait = wait

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
            scope = _Scope(data, {"Execution": {"Id": execution_id}})
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
                    data = _with(data, state, scope.value(state["InputPath"]))
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
                if retry is not None and attempt < retry["MaxAttempts"]:
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
    """The data with the result in the field that ResultPath names."""
    path = state["ResultPath"]
    if path is None:
        return data
    if not re.fullmatch(r"\$\.\w+", path):
        raise NotImplementedError(path)
    # Converted through JSON, as between real states.
    return {**data, path[2:]: json.loads(json.dumps(result))}


def _holds(rule: Mapping[str, Any], scope: "_Scope") -> bool:
    variable = rule["Variable"]
    if "IsPresent" in rule:
        return scope.has(variable) is bool(rule["IsPresent"])
    if "IsNull" in rule:
        return (scope.value(variable) is None) is bool(rule["IsNull"])
    if "BooleanEquals" in rule:
        return scope.value(variable) is rule["BooleanEquals"]
    return bool(scope.value(variable) == rule["StringEquals"])


class _Scope:
    """The scope of references in a state: its data by `$.`, the context object by `$$.`."""

    def __init__(self, data: dict[str, Any], context: dict[str, Any]) -> None:
        self.data = data
        self._context = context

    def fill(self, template: Any) -> Any:
        """The payload template with its references resolved."""
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
        """Whether the path exists."""
        try:
            self.value(path)
        except StateError:
            return False
        return True

    def value(self, path: str) -> Any:
        """The value at a path. Raises StateError if there is none, which no Catch sees on AWS either."""
        if not re.fullmatch(r"\${1,2}(\.\w+)+", path):
            raise NotImplementedError(path)
        root, *names = path.split(".")
        found: Any = self._context if root == "$$" else self.data
        for name in names:
            if not isinstance(found, dict) or name not in found:
                raise StateError("States.Runtime", f"there is nothing at {path}")
            found = found[name]
        return found


def only_known(found: Mapping[str, Any], known: set[str]) -> None:
    """Raises NotImplementedError for a name that is not known."""
    if unknown := found.keys() - known:
        raise NotImplementedError(f"the simulation does not know {', '.join(sorted(unknown))}")
