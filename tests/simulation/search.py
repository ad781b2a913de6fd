"""Searches histories for a broken guarantee, and shortens the broken ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tests.simulation.checks import violations
from tests.simulation.stimuli import Stimulus
from tests.simulation.world import History, Protocol, play

T = TypeVar("T")

SEEDS = 1000
"""The number of histories within which every planted bug is found."""


@dataclass(frozen=True)
class Broken:
    """The shortest version found of a history that breaks a guarantee."""

    history: History
    violations: list[str]

    def __str__(self) -> str:
        lines = [f"seed {self.history.seed} breaks:", *(f"  {text}" for text in self.violations)]
        lines += ["what went wrong:", *(f"  {fault}" for fault in self.history.faults or ["nothing"])]
        lines += ["what happened:", *(str(event)[:170] for event in self.history.journal.events)]
        return "\n".join(lines)


def examine(seed: int, protocol: Protocol) -> tuple[History, Broken | None]:
    """The history of a seed, and its violations, if there are any."""
    history = play(seed, protocol)
    if not violations(history):
        return history, None
    return history, shrink(history, protocol)


def shrink(history: History, protocol: Protocol) -> Broken:
    """Leaves out stimuli and faults as long as one of the first violations remains."""
    guarantee = violations(history)[0][0]

    def played(stimuli: Sequence[Stimulus], faults: Sequence[str]) -> History | None:
        shorter = play(history.seed, protocol, list(stimuli), frozenset(faults))
        return shorter if any(text[0] == guarantee for text in violations(shorter)) else None

    stimuli, faults = history.stimuli, history.faults
    for _ in range(2):  # with fewer stimuli, fewer faults may suffice
        faults = _fewer(faults, lambda some: played(stimuli, some) is not None)  # noqa: B023  # called at once
        stimuli = _fewer(stimuli, lambda some: played(some, faults) is not None)  # noqa: B023
    shortest = played(stimuli, faults) or history
    return Broken(shortest, violations(shortest))


def _fewer(items: list[T], still_broken: Callable[[list[T]], bool]) -> list[T]:
    """Delta debugging: leaves out ever smaller parts, until no single one can be left out."""
    size = len(items)
    while size:
        start = 0
        while start < len(items):
            rest = items[:start] + items[start + size :]
            if still_broken(rest):
                items = rest
            else:
                start += size
        size //= 2
    return items
