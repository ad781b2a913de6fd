"""Every transition of an entry, alone and without AWS."""

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.controller.start import new_run
from arcanna_metrics.errors import PlatformUnavailable
from arcanna_metrics.protocol.decide import PATIENCE, Postponement, postponement
from arcanna_metrics.protocol.entry import NEVER, Claim, Element, Entry, Waiting, pruned
from arcanna_metrics.protocol.transitions import (
    CLAIM_LIFETIME,
    CONSISTENT_AFTER,
    EXAMPLES,
    HISTORY_LENGTH,
    MOST_ELEMENTS,
    accept,
    claim,
    correct_due_at,
    empty,
    give_back,
    hold,
    learn,
    postpone,
    postpone_check_up,
    receive,
    record,
    release,
    report_end,
    satisfy,
    settled,
    take_back,
)
from arcanna_metrics.runs.quality import Reference, Rules
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import WHOLE, Example, Update
from arcanna_metrics.times import to_iso
from tests.support.doubles import ACTIVE_TARGET, MODEL, PACE, TARGET

NOW = 1_736_950_000.0
LAG = PACE.visibility_lag
CLEAN = Entry(TARGET)
LATER = Postponement(NOW + 20.0)


def update(at: float = NOW, key: str | None = None, **fields: Any) -> Update:
    example = None if key is None else Example("bucket", key, None)
    return Update(TARGET, at, fields.pop("cause", "upload"), example, **fields)


def recorded(*updates: Update, entry: Entry = CLEAN) -> Entry:
    return record(entry, updates, PACE)


DIRTY = recorded(update(NOW - 60, "a"))
HOLDING = Claim("run-1", NOW, number=0)
HELD = claim(DIRTY, HOLDING)


def a_run(asked: float = NOW, **changes: Any) -> Any:
    return {
        "run_id": "run-1",
        "model_id": MODEL.model_id,
        "requested_at": to_iso(asked),
        "cause": {"updates": 1, "examples": [Example("bucket", "a", None)._asdict()]},
        **changes,
    }


def a_result(outcome: str = "completed", **changes: Any) -> Any:
    return {
        "outcome": outcome,
        "active_changed": False,
        "past_run": {"run_id": "run-1"} if outcome == "completed" else None,
        "figures": None,
        "failure": None if outcome == "completed" else {"reason": "NeverStarted"},
        **changes,
    }


def released(entry: Entry = HELD, run: Any = None, result: Any = None) -> Entry:
    number = entry.claim.number or 0 if entry.claim else 0
    after = release(entry, run or a_run(), number, result or a_result(), PACE, LATER)
    assert after is not None
    return after


# --- Recording -------------------------------------------------------------------------------------------


def test_update_is_needed_as_of_when_its_data_is_visible() -> None:
    entry = recorded(update(NOW, "a"))
    assert (entry.waiting.needed_as_of, entry.due_at, entry.waiting.since) == (NOW + LAG, NOW + LAG, NOW)
    assert (entry.waiting.updates, entry.waiting.cause, entry.waiting.last_at) == (1, "upload", NOW)


def test_request_by_hand_is_needed_as_of_now() -> None:
    assert recorded(update(by_hand=True)).due_at == NOW


def test_latest_update_sets_the_need_and_the_first_sets_the_waiting_time() -> None:
    entry = recorded(update(NOW + 9, "b"), update(NOW, "a"), update(NOW + 5, "c", cause="event"))
    assert (entry.waiting.needed_as_of, entry.waiting.since, entry.waiting.updates) == (NOW + 9 + LAG, NOW, 3)
    assert (entry.waiting.cause, entry.waiting.last_at) == ("upload", NOW + 9)


def test_covered_or_known_update_changes_nothing() -> None:
    fresh = replace(CLEAN, fresh_as_of=NOW + LAG)
    assert recorded(update(), entry=fresh) is fresh
    failed = replace(CLEAN, failed_as_of=NOW + LAG)
    assert recorded(update(), entry=failed) is failed
    known = recorded(update())
    assert recorded(update(), update(NOW - 1), entry=known) is known


def test_missing_watermark_is_not_the_earliest_time() -> None:
    assert recorded(update(0.0), entry=CLEAN).dirty
    assert recorded(update(-1e9), entry=CLEAN).dirty


def test_only_a_few_objects_are_remembered() -> None:
    entry = recorded(*(update(NOW + n, str(n)) for n in range(20)))
    assert [example.key for example in entry.waiting.examples] == [str(n) for n in range(EXAMPLES)]
    assert entry.waiting.updates == 20


def test_request_by_hand_clears_backoff_but_not_retry_after() -> None:
    waiting = replace(DIRTY, retry_at=NOW + 90, not_before=NOW + 50, attempts=3)
    hurried = recorded(update(by_hand=True), entry=waiting)
    assert (hurried.retry_at, hurried.not_before, hurried.due_at) == (NEVER, NOW + 50, NOW + 50)


