"""What becomes of an update: never two runs at once, never an update without a recompute after it."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arcanna_metrics.coverage import Action, Entry, decide, plan
from arcanna_metrics.gathering import Significance, mark
from arcanna_metrics.targets import Target
from arcanna_metrics.updates import Update

MARGIN = 5.0
NOW = 1000.0
HELD = Entry(run_id="r", requested_at=900.0, lease_expires_at=2000.0)
IN_DOUBT = Entry(run_id="r", lease_expires_at=2000.0)
EXPIRED = Entry(run_id="r", requested_at=900.0, lease_expires_at=999.9)

times = st.floats(0, 2000)
margins = st.floats(0, 60)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    held = draw(st.booleans())
    return Entry(
        run_id="r" if held else None,
        requested_at=draw(st.none() | times) if held else None,
        lease_expires_at=draw(times) if held else None,
        pending_at=draw(st.none() | times),
        covered_until=draw(st.none() | times),
    )


@pytest.mark.parametrize(
    ("entry", "happened_at", "action"),
    [
        # Nobody holds the model.
        (Entry(), 900.0, "claim"),
        (Entry(), 994.9, "claim"),
        (Entry(), 995.0, "settle"),
        (Entry(), 1000.0, "settle"),
        (Entry(pending_at=996.0), 900.0, "settle"),
        (Entry(pending_at=990.0), 900.0, "claim"),
        # A completed run was asked for later, with the margin.
        (Entry(covered_until=950.0), 944.9, "covered"),
        (Entry(covered_until=950.0), 945.0, "claim"),
        # A run is under way.
        (HELD, 894.9, "covered"),
        (HELD, 895.0, "coalesce"),
        (HELD, 1000.0, "coalesce"),
        (Entry(run_id="r", requested_at=900.0, lease_expires_at=NOW), 950.0, "coalesce"),
        # A model is claimed, and whether that becomes a run is not known yet: it may not be relied on.
        (IN_DOUBT, 894.9, "settle"),
        (IN_DOUBT, 1000.0, "settle"),
        (Entry(run_id="r", lease_expires_at=999.9), 894.9, "claim"),
        # It was under way: what it asked for proves nothing.
        (EXPIRED, 894.9, "claim"),
        (EXPIRED, 1000.0, "settle"),
    ],
)
def test_what_becomes_of_an_update(entry: Entry, happened_at: float, action: Action) -> None:
    assert decide(entry, happened_at, NOW, MARGIN) == action


@given(entries(), times, times, margins)
def test_a_held_model_is_never_claimed(entry: Entry, happened_at: float, now: float, margin: float) -> None:
    assume(entry.held(now))
    meanwhile = "settle" if entry.requested_at is None else "coalesce"
    assert decide(entry, happened_at, now, margin) in ("covered", meanwhile)


@given(entries(), times, times, margins)
def test_covered_means_asked_for_after_the_update(
    entry: Entry, happened_at: float, now: float, margin: float
) -> None:
    assume(decide(entry, happened_at, now, margin) == "covered")
    requests = [entry.covered_until, entry.requested_at if entry.held(now) else None]
    assert any(at is not None and at > happened_at + margin for at in requests)


@given(entries(), times, times, margins)
def test_on_a_claim_in_doubt_nothing_relies(
    entry: Entry, happened_at: float, now: float, margin: float
) -> None:
    """The update is treated as if there were no claim, except that it waits for what becomes of it."""
    in_doubt = replace(entry, run_id="r", requested_at=None)
    assume(in_doubt.held(now))
    free = replace(in_doubt, run_id=None, lease_expires_at=None)
    expected = "covered" if decide(free, happened_at, now, margin) == "covered" else "settle"
    assert decide(in_doubt, happened_at, now, margin) == expected


@given(entries(), times, times, times, margins)
def test_a_later_update_needs_no_less(
    entry: Entry, earlier: float, later: float, now: float, margin: float
) -> None:
    need = {"covered": 0, "coalesce": 1, "claim": 1, "settle": 2}
    earlier, later = sorted((earlier, later))
    assert need[decide(entry, earlier, now, margin)] <= need[decide(entry, later, now, margin)]


@given(st.none() | times, times, margins, st.floats(0.001, 1000), st.floats(0, 1000))
def test_an_update_that_led_to_a_run_is_covered_when_it_comes_again(
    pending_at: float | None, happened_at: float, margin: float, waited: float, after: float
) -> None:
    entry = Entry(pending_at=pending_at)
    now = entry.settles_at(happened_at, margin) + waited
    assert decide(entry, happened_at, now, margin) == "claim"
    running = Entry(run_id="new", requested_at=now, lease_expires_at=now + after)
    completed = Entry(covered_until=now)
    # The claim forgets pending_at, so the run has to cover that as well.
    for update in {happened_at, pending_at or happened_at}:
        assert decide(running, update, now + after, margin) == "covered"
        assert decide(completed, update, now + after, margin) == "covered"


@given(entries(), times, times, margins)
def test_an_update_settles_once_and_for_all(
    entry: Entry, happened_at: float, now: float, margin: float
) -> None:
    assume(decide(entry, happened_at, now, margin) == "settle")
    settled = max(entry.settles_at(happened_at, margin), entry.doubtful_until) + 0.001
    assert settled > now
    assert decide(entry, happened_at, settled, margin) == "claim"


# --- Together with what waits ----------------------------------------------------------------------------

TARGET = Target("1234", "m")
THREE = Significance(3, None, 600.0)


def gathered(*times: float) -> frozenset[str]:
    return frozenset(mark(at, 10, str(at)) for at in times)


def upload(*times: float, waker: bool = False) -> Update:
    """Uploads at these times, three of which are enough."""
    return Update(
        TARGET,
        max(times),
        "upload",
        min(times),
        count=len(times),
        marks=gathered(*times),
        significance=THREE,
        waker=waker,
    )


def waker(at: float, promised_at: float) -> Update:
    return replace(upload(at, waker=True), promised_at=promised_at)


OTHERS_WAIT = Entry(covered_until=950.0, gathered=gathered(960.0))


def at_once(at: float, waker: bool = False) -> Update:
    return Update(TARGET, at, "manual", at, waker=waker)


@pytest.mark.parametrize(
    ("entry", "update", "action", "until"),
    [
        # Not enough yet, and then enough: by their number, with what waits already, or by their age.
        (Entry(), upload(900.0, 910.0), "wait", 1500.0),
        (Entry(), upload(900.0, 910.0, 920.0), "claim", None),
        (Entry(gathered=gathered(890.0)), upload(900.0, 910.0), "claim", None),
        (Entry(gathered=gathered(900.0)), upload(900.0, 910.0), "wait", 1500.0),
        (Entry(gathered=gathered(400.0)), upload(900.0), "claim", None),
        # What a recompute covers does not count any more.
        (Entry(gathered=gathered(890.0), covered_until=896.0), upload(900.0, 910.0), "wait", 1500.0),
        (Entry(covered_until=930.0), upload(900.0, 910.0, 920.0), "covered", None),
        (HELD, upload(890.0), "covered", None),
        # During a run they wait as well, and are enough for the next one some time.
        (HELD, upload(910.0), "wait", 1510.0),
        (HELD, upload(910.0, 920.0, 930.0), "coalesce", None),
        # An update that is significant in itself does not wait, and takes the others along.
        (Entry(gathered=gathered(990.0)), at_once(900.0), "claim", None),
        (Entry(gathered=gathered(996.0)), at_once(900.0), "claim", None),
        (Entry(gathered=gathered(990.0)), at_once(996.0), "settle", None),
        # Covered itself: others are somebody else's business, if there is somebody.
        (replace(OTHERS_WAIT, wake_at=1001.0), at_once(900.0), "covered", None),
        (replace(OTHERS_WAIT, wake_at=999.0), at_once(900.0), "claim", None),
        # The waker itself is somebody, unless another has promised since.
        (replace(OTHERS_WAIT, wake_at=1001.0, promised_at=960.0), waker(900.0, 960.0), "wait", 1560.0),
        (replace(OTHERS_WAIT, wake_at=1001.0, promised_at=960.0), waker(900.0, 970.0), "wait", 1560.0),
        (replace(OTHERS_WAIT, wake_at=1001.0, promised_at=960.0), waker(900.0, 900.0), "covered", None),
        (replace(OTHERS_WAIT, wake_at=999.0, promised_at=960.0), waker(900.0, 900.0), "wait", 1560.0),
        (replace(OTHERS_WAIT, wake_at=1001.0), upload(900.0, waker=True), "wait", 1560.0),
        (Entry(covered_until=970.0, gathered=gathered(960.0)), upload(900.0, waker=True), "covered", None),
        # A claim has taken the others along, and may come to nothing, or its run has ended without a word.
        (replace(IN_DOUBT, covered_until=950.0), upload(900.0), "covered", None),
        (replace(IN_DOUBT, covered_until=950.0), upload(900.0, waker=True), "settle", None),
        (replace(IN_DOUBT, covered_until=950.0, lease_expires_at=999.0), upload(900.0), "claim", None),
        (replace(HELD, covered_until=850.0), upload(800.0, waker=True), "covered", None),
        (replace(HELD, covered_until=850.0, lease_expires_at=999.0), upload(800.0), "claim", None),
    ],
)
def test_what_becomes_of_updates_that_wait_together(
    entry: Entry, update: Update, action: Action, until: float | None
) -> None:
    planned = plan(entry, update, NOW, MARGIN, 0.0)
    assert planned.action == action
    assert until in (None, planned.until)


@pytest.mark.parametrize(
    ("entry", "update", "action", "until"),
    [
        (Entry(covered_until=800.0), at_once(900.0), "wait", 1100.0),
        (Entry(covered_until=700.0), at_once(900.0), "claim", None),
        (Entry(covered_until=950.0), at_once(900.0), "covered", None),
        (Entry(covered_until=800.0), upload(900.0), "wait", 1500.0),
        (Entry(covered_until=990.0, gathered=gathered(400.0)), upload(988.0), "wait", 1588.0),
        (replace(HELD, covered_until=800.0), at_once(950.0), "coalesce", None),
    ],
)
def test_recomputes_of_a_model_are_spaced(
    entry: Entry, update: Update, action: Action, until: float | None
) -> None:
    planned = plan(entry, update, NOW, MARGIN, 300.0)
    assert planned.action == action
    assert until in (None, planned.until)


def test_a_plan_tells_of_all_that_it_covers() -> None:
    planned = plan(Entry(gathered=gathered(890.0, 930.0)), upload(900.0), NOW, MARGIN, 0.0)
    assert (planned.happened_at, planned.first_at, planned.updates) == (930.0, 890.0, 3)
    assert planned.left_at is None


@pytest.mark.parametrize(
    ("entry", "action"),
    [
        (Entry(pending_at=900.0), "claim"),
        (Entry(pending_at=900.0, run_id="r", requested_at=800.0, lease_expires_at=999.0), "claim"),
        (Entry(pending_at=900.0, covered_until=906.0), "wait"),
        (replace(HELD, pending_at=900.0), "wait"),
    ],
    ids=["given back", "expired", "covered", "of a run"],
)
def test_what_was_due_once_is_due_unless_a_run_sees_to_it(entry: Entry, action: Action) -> None:
    assert plan(entry, upload(950.0), NOW, MARGIN, 0.0).action == action


def test_what_others_have_reported_just_now_is_left_to_a_further_run() -> None:
    planned = plan(Entry(gathered=gathered(890.0, 996.0, 999.0)), at_once(900.0), NOW, MARGIN, 0.0)
    assert (planned.action, planned.happened_at, planned.left_at, planned.updates) == (
        "claim",
        900.0,
        999.0,
        2,
    )


def test_what_is_not_enough_without_them_waits_for_those_that_have_not_settled() -> None:
    planned = plan(Entry(gathered=gathered(996.0, 999.0)), upload(900.0), NOW, MARGIN, 0.0)
    assert (planned.action, planned.until) == ("wait", 1004.0)
    planned = plan(Entry(gathered=gathered(999.0)), upload(900.0), NOW, MARGIN, 0.0)
    assert (planned.action, planned.until) == ("wait", 1500.0)


def test_a_waker_that_is_covered_tells_of_those_that_wait_and_not_of_itself() -> None:
    planned = plan(OTHERS_WAIT, upload(100.0, 900.0, waker=True), NOW, MARGIN, 0.0)
    assert (planned.first_at, planned.updates, planned.own) == (960.0, 1, False)


@given(entries(), times)
def test_alone_and_at_once_an_update_is_decided_on_by_itself(entry: Entry, happened_at: float) -> None:
    assume(not entry.owed(NOW, MARGIN))
    happened_at = round(happened_at, 3)
    alone = plan(entry, at_once(happened_at), NOW, MARGIN, 0.0)
    assert alone.action == decide(entry, happened_at, NOW, MARGIN)
