"""Whatever goes wrong, and wherever: an update ends recomputed, told of, or in the dead-letter queue."""

import pytest

from tests.e2e.alone import alone
from tests.e2e.fault_run import Observation, expectations, observe, write_report

pytestmark = pytest.mark.long

EXPECTED = expectations()


@pytest.fixture(scope="module")
def observed() -> dict[str, Observation]:
    observations = alone(observe)
    write_report(observations)
    return observations


@pytest.mark.parametrize("name", EXPECTED)
def test_the_update_ends_up_as_it_should_and_nothing_else_happens(
    observed: dict[str, Observation], name: str
) -> None:
    seen = observed[name]

    ends, asks = EXPECTED[name]
    assert seen.violations == ()
    assert seen.ends == ends
    assert seen.asks in asks