def test_request_by_hand_that_a_run_has_covered_does_not_end_the_backoff() -> None:
    waiting = replace(recorded(update(NOW)), fresh_as_of=NOW - 90, retry_at=NOW + 90, attempts=3)
    assert recorded(update(NOW - 95, by_hand=True), entry=waiting) is waiting


def test_long_outage_makes_no_wait_longer_than_the_longest_backoff() -> None:
    assert postponement(None, 5000, PACE, NOW, 1.0).retry_at == NOW + PACE.longest_backoff


def test_request_by_hand_hurries_what_already_waits() -> None:
    waiting = settled(replace(recorded(update(NOW)), retry_at=NOW + 90), PACE)
    assert recorded(update(NOW + 1, by_hand=True), entry=waiting).due_at == NOW + 1


def test_request_by_hand_ends_the_backoff_once() -> None:
    asked = recorded(update(NOW, by_hand=True))
    failed = postpone(asked, PACE, Postponement(NOW + 90))
    assert recorded(update(NOW, by_hand=True), entry=failed) is failed
    assert recorded(update(NOW + 1, by_hand=True), entry=failed).due_at == NOW + 1


def test_run_by_hand_leaves_an_update_that_is_not_visible_yet_to_the_next_run() -> None:
    asked = recorded(update(NOW + 1, by_hand=True), entry=recorded(update(NOW)))
    after = released(replace(asked, claim=Claim("run-1", NOW + 2, number=0)))
    assert (after.waiting.asked_at, after.waiting.needed_as_of, after.due_at) == (NEVER, NOW + LAG, NOW + LAG)


def test_share_of_a_threshold_waits_in_the_batch() -> None:
    entry = recorded(update(NOW, "a", share=300_000, max_wait=900.0))
    assert [(e.as_of, e.share, e.until) for e in entry.waiting.batch] == [(NOW + LAG, 300_000, NOW + 900)]
    assert (entry.waiting.needed_as_of, entry.due_at, entry.waiting.updates) == (NEVER, NOW + 900, 1)


def test_share_delivered_twice_counts_once() -> None:
    share = update(NOW, "a", share=300_000, max_wait=900.0)
    entry = recorded(share, share)

    assert len(entry.waiting.batch) == 1
    assert recorded(share, entry=entry) is entry


def test_full_batch_is_due_when_visible() -> None:
    shares = [update(NOW + n, str(n), share=300_000, max_wait=900.0) for n in range(4)]
    assert recorded(*shares[:3]).due_at == NOW + 900
    assert recorded(*shares).due_at == NOW + 3 + LAG


def test_share_beyond_the_bound_of_a_batch_is_needed_at_once() -> None:
    shares = [update(NOW + n / 1000, str(n), share=1, max_wait=900.0) for n in range(MOST_ELEMENTS + 1)]
    entry = recorded(*shares)

    assert len(entry.waiting.batch) == MOST_ELEMENTS
    assert entry.waiting.needed_as_of == shares[-1].happened_at + LAG


def test_wish_waits_unless_a_run_has_satisfied_or_answered_it() -> None:
    wish = update(older_than=100.0, cause="schedule")
    entry = recorded(wish)
    assert (entry.waiting.wanted_as_of, entry.waiting.wanted_at, entry.due_at) == (NOW - 100, NOW, NOW)
    assert recorded(wish, entry=entry) is entry
    fresh = replace(CLEAN, fresh_as_of=NOW - 100)
    assert recorded(wish, entry=fresh) is fresh
    failed = replace(CLEAN, failed_as_of=NOW)
    assert recorded(wish, entry=failed) is failed
    assert recorded(wish, entry=replace(CLEAN, failed_as_of=NOW - 1)).dirty


def test_wish_for_a_jobs_active_model_waits_until_its_own_metrics_satisfy_it() -> None:
    """The run before may have been of the model that was active then."""
    fresh = Entry(ACTIVE_TARGET, fresh_as_of=NOW - 10)
    wish = Update(ACTIVE_TARGET, NOW, "schedule", older_than=100.0)
    assert record(fresh, [wish], PACE).waiting.wanted_as_of == NOW - 100
    run_since = replace(fresh, fresh_as_of=NOW)
    assert record(run_since, [wish], PACE) is run_since
    assert not pruned(replace(record(fresh, [wish], PACE), fresh_as_of=NOW)).dirty


def test_schedules_next_wish_does_not_take_away_the_place_of_one_that_waits() -> None:
    first, later = (update(NOW + at, older_than=100.0, cause="schedule") for at in (0, 3600))
    entry = recorded(later, entry=recorded(first))
    assert (entry.waiting.wanted_as_of, entry.due_at) == (NOW + 3500, NOW)


def test_wish_made_during_a_run_outlasts_its_failure() -> None:
    asked = HOLDING.requested_at
    before, during = (update(asked + at, older_than=100.0, cause="schedule") for at in (-1, 1))
    waits = recorded(during, entry=recorded(before, entry=HELD))
    assert pruned(replace(waits, claim=None, failed_as_of=asked)).waiting.wanted_at == asked + 1


