"""The guarantees hold in every history."""

import pytest

from tests.simulation.search import examine
from tests.simulation.world import Protocol, play

HISTORIES, CHUNK = 400, 100
"""Seeds here, and in each test of them. `make simulate` plays thousands."""


@pytest.mark.parametrize("first", range(0, HISTORIES, CHUNK))
def test_guarantees_hold_in_every_history(first: int) -> None:
    for seed in range(first, first + CHUNK):
        _, broken = examine(seed, Protocol())
        assert broken is None, str(broken)


@pytest.mark.parametrize("seed", range(5))
def test_one_seed_always_gives_the_same_history(seed: int) -> None:
    once, again = play(seed, Protocol()), play(seed, Protocol())

    assert list(map(str, once.journal.events)) == list(map(str, again.journal.events))
    assert (once.faults, once.steps) == (again.faults, again.steps)
    assert list(map(str, play(seed + 1, Protocol()).journal.events)) != list(map(str, once.journal.events))
