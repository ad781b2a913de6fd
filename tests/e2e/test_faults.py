"""A fault at any call leaves an update recomputed, announced as failed, or in the dead-letter queue."""

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
def test_fault_at_a_call_leads_to_the_expected_end_and_nothing_else(
    observed: dict[str, Observation], name: str
) -> None:
    seen = observed[name]

    ends, asks = EXPECTED[name]
    assert seen.violations == ()
    assert seen.ends == ends
    assert seen.asks in asks