def test_update_during_a_run_waits_and_leaves_the_run_alone() -> None:
    entry = recorded(update(NOW + 9, "b"), entry=HELD)
    assert (entry.run_id, entry.due_at, entry.waiting.needed_as_of) == ("run-1", HELD.due_at, NOW + 9 + LAG)


shares = {"a": WHOLE, "b": 400_000, "c": 1}  # an object has one route
updates = st.builds(
    lambda at, key, by_hand, **fields: update(
        NOW + at, key, share=shares[key], max_wait=900.0, by_hand=by_hand and shares[key] == WHOLE, **fields
    ),
    st.integers(0, 200),
    st.sampled_from("abc"),
    by_hand=st.booleans(),  # a request by hand has no threshold
    older_than=st.none() | st.sampled_from([10.0, 100.0]),
)
entries = st.sampled_from([CLEAN, DIRTY, HELD, replace(CLEAN, fresh_as_of=NOW + 50), released(HELD)])


@given(entries, st.lists(updates, max_size=6), st.randoms(use_true_random=False))
def test_order_and_number_of_deliveries_do_not_matter(entry: Entry, news: list[Update], random: Any) -> None:
    once = record(entry, news, PACE)
    again = [*news, *news]
    random.shuffle(again)
    twice = record(entry, again, PACE)
    one_by_one = entry
    for each in again:
        one_by_one = record(one_by_one, [each], PACE)
    assert record(once, again, PACE) is once
    for other in (twice, one_by_one):
        assert (other.waiting.needed_as_of, other.waiting.wanted_as_of, other.waiting.wanted_at) == (
            once.waiting.needed_as_of,
            once.waiting.wanted_as_of,
            once.waiting.wanted_at,
        )
        assert set(other.waiting.batch) == set(once.waiting.batch)
    assert twice.due_at == once.due_at
    # A late update does not shorten the wait of the others.
    assert (one_by_one.due_at or 0.0) >= (once.due_at or 0.0)


# --- The run that holds the target -----------------------------------------------------------------------


def test_claim_leaves_waiting_updates_in_place() -> None:
    entry = claim(DIRTY, Claim("run-1", NOW))
    assert entry.waiting == DIRTY.waiting
    assert entry.claim == Claim("run-1", NOW)
    assert entry.due_at == NOW + CLAIM_LIFETIME


def test_hold_succeeds_only_for_the_entrys_run_and_its_last_execution() -> None:
    claimed = claim(DIRTY, Claim("run-1", NOW))
    held = hold(claimed, "run-1", 0)

    assert held is not None
    assert (held.claim, held.due_at) == (Claim("run-1", NOW, number=0), claimed.due_at)
    assert hold(held, "run-1", 0) == held
    assert hold(claimed, "run-2", 0) is None
    resumed = hold(held, "run-1", 1)
    assert resumed == replace(held, claim=Claim("run-1", NOW, number=1))
    assert hold(resumed, "run-1", 0) is None
    assert hold(DIRTY, "run-1", 0) is None


def test_hold_after_the_report_of_an_end_leaves_the_check_up_due() -> None:
    reported = report_end(claim(DIRTY, Claim("run-1", NOW)), "run-1", NOW)
    assert reported is not None
    held = hold(reported, "run-1", 0)
    assert held is not None
    assert (held.claim, held.due_at) == (Claim("run-1", NOW, number=0), reported.due_at)


def test_claim_given_back_is_due_as_before_or_later() -> None:
    claimed = claim(DIRTY, Claim("run-1", NOW))
    assert give_back(claimed, "run-1", PACE, None) == DIRTY
    after = give_back(claimed, "run-1", PACE, LATER)
    assert after is not None
    assert (after.run_id, after.attempts, after.due_at) == (None, 1, LATER.retry_at)


def test_held_or_foreign_claim_is_not_given_back() -> None:
    assert give_back(HELD, "run-1", PACE, LATER) is None
    assert give_back(claim(DIRTY, Claim("run-2", NOW)), "run-1", PACE, LATER) is None


def test_latest_retry_after_is_kept() -> None:
    once = postpone(DIRTY, PACE, Postponement(NOW + 5, NOW + 90))
    again = postpone(once, PACE, Postponement(NOW + 7, NOW + 60))
    assert (again.attempts, again.not_before, again.due_at) == (2, NOW + 90, NOW + 90)


def test_error_of_the_last_failed_attempt_is_kept_until_a_run_is_released() -> None:
    first = postpone(DIRTY, PACE, Postponement(NOW + 5, last_error="PlatformUnavailable: no answer"))
    second = postpone(first, PACE, Postponement(NOW + 7, last_error="PlatformBusy: it recomputes"))
    held = hold(claim(second, Claim("run-1", NOW)), "run-1", 0)
    assert held is not None

    assert second.last_error == held.last_error == "PlatformBusy: it recomputes"
    assert released(held).last_error == ""


def test_run_taken_back_leaves_waiting_updates() -> None:
    after = take_back(HELD, HOLDING, PACE, LATER)
    assert (after.claim, after.attempts, after.due_at) == (None, 1, LATER.retry_at)
    assert after.waiting == HELD.waiting


