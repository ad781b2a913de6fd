"""What is due for an entry: by exhaustion over a grid of entries and times, and by examples."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.protocol.decide import PATIENCE, CheckUp, Later, Rest, Start, decide, starts_at
from arcanna_metrics.protocol.entry import NEVER, Claim, Element, Entry, Waiting, pruned
from arcanna_metrics.protocol.transitions import record, settled
from arcanna_metrics.settings import Pace
from arcanna_metrics.targets import WHOLE, Update
from tests.support.doubles import PACE as DEFAULTS
from tests.support.doubles import TARGET

LAG = 35.0
PACES = [
    replace(DEFAULTS, visibility_lag=lag, spacing=spacing) for lag in (0.0, LAG) for spacing in (0.0, 500.0)
]
PACE = PACES[2]
NEVER_ENOUGH = (Element("a", 1000.0, 1, 9000.0),)
ENOUGH = (Element("a", 1000.0, 600_000, 9000.0), Element("b", 1030.0, 600_000, 9030.0))
NOWS = [0.0, 999.9, 1000.0, 1035.0, 1070.0, 1100.0, 1500.0, 9000.0, 1e9]


def grid() -> Iterator[Entry]:
    """Every combination of what waits, what delays a run, and who holds the target."""
    needs = [
        *((NEVER, None, NEVER), (1000.0, 965.0, NEVER), (1400.0, 965.0, NEVER)),
        *((1000.0, 1000.0, 1000.0), (1400.0, 965.0, 990.0)),
    ]
    wishes = [(NEVER, NEVER), (500.0, 1000.0)]
    claims = [None, Claim("run", 1000.0), Claim("run", 1000.0, number=0)]
    floors = [(NEVER, NEVER), (1100.0, NEVER), (NEVER, 1200.0)]
    marks = [(NEVER, NEVER, NEVER), (900.0, NEVER, 900.0), (NEVER, 900.0, 950.0), (2000.0, NEVER, 2000.0)]
    batches = [(), NEVER_ENOUGH, ENOUGH]
    for need, wish, batch, claim, floor, mark, due in product(
        needs, wishes, batches, claims, floors, marks, (None, 1050.0)
    ):
        yield Entry(
            TARGET,
            waiting=Waiting(
                needed_as_of=need[0],
                since=need[1],
                asked_at=need[2],
                wanted_as_of=wish[0],
                wanted_at=wish[1],
                batch=batch,
            ),
            claim=claim,
            retry_at=floor[0],
            not_before=floor[1],
            fresh_as_of=mark[0],
            failed_as_of=mark[1],
            last_requested_at=mark[2],
            due_at=due,
        )


GRID = list(grid())


def test_grid_has_more_than_60000_combinations() -> None:
    assert len(GRID) * len(NOWS) * len(PACES) > 60_000


@pytest.mark.parametrize("pace", PACES, ids=["no lag", "no lag, spaced", "lag", "lag, spaced"])
def test_every_entry_has_exactly_one_decision_at_every_time(pace: Pace) -> None:
    for entry, now in product(GRID, NOWS):
        decision, at = decide(entry, now, pace), starts_at(pruned(entry), pace)
        if entry.claim is not None:
            held_until = entry.due_at if entry.due_at is not None and entry.due_at > now else None
            assert decision == (CheckUp(entry.claim) if held_until is None else Later(held_until))
        elif not pruned(entry).dirty:
            assert decision == Rest()
            assert at is None
        else:
            assert at is not None
            assert decision == (Later(at) if at > now else Start())


@pytest.mark.parametrize("pace", PACES, ids=["no lag", "no lag, spaced", "lag", "lag, spaced"])
def test_run_never_starts_within_backoff_or_spacing_or_without_updates(pace: Pace) -> None:
    for entry in GRID:
        at = starts_at(pruned(entry), pace)
        if at is None:
            continue
        assert at >= max(entry.retry_at, entry.not_before)
        assert at >= entry.last_requested_at + pace.spacing
        left = pruned(replace(entry, fresh_as_of=at, failed_as_of=at))  # the state that a started run leaves
        before = pruned(entry)
        assert left != before
        assert left.waiting != before.waiting or before.waiting.needed_as_of > NEVER


@pytest.mark.parametrize("pace", PACES, ids=["no lag", "no lag, spaced", "lag", "lag, spaced"])
def test_entry_is_due_whenever_it_is_dirty_or_held(pace: Pace) -> None:
    for entry in GRID:
        written = settled(entry, pace)
        assert settled(written, pace) == written
        if entry.run_id is None:
            assert (written.due_at is not None) == written.dirty
            assert written.due_at == starts_at(pruned(entry), pace)
        else:
            assert written.due_at == entry.due_at


# --- By examples -----------------------------------------------------------------------------------------


UNKNOWN = Entry(TARGET)


def at(entry: Entry = UNKNOWN, **waiting: Any) -> float | None:
    return starts_at(pruned(replace(entry, waiting=Waiting(**waiting))), PACE)


def test_single_update_starts_a_run_when_it_is_visible() -> None:
    assert at(needed_as_of=1000.0, since=965.0) == 1000.0


def test_several_updates_start_a_run_when_the_last_is_visible() -> None:
    assert at(needed_as_of=1030.0, since=965.0) == 1030.0


def test_endless_updates_start_a_run_when_the_first_has_waited_two_more_lags() -> None:
    assert at(needed_as_of=5000.0, since=965.0) == 1000.0 + PATIENCE * LAG


def test_request_by_hand_does_not_wait_for_an_update_that_is_not_visible_yet() -> None:
    assert at(needed_as_of=5000.0, since=965.0, asked_at=970.0) == 970.0


def test_request_by_hand_starts_a_run_at_once() -> None:
    assert at(needed_as_of=965.0, since=965.0) == 965.0


def test_unfilled_batch_waits_until_an_elements_maximum_wait() -> None:
    assert at(batch=(Element("a", 1000.0, 1, 2000.0), Element("b", 1010.0, 1, 1500.0))) == 1500.0


def test_batch_that_is_full_starts_a_run_when_its_last_element_is_visible() -> None:
    assert at(batch=ENOUGH) == 1030.0


def test_element_beyond_a_full_batch_delays_the_run_by_two_lags_at_most() -> None:
    assert at(batch=(*ENOUGH, Element("c", 5000.0, 1, 9000.0))) == 1030.0 + PATIENCE * LAG


def test_element_with_an_early_maximum_wait_waits_until_it_is_visible() -> None:
    assert at(batch=(Element("a", 1000.0, 1, 970.0),)) == 1000.0


def test_covered_elements_do_not_count_towards_a_full_batch() -> None:
    assert at(Entry(TARGET, fresh_as_of=1000.0), batch=ENOUGH) == 9030.0


def test_update_starts_a_run_that_covers_an_unfilled_batch() -> None:
    assert at(batch=NEVER_ENOUGH, needed_as_of=2000.0, since=1965.0) == 2000.0


def test_wish_is_due_at_once() -> None:
    assert at(wanted_as_of=100.0, wanted_at=1000.0) == 1000.0


def test_wish_waits_until_a_recorded_update_is_visible() -> None:
    assert at(wanted_as_of=100.0, wanted_at=1000.0, needed_as_of=1034.0, since=999.0) == 1034.0
    full = (Element("a", 1034.0, WHOLE, 9000.0),)
    assert at(wanted_as_of=100.0, wanted_at=1000.0, batch=full) == 1034.0


def test_batch_that_is_not_enough_delays_neither_a_wish_nor_a_request_by_hand() -> None:
    batch = (Element("a", 1034.0, 1, 9000.0),)
    assert at(wanted_as_of=100.0, wanted_at=1000.0, batch=batch) == 1000.0
    assert at(needed_as_of=1000.0, since=1000.0, batch=batch) == 1000.0


def test_batch_at_its_maximum_wait_waits_until_a_recorded_update_is_visible() -> None:
    batch = (Element("a", 500.0, 1, 1000.0),)
    assert at(batch=batch, needed_as_of=1034.0, since=999.0) == 1034.0


def test_wish_waits_two_lags_at_most() -> None:
    due = at(wanted_as_of=100.0, wanted_at=1000.0, needed_as_of=5000.0, since=4965.0)
    assert due == 1000.0 + PATIENCE * LAG


def test_spacing_counts_from_the_last_request() -> None:
    waits = Entry(TARGET, waiting=Waiting(needed_as_of=1000.0, since=965.0), last_requested_at=900.0)
    assert starts_at(waits, replace(PACE, spacing=300.0)) == 1200.0


# --- By properties: any updates of a new target ----------------------------------------------------------

seconds = st.integers(1000, 1300).map(float)
whole = st.builds(lambda at: Update(TARGET, at, "upload"), seconds)
shares = st.builds(
    lambda at, share, wait: Update(TARGET, at, "upload", share=share, max_wait=wait),
    seconds,
    st.sampled_from([1, 300_000, 600_000]),
    st.sampled_from([0.0, 100.0, 5000.0]),
)


def started(updates: list[Update]) -> float:
    start = starts_at(record(Entry(TARGET), updates, PACE), PACE)
    assert start is not None
    return start


@given(st.lists(whole, min_size=1))
def test_run_starts_when_the_last_update_is_visible_or_the_first_has_waited_enough(
    updates: list[Update],
) -> None:
    visible = [update.happened_at + LAG for update in updates]
    assert started(updates) == min(max(visible), min(visible) + PATIENCE * LAG)


@given(st.lists(shares, min_size=1, unique_by=lambda update: update.happened_at))
def test_run_for_a_batch_starts_when_it_is_full_or_has_waited_enough(updates: list[Update]) -> None:
    visible = sorted((update.happened_at + LAG, update.share) for update in updates)
    full = [at for n, (at, _) in enumerate(visible) if sum(share for _, share in visible[: n + 1]) >= WHOLE]
    waited = max(visible[0][0], min(update.happened_at + update.max_wait for update in updates))
    worth = min([waited, *full])
    assert worth <= started(updates) <= worth + PATIENCE * LAG


@given(st.lists(whole | shares, min_size=1))
def test_run_covers_only_updates_visible_at_its_start(updates: list[Update]) -> None:
    start = started(updates)
    entry = record(Entry(TARGET), updates, PACE)
    left = pruned(replace(entry, fresh_as_of=start))
    later = [update for update in updates if update.happened_at + LAG > start]
    assert left.dirty == bool(later)
    assert len(later) < len(updates)  # a run that covers nothing does not start


@given(st.lists(whole | shares, min_size=1), st.floats(0, 1e4))
def test_decision_changes_at_the_time_that_it_names_and_not_before(updates: list[Update], now: float) -> None:
    entry = record(Entry(TARGET), updates, PACE)
    decision = decide(entry, now, PACE)
    if isinstance(decision, Later):
        assert decision.at > now
        assert decide(entry, decision.at, PACE) == Start()
        assert decide(entry, decision.at - 0.001, PACE) == decision
    else:
        assert decision == Start()
