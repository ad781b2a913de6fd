"""Each remedy of the runbook mends the situation that it is for."""

from collections.abc import Mapping
from functools import partial

import pytest

from tests.e2e.alone import alone
from tests.e2e.exercises import EXERCISES, Exercise, play

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def failures(request: pytest.FixtureRequest) -> Mapping[str, str]:
    """The tracebacks of the exercises that were chosen on the command line."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    of_this_file = [item for item in items if item.path == request.path]
    names = [item.callspec.params["exercise"].name for item in of_this_file]  # type: ignore[attr-defined]
    return alone(partial(play, names))


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_runbook_remedy_mends_the_situation(failures: Mapping[str, str], exercise: Exercise) -> None:
    assert not failures[exercise.name], failures[exercise.name]