def test_target_taken_back_waits_for_the_spacing() -> None:
    assert take_back(HELD, HOLDING, replace(PACE, spacing=70, start_grace=300), LATER).due_at == NOW + 70


def test_claim_given_back_does_not_wait_for_the_spacing() -> None:
    after = give_back(claim(DIRTY, Claim("run-1", NOW)), "run-1", replace(PACE, spacing=900), LATER)
    assert after is not None
    assert after.due_at == LATER.retry_at


def test_run_without_a_result_does_not_change_the_order_after_the_backoff() -> None:
    for after in (take_back(HELD, HOLDING, PACE, LATER), released(result=a_result("not_checked"))):
        over = correct_due_at(after, LATER.retry_at, PACE)
        assert over.due_at == DIRTY.due_at


@pytest.mark.parametrize("outcome", ["completed", "failed", "timed_out", "not_checked"])
def test_spacing_that_is_changed_later_counts_from_the_last_run_too(outcome: str) -> None:
    again = recorded(update(NOW + 9), entry=released(result=a_result(outcome)))
    assert again.last_requested_at == NOW
    assert correct_due_at(again, NOW + 9, replace(PACE, spacing=900)).due_at == NOW + 900


@pytest.mark.parametrize(("spacing", "waits"), [(70, 300), (900, 900)])
def test_claim_taken_back_waits_for_the_start_grace_too(spacing: int, waits: int) -> None:
    claimed, pace = Claim("run-1", NOW - 20), replace(PACE, spacing=spacing, start_grace=300)
    assert take_back(claim(DIRTY, claimed), claimed, pace, LATER).due_at == NOW - 20 + waits


def test_satisfied_wish_is_cleared_unless_it_was_raised_since() -> None:
    claimed = claim(recorded(update(older_than=100.0)), Claim("run-1", NOW))
    met = satisfy(claimed, "run-1", NOW - 100, PACE)
    assert met is not None
    assert (met.run_id, met.dirty, met.due_at) == (None, False, None)
    raised = satisfy(recorded(update(NOW + 1, older_than=10.0), entry=claimed), "run-1", NOW - 100, PACE)
    assert raised is not None
    assert (raised.run_id, raised.waiting.wanted_as_of, raised.due_at) == (None, NOW - 9, NOW + 1)
    assert satisfy(HELD, "run-1", NOW, PACE) is None


def test_report_and_check_up_change_only_the_due_time() -> None:
    assert report_end(HELD, "run-1", NOW) == replace(HELD, due_at=NOW + CONSISTENT_AFTER)
    soon = replace(HELD, due_at=NOW + 1)  # when Step Functions may not show the end yet
    assert report_end(soon, "run-1", NOW) == replace(HELD, due_at=NOW + CONSISTENT_AFTER)
    due = replace(HELD, due_at=NOW)
    assert report_end(due, "run-1", NOW) is due
    assert report_end(HELD, "run-2", NOW) is None
    assert postpone_check_up(HELD, NOW + 9) == replace(HELD, due_at=NOW + 9)


# --- Release ---------------------------------------------------------------------------------------------


def test_completed_run_makes_fresh_as_of_when_it_was_requested() -> None:
    after = released()
    assert (after.run_id, after.fresh_as_of, after.failed_as_of) == (None, NOW, NEVER)
    assert (after.dirty, after.due_at, after.waiting.updates, after.waiting.examples) == (False, None, 0, ())
    assert [past["run_id"] for past in after.history] == ["run-1"]


@pytest.mark.parametrize("outcome", ["failed", "timed_out"])
def test_failed_run_answers_the_updates_it_was_for(outcome: str) -> None:
    after = released(result=a_result(outcome))
    assert (after.fresh_as_of, after.failed_as_of, after.dirty) == (NEVER, NOW, False)
    assert after.last_failure is not None
    assert after.last_failure["reason"] == "NeverStarted"


def test_unchecked_run_counts_as_an_attempt() -> None:
    after = released(result=a_result("not_checked"))
    assert (after.fresh_as_of, after.failed_as_of) == (NEVER, NEVER)
    assert (after.waiting.needed_as_of, after.attempts, after.due_at) == (
        HELD.waiting.needed_as_of,
        1,
        LATER.retry_at,
    )


def test_unchecked_run_is_followed_by_the_next_after_the_spacing() -> None:
    spaced = replace(PACE, spacing=300.0)
    after = release(HELD, a_run(), 0, a_result("not_checked"), spaced, LATER)
    assert after is not None
    assert after.due_at == NOW + 300


def test_update_during_a_run_starts_exactly_one_more_run() -> None:
    after = released(recorded(update(NOW + 9, "b"), entry=HELD))
    assert (after.waiting.needed_as_of, after.due_at) == (NOW + 9 + LAG, NOW + 9 + LAG)
    assert (after.waiting.updates, [example.key for example in after.waiting.examples]) == (1, ["b"])
    again = released(
        claim(after, Claim("run-1", NOW + 90, number=0)),
        a_run(NOW + 90),
    )
    assert not again.dirty


