"""The runbook lists exactly the reasons of the code. Each row has an exercise or an excuse."""

import ast
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from arcanna_metrics.controller import start
from arcanna_metrics.errors import BadInput, ConfigurationError, RecomputeError, RetryLater
from arcanna_metrics.runs import check, completion, outcome
from tests.e2e.exercises import EXERCISES, NOT_HERE, ONLY_WAY
from tests.support.deployment import resource, workflow
from tests.support.readme import runbook, section, table

DEAD, WAIT, FAIL, FUNCTIONS = "Dead letters", "Updates wait", "Runs fail", "Functions fail"
RUNS: dict[ModuleType, str] = {
    completion: "NeverStarted",
    check: "Rejected",
    outcome: "NotChecked",
    start: "RequestFailed",
}
"""The modules that give reasons to runs, each with one of its reasons."""


def rows(title: str) -> list[str]:
    """The reasons in a section's table, or only "" if it has no table.

    A cell begins with reasons of the code, or describes in prose what is seen instead.
    """
    if "\n| Reason |" not in section(title):
        return [ONLY_WAY]
    cells = [cells[0] for cells in table(section(title), "Reason")]
    return [
        reason
        for cell in cells
        for reason in (
            re.findall(r"`(\w+)`", cell)
            if cell.startswith("`")
            else [re.split(", (?:such as|with) ", cell, maxsplit=1)[0]]
        )
    ]


def words(title: str) -> set[str]:
    """The reasons in a section's table that the code uses."""
    return {reason for reason in rows(title) if f"`{reason}`" in section(title)}


# --- What is exercised -----------------------------------------------------------------------------------


@pytest.mark.parametrize("title", runbook())
def test_every_row_has_an_exercise_or_an_excuse(title: str) -> None:
    exercised = {row for exercise in EXERCISES for row in exercise.rows if row[0] == title}
    excused = {row for row in NOT_HERE if row[0] == title}
    assert exercised
    assert exercised & excused == set()
    assert exercised | excused == {(title, reason) for reason in rows(title)}


def test_every_exercise_and_excuse_belongs_to_a_section() -> None:
    assert {title for exercise in EXERCISES for title, _ in exercise.rows} == set(runbook())
    assert {title for title, _ in NOT_HERE} <= set(runbook())


# --- What reasons there are ------------------------------------------------------------------------------


def test_every_dead_letter_reason_has_a_row() -> None:
    assert words(DEAD) == {BadInput.__name__} | set(_below(BadInput))


def test_every_retryable_error_has_a_row() -> None:
    assert words(WAIT) == set(_below(RetryLater))


def test_every_reason_of_a_failed_run_has_a_row() -> None:
    states = workflow()["States"].values()
    of_the_workflow = {state["Error"] for state in states if "Error" in state}
    of_executions = set(resource("RunEndedRule")["EventPattern"]["detail"]["status"]) - {"FAILED"}
    given = {reason for module in RUNS for reason in reasons_given(module)}
    assert words(FAIL) == given | of_the_workflow | of_executions


@pytest.mark.parametrize(("module", "reason"), [(m, reason) for m, reason in RUNS.items() if reason])
def test_reasons_are_found_in_the_code(module: ModuleType, reason: str) -> None:
    assert reason in reasons_given(module)


def reasons_given(module: ModuleType) -> Iterator[str]:
    """The reasons that a module passes to functions, such as NoNewResult, without names of metrics."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") != "count":
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from (str(text) for text in texts if re.fullmatch("([A-Z][a-z]+)+", str(text or "")))


def test_configuration_error_has_a_row() -> None:
    assert ConfigurationError.__name__ in words(FUNCTIONS)


def test_every_project_error_has_a_row() -> None:
    named = words(DEAD) | words(WAIT) | words(FAIL) | words(FUNCTIONS)
    assert set(_below(RecomputeError)) - {RetryLater.__name__} <= named


def _below(error: type[RecomputeError]) -> Iterator[str]:
    """The names of all subclasses."""
    for each in error.__subclasses__():
        yield each.__name__
        yield from _below(each)
