"""The guarantees hold in every order of events, and the explorer finds planted bugs."""

import pytest

from tests.simulation.explore import SCENARIOS, SMALL, Scenario
from tests.simulation.explorer import explore
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.small_steps import Code


@pytest.mark.parametrize("scenario", SMALL, ids=lambda scenario: scenario.name)
def test_every_guarantee_holds_in_every_order(scenario: Scenario) -> None:
    found = explore(scenario.start, scenario.setting, Code())
    assert found.fault is None, f"{found.fault}: {' > '.join(found.history)}"
    assert found.worlds > 10


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.bug)
def test_planted_bug_is_found(mutant: Mutant) -> None:
    scenario = SCENARIOS[mutant.scenario]
    assert explore(scenario.start, scenario.setting, mutant.code).fault