def test_update_after_a_run_for_a_batch_waits_until_it_is_visible() -> None:
    batch = recorded(update(NOW - 60, "a", share=1, max_wait=60.0))
    during = recorded(update(NOW + 9, "b"), entry=claim(batch, HOLDING))
    assert recorded(update(NOW + 20, "c"), entry=released(during)).due_at == NOW + 20 + LAG


def test_update_beside_a_batch_waits_from_its_own_time_after_the_need_before_it_was_covered() -> None:
    both = recorded(update(NOW - 900, "a"), update(NOW + 9, "b", share=1, max_wait=9000.0))
    covered = settled(replace(both, fresh_as_of=NOW), PACE)
    assert covered.waiting.since is None
    assert recorded(update(NOW + 30, "c"), entry=covered).due_at == NOW + 30 + LAG


def test_run_after_failed_attempts_ends_their_count_though_updates_came_during_it() -> None:
    after = released(recorded(update(NOW + 9, "b"), entry=replace(HELD, attempts=3, last_error="away")))
    assert (after.dirty, after.attempts, after.last_error) == (True, 0, "")


def test_update_during_a_run_waits_since_it_happened() -> None:
    entry = recorded(update(NOW + 900, "b"), update(NOW + 950, "c"), entry=HELD)
    assert released(entry).waiting.since == NOW + 900


def test_update_not_visible_at_the_request_waits_from_the_request_on() -> None:
    entry = claim(recorded(update(NOW - 1, "b"), entry=DIRTY), HOLDING)
    assert released(recorded(update(NOW + 900, "c"), entry=entry)).waiting.since == NOW


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_updates_during_a_run_share_one_more_run_that_covers_the_last(outcome: str) -> None:
    entry = recorded(update(NOW + 9, "b"), update(NOW + 900, "c"), entry=HELD)
    after = released(entry, result=a_result(outcome))
    assert after.due_at == NOW + 900 + LAG  # a run that starts sooner cannot see the last, so another follows
    again = claim(after, Claim("run-1", NOW + 900 + LAG, number=0))
    assert not released(again, a_run(NOW + 900 + LAG)).dirty


def test_endless_updates_after_a_run_postpone_those_during_it_by_the_patience() -> None:
    after = released(recorded(update(NOW + 900, "b"), entry=HELD))
    endless = [update(NOW + 900 + n * LAG, str(n)) for n in range(1, 9)]
    assert recorded(*endless, entry=after).due_at == NOW + 900 + LAG + PATIENCE * LAG


def test_late_delivery_during_a_run_of_what_the_run_covers_does_not_age_the_next_one() -> None:
    covered = replace(DIRTY, waiting=replace(DIRTY.waiting, needed_as_of=NOW - 5000))
    entry = recorded(update(NOW - LAG - 100, "late"), update(NOW + 900, "b"), entry=claim(covered, HOLDING))
    assert released(entry).waiting.since == NOW + 900


def test_batch_that_overflows_during_a_run_waits_since_the_run_at_most() -> None:
    parts = [update(NOW + n, str(n), share=1, max_wait=1e6) for n in range(1, MOST_ELEMENTS + 3)]
    assert released(recorded(*parts, entry=HELD)).waiting.since == NOW


def test_nothing_is_left_to_wait_since_a_run_that_covered_all() -> None:
    during = recorded(update(NOW + 1, "b", share=1, max_wait=900.0), entry=HELD)
    assert (released(during).waiting.since, released(during).waiting.next_since) == (None, None)


def test_failed_attempt_keeps_the_age_of_a_batch_that_was_due_before() -> None:
    due = recorded(update(NOW, "a", share=WHOLE - 1, max_wait=100.0))
    failed = give_back(claim(due, Claim("run-1", NOW + 3700)), "run-1", PACE, Postponement(NOW + 3710))
    assert failed
    assert failed.overdue_since == due.due_at


def test_run_that_could_not_be_checked_keeps_the_age() -> None:
    held = Claim("run-1", NOW + 200, number=0)
    batch = claim(recorded(update(NOW, "a", share=WHOLE - 1, max_wait=100.0)), held)
    after = release(batch, a_run(), 0, a_result("not_checked"), PACE, Postponement(NOW + 300))
    assert after
    assert after.overdue_since == NOW + 200


@pytest.mark.parametrize(
    "what", [{"share": WHOLE - 1, "max_wait": 100.0}, {"older_than": 0.0}], ids=["batch", "wish"]
)
def test_upload_does_not_reset_the_age_of_what_was_due_before(what: Any) -> None:
    due = recorded(update(NOW, "a", **what))
    after = recorded(update(NOW + 3600, "b"), entry=due)
    assert after.overdue_since == (due.due_at or inf) + PATIENCE * LAG


