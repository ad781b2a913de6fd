"""The README's runbook knows every reason that there is, and each of its rows is exercised."""

import ast
import inspect
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from arcanna_metrics import starter
from arcanna_metrics.errors import BadInput, ConfigurationError, RecomputeError, Rejected, RetryLater
from arcanna_metrics.runs import check, completion
from tests.deployment import resource, workflow
from tests.e2e.test_runbook import EXERCISES, NOT_HERE
from tests.readme import headings, section, table

SECTIONS = headings(section("When something is wrong"))
ERRORS: set[type[RecomputeError]] = {BadInput, Rejected, ConfigurationError, *RetryLater.__subclasses__()}
NOT_OF_RUNS = {"running", "completed"}
"""Reasons of checks that are no failures."""


def reasons(title: str) -> set[str]:
    """What the table of a section names: words of the code, or what stands there instead of one."""
    if "\n| Reason |" not in section(title):
        return set()
    cells = [row[0] for row in table(section(title), "Reason")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell) or [cell.partition(",")[0]]}


def exercised(title: str) -> set[str]:
    return {reason for exercise in EXERCISES for of, reason in exercise.rows if of == title}


@pytest.mark.parametrize("title", SECTIONS)
def test_every_row_is_exercised_or_there_is_a_reason_why_not(title: str) -> None:
    excused = {reason for of, reason in NOT_HERE if of == title}
    assert exercised(title)
    assert exercised(title) - {""} | excused == reasons(title)
    assert exercised(title) & excused == set()


def test_nothing_is_exercised_or_excused_that_the_runbook_does_not_have() -> None:
    named = {of for exercise in EXERCISES for of, _ in exercise.rows} | {of for of, _ in NOT_HERE}
    assert named == set(SECTIONS)


def test_the_errors_here_are_all_that_there_are() -> None:
    assert set(RecomputeError.__subclasses__()) == ERRORS - set(RetryLater.__subclasses__()) | {RetryLater}


def test_every_error_that_may_make_a_dead_letter_has_a_row() -> None:
    assert {error.__name__ for error in ERRORS} <= reasons("Dead letters")


def test_every_error_that_the_workflow_ends_with_has_a_row() -> None:
    states = workflow()["States"].values()
    of_states = {s["Error"] for s in states if "Error" in s}
    of_states |= {s["Parameters"]["Error"] for s in states if "Error" in s.get("Parameters", {})}
    assert "UnknownStatus" in of_states
    assert of_states <= reasons("Runs fail")


def test_every_error_of_a_check_that_the_workflow_tells_of_has_a_row() -> None:
    caught = {name for catch in workflow()["States"]["CheckStatus"]["Catch"] for name in catch["ErrorEquals"]}
    told = caught - {"States.ALL"} | {BadInput.__name__, ConfigurationError.__name__}
    assert len(told) > 2
    assert told <= reasons("Runs fail")


def test_every_end_of_an_execution_that_the_trigger_concludes_has_a_row() -> None:
    statuses = set(resource("RunEndedRule")["EventPattern"]["detail"]["status"])
    assert statuses <= reasons("Runs fail")


@pytest.mark.parametrize(
    ("module", "known"), [(completion, "NeverStarted"), (starter, "RequestFailed"), (check, "Rejected")]
)
def test_every_reason_that_a_run_is_given_has_a_row(module: ModuleType, known: str) -> None:
    given = set(reasons_given(module))
    assert known in given
    assert given - NOT_OF_RUNS <= reasons("Runs fail")


def reasons_given(module: ModuleType) -> Iterator[str]:
    """The reasons that a module writes out: of judgements, of checks that failed, and in its answers."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Call(func=ast.Name(id="Judgement" | "failed_check"), args=[_, reason, *_]):
                yield from named(reason)
            case ast.Dict(keys=keys, values=values):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "reason":
                        yield from named(value)


def named(reason: ast.expr) -> Iterator[str]:
    match reason:
        case ast.Constant(value=str(word)) | ast.Attribute(value=ast.Name(id=word), attr="__name__"):
            yield word
