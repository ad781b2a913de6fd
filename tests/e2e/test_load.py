"""The guarantees hold under load. `make load` does the same with 10,000 updates of 100 models."""

import pytest

from tests.e2e.load import measure

pytestmark = pytest.mark.long


def test_all_guarantees_hold_under_load() -> None:
    report = measure(updates=2_000, models=50)

    assert report.violations == ()
    assert report.garbage == 20
    assert report.refused_calls > 0
    assert report.recomputes >= 50