def test_update_told_to_the_second_and_to_the_millisecond_is_in_the_batch_once() -> None:
    # S3's own notifications tell milliseconds, and EventBridge's events seconds.
    version = Example("bucket", "a", "version")
    precise, rounded = (
        Update(TARGET, at, "upload", version, share=1, max_wait=900.0) for at in (NOW + 0.25, NOW)
    )
    assert len(recorded(precise, rounded).waiting.batch) == 1
    assert recorded(rounded, entry=recorded(precise)) == recorded(precise)
    assert recorded(precise, rounded).waiting.updates == 1


def test_two_writes_of_an_object_without_versions_within_a_second_are_two_updates() -> None:
    writes = [update(NOW + part, "a", share=1, max_wait=900.0) for part in (0.1, 0.9)]
    assert len(recorded(*writes).waiting.batch) == 2


def test_shorter_visibility_lag_counts_for_a_full_batch_too() -> None:
    slow = replace(PACE, visibility_lag=21_600.0)
    full = record(CLEAN, [update(NOW + n, str(n), share=WHOLE // 2, max_wait=1e5) for n in range(2)], slow)
    assert full.due_at == NOW + 1 + slow.visibility_lag
    assert correct_due_at(full, NOW + 60, PACE).due_at == NOW + 1 + LAG


def test_result_ends_the_count_of_failures_and_their_age() -> None:
    failed = postpone(DIRTY, PACE, Postponement(NOW + 5, last_error="busy"))
    during = recorded(update(NOW + 900, "b"), entry=claim(failed, HOLDING))
    assert (failed.failing_since, released(during).failing_since) == (DIRTY.due_at, None)


def test_request_by_hand_after_a_run_does_not_wait_for_what_came_during_it() -> None:
    after = released(recorded(update(NOW + 900, "b"), entry=HELD))
    hurried = recorded(update(NOW + 910, by_hand=True), entry=after)
    assert (hurried.due_at or inf) <= NOW + 910


def test_request_by_hand_during_a_run_starts_the_next_one_at_once() -> None:
    during = recorded(update(NOW + 1, "x"), update(NOW + 2, by_hand=True), entry=HELD)
    assert (released(during).due_at or inf) <= NOW + 2


def test_run_without_updates_does_not_delay_a_later_one() -> None:
    assert (released().retry_at, released().not_before) == (NEVER, NEVER)


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_no_watermark_moves_if_another_model_became_active(outcome: str) -> None:
    spaced = replace(PACE, spacing=300.0)
    entry = replace(HELD, target=ACTIVE_TARGET)
    after = release(entry, a_run(), 0, a_result(outcome, active_changed=True), spaced, LATER)
    assert after is not None
    assert (after.fresh_as_of, after.failed_as_of, after.waiting.needed_as_of) == (
        NEVER,
        NEVER,
        HELD.waiting.needed_as_of,
    )
    assert after.due_at == NOW + 300
    later = recorded(update(NOW + 900, "b"), entry=entry)
    after = release(later, a_run(), 0, a_result(outcome, active_changed=True), spaced, LATER)
    assert after is not None
    assert after.due_at == NOW + 900 + LAG


def test_target_whose_active_model_changes_in_every_run_comes_after_others_that_are_due() -> None:
    entry = replace(HELD, target=ACTIVE_TARGET, claim=Claim("run-1", NOW + 900, number=0))
    assert entry.waiting.needed_as_of < NOW + 900
    assert released(entry, result=a_result(active_changed=True)).due_at == NOW + 900


@pytest.mark.parametrize(
    "result",
    [a_result("not_checked"), a_result(active_changed=True), a_result("failed", active_changed=True)],
)
def test_uncovered_updates_are_counted_as_before(result: Any) -> None:
    after = released(result=result)
    assert (after.waiting.since, after.waiting.updates, after.waiting.examples) == (
        HELD.waiting.since,
        HELD.waiting.updates,
        HELD.waiting.examples,
    )


def test_watermarks_never_move_back() -> None:
    late = replace(HELD, fresh_as_of=NOW + 500)
    assert released(late).fresh_as_of == NOW + 500


def test_release_of_another_run_or_number_is_refused() -> None:
    assert release(HELD, a_run(run_id="run-2"), 0, a_result(), PACE, LATER) is None
    assert release(HELD, a_run(), 1, a_result(), PACE, LATER) is None
    assert release(released(), a_run(), 0, a_result(), PACE, LATER) is None


def test_batch_keeps_only_what_the_run_did_not_cover() -> None:
    batch = tuple(Element(name, NOW + n, 400_000, NOW + 900) for n, name in ((-5, "a"), (0, "b"), (5, "c")))
    after = released(replace(HELD, waiting=replace(HELD.waiting, batch=batch, last_at=NOW + 5)))

    assert [element.identity for element in after.waiting.batch] == ["c"]
    assert after.due_at == NOW + 900


def test_only_the_last_runs_are_remembered() -> None:
    entry = replace(HELD, history=tuple(cast("Any", {"run_id": str(n)}) for n in range(HISTORY_LENGTH)))
    assert [past["run_id"] for past in released(entry).history] == [
        *map(str, range(1, HISTORY_LENGTH)),
        "run-1",
    ]


def test_release_leaves_the_reference_alone() -> None:
    kept = replace(HELD, quality_reference={"overall_recall": (0.5, 30)})
    assert released(kept).quality_reference == kept.quality_reference


RECALL_RULES = Rules({"overall_recall": 0.02}, {}, 30)


def recall(value: float) -> Reference:
    return {"overall_recall": (value, 30)}


@pytest.mark.parametrize(("seen", "kept"), [(0.95, 0.95), (0.8, 0.9)])
def test_better_figures_become_the_reference(seen: float, kept: float) -> None:
    entry = replace(HELD, quality_reference=recall(0.9))
    assert learn(entry, recall(seen), RECALL_RULES, to_iso(NOW)) == replace(
        HELD, quality_reference=recall(kept)
    )


@pytest.mark.parametrize(("requested_at", "kept"), [(NOW - 1, 0.8), (NOW, 0.95)])
def test_what_somebody_has_accepted_counts_more_than_a_run_that_was_requested_before(
    requested_at: float, kept: float
) -> None:
    accepted = accept(HELD, recall(0.8), {"by": "ana", "at": to_iso(NOW)})
    after = learn(accepted, recall(0.95), RECALL_RULES, to_iso(requested_at))
    assert after.quality_reference == recall(kept)


def test_accepted_figures_become_the_reference() -> None:
    by: Any = {"by": "ana", "at": to_iso(NOW)}
    now: Reference = {"overall_recall": (0.5, 30)}
    entry = replace(HELD, quality_reference={"overall_recall": (0.9, 30)})
    assert accept(entry, now, by) == replace(HELD, quality_reference=now, accepted=by)


def test_entry_of_a_name_learns_the_jobs_id() -> None:
    assert released(run=a_run(platform_job_id="1234")).name_of == "1234"


def test_entry_of_a_name_keeps_the_jobs_id_if_an_answer_lacks_it() -> None:
    known = replace(HELD, name_of="1234")
    assert released(known, run=a_run(platform_job_id=None)).name_of == "1234"


# --- Jobs by name ----------------------------------------------------------------------------------------


def test_updates_by_name_are_recorded_for_the_job_once() -> None:
    mailbox = recorded(update(NOW, "a"), update(NOW, "b", share=1, max_wait=9.0), update(older_than=10.0))
    job = receive(CLEAN, mailbox, PACE)

    assert (job.waiting, job.due_at) == (mailbox.waiting, mailbox.due_at)
    assert receive(job, mailbox, PACE) is job
    assert not empty(mailbox, PACE).dirty
    assert empty(mailbox, PACE).due_at is None


def test_endless_shares_beyond_the_bound_do_not_postpone_the_run() -> None:
    entry = recorded(*(update(NOW, str(n), share=1, max_wait=86400.0) for n in range(MOST_ELEMENTS)))
    for number in range(9):
        at = NOW + 20 * number
        entry = recorded(update(at, f"b{number}", share=1, max_wait=86400.0), entry=entry)
    assert entry.waiting.since == NOW + LAG
    assert (entry.due_at or inf) <= NOW + (2 + PATIENCE) * LAG


def test_share_by_name_beyond_the_jobs_batch_is_needed_at_once() -> None:
    full = tuple(Element(f"a{n}", NOW, 1, NOW + 9) for n in range(MOST_ELEMENTS))
    more = tuple(Element(f"b{n}", NOW + n, 1, NOW + 9) for n in range(3))
    job = receive(
        replace(CLEAN, waiting=Waiting(batch=full)), replace(CLEAN, waiting=Waiting(batch=more)), PACE
    )

    assert len(job.waiting.batch) == MOST_ELEMENTS
    assert job.waiting.needed_as_of == NOW + 2


def test_shorter_visibility_lag_also_hurries_what_came_during_a_run() -> None:
    long = replace(PACE, visibility_lag=86400.0)
    after = release(record(HELD, [update(NOW + 1, "b")], long), a_run(), 0, a_result(), long, LATER)
    assert after is not None
    assert correct_due_at(after, NOW + 60, PACE).due_at == NOW + 1 + LAG


def test_visibility_lag_that_was_shortened_during_a_run_counts_from_its_end() -> None:
    long = replace(PACE, visibility_lag=86400.0)
    after = released(record(HELD, [update(NOW + 1, "b")], long))
    assert (after.waiting.needed_as_of, after.due_at) == (NOW + 1 + LAG, NOW + 1 + LAG)


def test_update_by_name_that_the_job_has_covered_does_not_wait_again() -> None:
    fresh = replace(CLEAN, fresh_as_of=NOW + LAG)
    assert receive(fresh, recorded(update(NOW, "a")), PACE) is fresh


def test_covered_update_by_name_does_not_hurry_a_later_one() -> None:
    job = recorded(update(NOW), entry=replace(CLEAN, fresh_as_of=NOW - 100))
    mailbox = recorded(update(NOW - 300), update(NOW - 1, "a", share=1, max_wait=9000.0))
    assert receive(job, mailbox, PACE).due_at == NOW + LAG


def test_due_time_is_not_written_if_it_is_right() -> None:
    entry = replace(recorded(update(NOW)), attempts=1, retry_at=NOW - 9)
    assert correct_due_at(entry, NOW, PACE) == entry


# --- Any sequence of transitions -------------------------------------------------------------------------


def stepped(entry: Entry, step: str, now: float) -> Entry | None:
    """The entry after one transition. None if the transition refuses."""
    held_by, later = entry.claim, Postponement(now + 5.0)
    if held_by and step in ("claim", "postpone"):
        return None
    own = held_by or Claim("none", now)
    run_id, number = own.run_id, own.number or 0
    outcome = step.removeprefix("release ")
    transitions: dict[str, Callable[[], Entry | None]] = {
        "update": lambda: record(entry, [update(now)], PACE),
        "late update": lambda: record(entry, [update(now - 500)], PACE),
        "by hand": lambda: record(entry, [update(now, by_hand=True)], PACE),
        "share": lambda: record(entry, [update(now, "a", share=400_000, max_wait=300.0)], PACE),
        "wish": lambda: record(entry, [update(now, older_than=60.0)], PACE),
        "claim": lambda: claim(entry, Claim(f"run-{now}", now)) if entry.dirty else None,
        "hold": lambda: hold(entry, run_id, number),
        "give back": lambda: give_back(entry, run_id, PACE, None),
        "take back": lambda: take_back(entry, own, PACE, later) if held_by else None,
        "postpone": lambda: postpone(entry, PACE, later),
        "correct due time": lambda: correct_due_at(entry, now, PACE),
        "report": lambda: report_end(entry, run_id, now),
        "check up": lambda: postpone_check_up(entry, now + 5.0) if held_by else None,
        "resume": lambda: hold(entry, run_id, number + 1),
        "satisfied": lambda: satisfy(entry, run_id, now - 30, PACE),
    }
    if step in transitions:
        return transitions[step]()
    run = a_run(own.requested_at, run_id=run_id)
    result = a_result(outcome, active_changed=now % 2 == 0)
    return release(entry, run, number, result, PACE, later) if own.number is not None else None


STEPS = [
    "update", "late update", "by hand", "share", "wish", "claim", "hold", "give back", "take back",
    "postpone", "correct due time",
    "report", "check up", "resume", "satisfied", "release completed", "release failed", "release not_checked",
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 200)), max_size=30))
def test_entry_is_due_while_dirty_or_held_whatever_happens(steps: list[tuple[str, int]]) -> None:
    entry, now = CLEAN, NOW
    for step, seconds in steps:
        now += seconds
        after = stepped(entry, step, now)
        if after is None:
            continue
        assert (after.due_at is not None) == (after.dirty or after.run_id is not None)
        assert settled(after, PACE) == after
        assert after.watermark >= entry.watermark
        assert (after.target, after.rev) == (entry.target, entry.rev)
        if "update" in step or step in ("share", "wish", "by hand"):
            assert after.claim == entry.claim
        elif step != "satisfied" and not step.startswith("release"):
            assert (after.waiting.needed_as_of, after.waiting.batch, after.waiting.wanted_as_of) == (
                entry.waiting.needed_as_of,
                entry.waiting.batch,
                entry.waiting.wanted_as_of,
            )
        entry = after


