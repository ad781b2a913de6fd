"""Slots limit concurrent runs, whatever crashes. Runs never have to return them."""

from dataclasses import replace
from typing import Any

import pytest

from arcanna_metrics.protocol import slots
from arcanna_metrics.protocol.entry import Claim, Entry
from arcanna_metrics.protocol.slots import Taker
from arcanna_metrics.targets import Target
from tests.unit.harness import Harness

TARGETS = [Target("1", f"model-{number}") for number in range(9)]


def claimed(harness: Harness, number: int, run_id: str | None = None) -> Taker:
    """A run that has claimed the target of that number."""
    run_id = run_id or f"run-{number}"
    harness.ledger.apply(TARGETS[number], lambda entry: replace(entry, claim=Claim(run_id, 1.0), due_at=1.0))
    return Taker(run_id, TARGETS[number])


def release(harness: Harness, number: int) -> None:
    harness.ledger.apply(TARGETS[number], lambda entry: replace(entry, claim=None))


def test_slots_are_taken_until_none_is_left(harness: Harness) -> None:
    assert [slots.take(harness.ledger, 2, claimed(harness, number)) for number in range(3)] == [
        True,
        True,
        False,
    ]


def test_slot_of_a_released_run_is_taken_by_the_next_one(harness: Harness) -> None:
    assert slots.take(harness.ledger, 1, claimed(harness, 0))
    release(harness, 0)
    assert slots.take(harness.ledger, 1, claimed(harness, 1))
    assert not slots.take(harness.ledger, 1, claimed(harness, 2))


def test_slot_is_free_when_another_run_has_claimed_the_target(harness: Harness) -> None:
    assert slots.take(harness.ledger, 1, claimed(harness, 0))
    assert slots.take(harness.ledger, 1, claimed(harness, 0, "run-of-its-own"))


def test_claim_without_a_slot_leaves_the_taken_slots_alone(harness: Harness) -> None:
    assert slots.take(harness.ledger, 1, claimed(harness, 0))
    claimed(harness, 1)
    assert len(slots.taken(harness.ledger, 1).takers) == 1


def test_look_at_the_slots_takes_none(harness: Harness) -> None:
    taker = claimed(harness, 0)
    slots.take(harness.ledger, 3, taker)
    assert slots.taken(harness.ledger, 3) == slots.taken(harness.ledger, 3) == (1, [taker])


def test_look_at_full_slots_shows_the_runs_that_hold_them(harness: Harness) -> None:
    slots.take(harness.ledger, 2, claimed(harness, 0))
    slots.take(harness.ledger, 2, claimed(harness, 1))
    release(harness, 1)
    (taker,) = slots.taken(harness.ledger, 2).takers

    assert taker.target == TARGETS[0]


def test_lowered_limit_grants_no_slot_until_runs_have_ended(harness: Harness) -> None:
    for number in range(3):
        slots.take(harness.ledger, 3, claimed(harness, number))
    assert not slots.take(harness.ledger, 1, claimed(harness, 3))
    for number in range(3):
        release(harness, number)
    assert slots.take(harness.ledger, 1, claimed(harness, 3))


def test_unreadable_entry_counts_as_holding_its_slot(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots.take(harness.ledger, 1, claimed(harness, 0))
    release(harness, 0)

    def reads_nothing(targets: list[Target]) -> dict[Target, Entry]:
        return {}

    monkeypatch.setattr(harness.ledger, "read_all", reads_nothing)
    assert len(slots.taken(harness.ledger, 1).takers) == 1
    assert not slots.take(harness.ledger, 1, claimed(harness, 1))


def test_former_holders_are_removed_from_the_item(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcanna_metrics.protocol.slots.MOST_UNREAD", 5)
    for number in range(10):
        target = Target("я" * 120, f"model-{number}")
        harness.ledger.apply(target, lambda entry: replace(entry, claim=Claim("run", 1.0), due_at=1.0))
        assert slots.take(harness.ledger, 1000, Taker("run", target))
        harness.ledger.apply(target, lambda entry: replace(entry, claim=None))
    assert len(slots.taken(harness.ledger, 1000).takers) <= 5


def test_one_of_two_concurrent_runs_gets_the_last_slot(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = claimed(harness, 0), claimed(harness, 1)
    taken = []
    swap = harness.ledger.swap_item  # the moment between reading and writing

    def swap_after_the_other(item: dict[str, Any], rev: int) -> bool:
        monkeypatch.setattr(harness.ledger, "swap_item", swap)
        taken.append(slots.take(harness.ledger, 1, second))
        return swap(item, rev)

    monkeypatch.setattr(harness.ledger, "swap_item", swap_after_the_other)
    taken.append(slots.take(harness.ledger, 1, first))
    assert taken == [True, False]
