"""Random histories find bugs planted in the protocol."""

import pytest

from tests.simulation.checks import violations
from tests.simulation.planted import PLANTED
from tests.simulation.search import SEEDS, examine
from tests.simulation.world import play

pytestmark = pytest.mark.long


@pytest.mark.parametrize("name", PLANTED)
def test_planted_bug_is_found(name: str) -> None:
    planted = PLANTED[name]

    found = (
        violation
        for seed in range(SEEDS)
        for violation in violations(play(seed, planted.protocol))
        if violation.startswith(planted.breaks)
    )

    assert next(found, None)


def test_broken_history_is_shortened() -> None:
    protocol = PLANTED["given back while it is held"].protocol
    examined = (examine(seed, protocol) for seed in range(SEEDS))
    seed, broken = next((history.seed, broken) for history, broken in examined if broken)

    long, short = play(seed, protocol), broken.history
    assert len(short.stimuli) + len(short.faults) < len(long.stimuli) + len(long.faults)
    assert violations(play(seed, protocol, short.stimuli, frozenset(short.faults))) == broken.violations
    assert all(violation in str(broken) for violation in broken.violations)