# --- What a transition leaves as it is -------------------------------------------------------------------


def test_correction_after_the_backoff_keeps_a_later_retry_after() -> None:
    entry = postpone(DIRTY, PACE, Postponement(NOW + 5, not_before=NOW + 120))
    assert correct_due_at(entry, NOW + 60, PACE) == entry


def test_request_by_hand_waits_since_it_was_made() -> None:
    assert recorded(update(by_hand=True)).waiting.since == NOW


def test_first_update_of_a_batch_is_the_one_that_happened_first() -> None:
    entry = recorded(*(update(NOW - n, str(n), share=1, max_wait=0.0) for n in range(3)))
    run = new_run(entry, Claim("run-1", NOW + 60), JobSettings(PACE, {}))
    assert (run["cause"]["first_at"], run["cause"]["last_at"]) == (to_iso(NOW - 2), to_iso(NOW))


def test_updates_during_a_run_are_counted_without_those_of_the_run() -> None:
    during = record(HELD, [update(NOW + n, str(n)) for n in range(1, 4)], PACE)
    released = release(during, a_run(), 0, a_result(), PACE, LATER)
    assert released
    assert released.waiting.updates == 3


def test_failed_run_answers_the_wish_it_was_for() -> None:
    wish = claim(recorded(update(cause="schedule", older_than=0.0)), HOLDING)
    released = release(wish, a_run(), 0, a_result("failed"), PACE, LATER)
    assert released
    assert not released.dirty


def test_retry_after_counts_also_after_a_request_of_unknown_effect() -> None:
    error = PlatformUnavailable("503", 3000.0, effect_unknown=True)
    assert postponement(error, 0, PACE, NOW, 0.5).not_before == NOW + 3000
