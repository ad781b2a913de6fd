"""The ledger in DynamoDB: one run of a model at a time, and no update forgotten."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from arcanna_metrics.coverage import Entry, decide
from arcanna_metrics.errors import AwsUnavailable
from arcanna_metrics.gathering import mark
from arcanna_metrics.ledger import FORGET_AFTER, Ledger, Write
from arcanna_metrics.runs.run import PastRun
from arcanna_metrics.targets import Model, Target
from arcanna_metrics.times import to_iso
from arcanna_metrics.updates import Update
from tests.doubles import MODEL, Stack

NOW = 1_736_950_000.0
MARGIN = 5.0
LEASE = NOW + 100.0
OTHER = Model("1234", "other")
PAST: PastRun = {
    "run_id": "past",
    "cause": "upload",
    "requested_at": to_iso(NOW - 3600),
    "duration_seconds": 60.5,
    "polls": 3,
    "verdict": "unchanged",
    "scores": {},
}
REFERENCE: Any = {"Escalate.recall": [0.9, 100]}


@pytest.fixture
def ledger(stack: Stack) -> Ledger:
    return Ledger(stack.dynamodb, stack.ledger_table)


def claim(
    ledger: Ledger,
    run_id: str,
    *,
    now: float = NOW,
    lease_expires_at: float = LEASE,
    happened_at: float = NOW - 60,
    model: Model = MODEL,
    spacing: float = 0.0,
    gathered: frozenset[str] = frozenset(),
    left_at: float | None = None,
    promised_at: float | None = None,
    expired: str | None = None,
) -> Write:
    return ledger.claim(
        model,
        run_id,
        now=now,
        lease_expires_at=lease_expires_at,
        happened_at=happened_at,
        margin=MARGIN,
        spacing=spacing,
        gathered=gathered,
        left_at=left_at,
        promised_at=promised_at,
        expired=expired,
    )


def mark_pending(
    ledger: Ledger, run_id: str, happened_at: float, known: Entry | None = None, *, follows: bool = False
) -> Write:
    """Notes an update on the run, given what is known of the model; by default what the ledger knows."""
    known = replace(known or ledger.read(MODEL), run_id=run_id)
    return ledger.mark_pending(MODEL, known, update(happened_at, follows_active=follows))


def update(happened_at: float, **changes: Any) -> Update:
    return replace(Update.single(Target(*MODEL), happened_at, "upload"), **changes)


def give_back(ledger: Ledger, run_id: str, *, follows: bool = False) -> Write:
    """Three updates, from 70 to 50 s ago, are due again."""
    due = update(NOW - 50, first_at=NOW - 70, count=3, follows_active=follows)
    return ledger.give_back(MODEL, run_id, due)


def hold(stack: Stack, run_id: str, requested_at: float = NOW, lease_until: float = LEASE) -> bool:
    """Has the workflow of the run make the claim its own."""
    run = {
        **MODEL._asdict(),
        "run_id": run_id,
        "requested_at": to_iso(requested_at),
        "lease_until": to_iso(lease_until),
    }
    return stack.workflow_writes("HoldModel", {"run": run})


def put(stack: Stack, entry: Entry) -> None:
    """Makes the ledger know this of the model."""
    times = {
        "requested_at": entry.requested_at,
        "lease_expires_at": entry.lease_expires_at,
        "pending_at": entry.pending_at,
        "covered_until": entry.covered_until,
    }
    item = {name: to_iso(time) for name, time in times.items() if time is not None}
    if entry.run_id is not None:
        item["run_id"] = entry.run_id
    stack.put_item(item)


# --- Claim -----------------------------------------------------------------------------------------------


def test_a_model_that_nobody_knows_is_claimed(stack: Stack, ledger: Ledger) -> None:
    assert claim(ledger, "a") == Write(True, Entry())
    assert stack.item() == {
        "job_id": MODEL.job_id,
        "model_id": MODEL.model_id,
        "run_id": "a",
        "lease_expires_at": to_iso(LEASE),
        "claimed_at": to_iso(NOW),
        "expires_at": str(int(NOW) + FORGET_AFTER),
    }


def test_of_two_claims_one_is_refused_and_shown_the_other(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert claim(ledger, "b") == Write(False, Entry("a", None, LEASE))


def test_claims_of_two_models_do_not_meet(ledger: Ledger) -> None:
    assert claim(ledger, "a").made
    assert claim(ledger, "b", model=OTHER).made


def test_a_lease_holds_to_its_last_millisecond(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert not claim(ledger, "b", now=LEASE).made
    assert claim(ledger, "b", now=LEASE + 0.001).made


def test_what_is_covered_is_not_claimed(stack: Stack, ledger: Ledger) -> None:
    put(stack, Entry(covered_until=NOW - 60))
    assert not claim(ledger, "a", happened_at=NOW - 60 - MARGIN - 0.001).made
    assert claim(ledger, "a", happened_at=NOW - 60 - MARGIN).made


def test_what_is_pending_settles_before_a_claim(stack: Stack, ledger: Ledger) -> None:
    put(stack, Entry(pending_at=NOW - MARGIN))
    assert not claim(ledger, "a").made
    assert claim(ledger, "a", now=NOW + 0.001).made


def test_a_claim_covers_what_was_pending_and_keeps_the_rest(stack: Stack, ledger: Ledger) -> None:
    stack.put_item(
        {
            "pending_at": to_iso(NOW - 60),
            "covered_until": to_iso(NOW - 120),
            "history": json.dumps([PAST]),
            "last_outcome": "completed",
        }
    )
    write = claim(ledger, "a")
    assert write == Write(True, Entry(pending_at=NOW - 60, covered_until=NOW - 120, history=(PAST,)))
    assert ledger.read(MODEL) == Entry("a", None, LEASE, None, NOW - 120, (PAST,))
    assert stack.item()["last_outcome"] == "completed"


def test_a_claim_knows_nothing_of_the_request_of_the_run_whose_lease_expired(
    stack: Stack, ledger: Ledger
) -> None:
    put(stack, Entry("r", NOW - 60, NOW - 0.001))
    assert claim(ledger, "a").made
    assert ledger.read(MODEL) == Entry("a", None, LEASE)


times = st.integers(-120_000, 120_000).map(lambda milliseconds: NOW + milliseconds / 1000)


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


settled_times = st.integers(1, 120_000).map(lambda milliseconds: NOW - MARGIN - milliseconds / 1000)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(entry=entries(), happened_at=settled_times)
@example(entry=Entry("r", NOW - 60, NOW), happened_at=NOW - 60)
@example(entry=Entry("r", NOW - 60, NOW - 0.001), happened_at=NOW - 60)
@example(entry=Entry("r", None, NOW), happened_at=NOW - 60)
@example(entry=Entry("r", None, NOW - 0.001), happened_at=NOW - 60)
@example(entry=Entry(pending_at=NOW - MARGIN), happened_at=NOW - 60)
@example(entry=Entry(covered_until=NOW - 60), happened_at=NOW - 60 - MARGIN)
def test_the_ledger_makes_exactly_the_claims_that_are_decided_on(
    stack: Stack, ledger: Ledger, entry: Entry, happened_at: float
) -> None:
    put(stack, entry)
    decided = decide(entry, happened_at, NOW, MARGIN)
    assert claim(ledger, "new", happened_at=happened_at).made == (decided == "claim")


# --- Pending ---------------------------------------------------------------------------------------------


def test_an_update_is_noted_on_the_run_that_it_missed(stack: Stack, ledger: Ledger) -> None:
    claim(ledger, "a")
    hold(stack, "a")
    write = mark_pending(ledger, "a", NOW + 1)
    assert write == Write(True, noted(NOW + 1, NOW + 1, 1))


def noted(first_at: float, happened_at: float, updates: int) -> Entry:
    """What is known of a model whose run, "a", so many updates have missed."""
    return Entry("a", NOW, LEASE, pending_at=happened_at, pending_since=first_at, pending_updates=updates)


def test_the_latest_update_stays_noted_and_the_first_and_their_number(stack: Stack, ledger: Ledger) -> None:
    claim(ledger, "a")
    hold(stack, "a")
    for at in (NOW + 2, NOW + 1, NOW + 3, NOW + 2):
        assert mark_pending(ledger, "a", at).made
    assert ledger.read(MODEL) == noted(NOW + 1, NOW + 3, 4)


def test_an_update_is_noted_only_beside_those_that_are_known(stack: Stack, ledger: Ledger) -> None:
    claim(ledger, "a")
    hold(stack, "a")
    known = ledger.read(MODEL)
    assert mark_pending(ledger, "a", NOW + 2, known).made
    refused = mark_pending(ledger, "a", NOW + 3, known)
    assert refused == Write(False, noted(NOW + 2, NOW + 2, 1))
    assert mark_pending(ledger, "a", NOW + 3, refused.entry).entry == noted(NOW + 2, NOW + 3, 2)


@pytest.mark.parametrize("holder", [None, "b"])
def test_nothing_is_noted_on_a_run_that_is_over(ledger: Ledger, holder: str | None) -> None:
    if holder:
        claim(ledger, holder)
    for write in (mark_pending(ledger, "a", NOW), ledger.follow(MODEL, "a", NOW)):
        assert (write.made, write.entry.run_id, write.entry.pending_at) == (False, holder, None)


# --- Following the active model --------------------------------------------------------------------------


def test_the_latest_update_that_follows_stays_noted_until_a_claim(stack: Stack, ledger: Ledger) -> None:
    claim(ledger, "a")
    hold(stack, "a")
    assert ledger.follow(MODEL, "a", NOW + 2).entry.follows_at == NOW + 2
    assert not ledger.follow(MODEL, "a", NOW + 1).made
    assert not ledger.gather(MODEL, frozenset({FIRST}), NOW, follows_at=NOW + 1).made
    assert mark_pending(ledger, "a", NOW + 1, follows=True).entry.follows_at == NOW + 2
    assert mark_pending(ledger, "a", NOW + 5).entry.follows_at == NOW + 2
    assert mark_pending(ledger, "a", NOW + 3, follows=True).entry.follows_at == NOW + 3
    assert ledger.gather(MODEL, frozenset({FIRST}), NOW, follows_at=NOW + 4).entry.follows_at == NOW + 4
    stack.workflow_writes("ReleaseFailed", ended("a"))
    write = claim(ledger, "b", now=NOW + 50, gathered=frozenset({FIRST}))
    assert (write.made, write.entry.follows_at) == (True, NOW + 4)
    assert ledger.read(MODEL).follows_at is None


def test_a_claim_for_an_update_that_follows_says_so(ledger: Ledger) -> None:
    assert ledger.claim(
        MODEL,
        "a",
        now=NOW,
        lease_expires_at=LEASE,
        happened_at=NOW - 60,
        margin=MARGIN,
        follows_active=True,
    ).made
    assert ledger.read(MODEL).follows_at == NOW - 60


def test_whom_updates_follow_is_known_after_their_claim_was_given_back(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert give_back(ledger, "a", follows=True).entry.follows_at == NOW - 50


# --- Gathering -------------------------------------------------------------------------------------------

FIRST, SECOND = mark(NOW - 60, 10, "a"), mark(NOW - 30, 20, "b")


def test_marks_are_gathered_once_however_often_they_are_added(ledger: Ledger) -> None:
    ledger.gather(MODEL, frozenset({FIRST}), NOW)
    write = ledger.gather(MODEL, frozenset({FIRST, SECOND}), NOW)
    assert write == Write(True, Entry(gathered=frozenset({FIRST, SECOND})))
    assert ledger.read(MODEL) == write.entry


def test_a_waker_is_promised_while_there_is_something_to_wake_for(ledger: Ledger) -> None:
    assert not ledger.promise(MODEL, NOW + 60, NOW).made
    ledger.gather(MODEL, frozenset({FIRST}), NOW)
    assert ledger.promise(MODEL, NOW + 60, NOW).entry.wake_at == NOW + 60


def test_of_two_promises_the_later_stands_whichever_is_told_first(ledger: Ledger) -> None:
    ledger.gather(MODEL, frozenset({FIRST}), NOW)
    assert ledger.promise(MODEL, NOW + 60, NOW - 2).made
    assert ledger.promise(MODEL, NOW + 50, NOW - 1).made
    assert not ledger.promise(MODEL, NOW + 60, NOW - 2).made
    assert ledger.read(MODEL).wake_at == NOW + 50


def test_a_promise_that_was_kept_cannot_be_made_any_more(ledger: Ledger) -> None:
    ledger.gather(MODEL, frozenset({FIRST}), NOW)
    assert ledger.finish_waiting(MODEL, frozenset({FIRST}), NOW - 2).made
    ledger.gather(MODEL, frozenset({SECOND}), NOW)
    assert not ledger.promise(MODEL, NOW + 60, NOW - 2).made
    assert claim(ledger, "a", gathered=frozenset({SECOND}), promised_at=NOW - 1).made
    ledger.gather(MODEL, frozenset({FIRST}), NOW)
    assert not ledger.promise(MODEL, NOW + 60, NOW - 1).made
    assert ledger.promise(MODEL, NOW + 60, NOW).made


def test_a_promise_is_broken_unless_there_is_a_later_one(ledger: Ledger) -> None:
    assert not ledger.break_promise(MODEL, None).made
    assert ledger.read(MODEL) == Entry()
    ledger.gather(MODEL, frozenset({FIRST}), NOW)
    ledger.promise(MODEL, NOW + 60, NOW - 1)
    assert not ledger.break_promise(MODEL, NOW - 2).made
    assert ledger.read(MODEL).wake_at == NOW + 60
    assert ledger.break_promise(MODEL, NOW - 1).made
    assert ledger.read(MODEL) == Entry(gathered=frozenset({FIRST}), promised_at=NOW - 1)


def test_a_claim_covers_what_was_gathered_and_needs_no_waker_for_it(ledger: Ledger) -> None:
    ledger.gather(MODEL, frozenset({FIRST}), NOW)
    ledger.promise(MODEL, NOW + 60, NOW)
    assert claim(ledger, "a", gathered=frozenset({FIRST})).entry.gathered == {FIRST}
    assert ledger.read(MODEL) == Entry("a", None, LEASE, promised_at=NOW)


def test_a_claim_sees_to_all_that_is_gathered_or_is_none(ledger: Ledger) -> None:
    gathered = ledger.gather(MODEL, frozenset({FIRST, SECOND}), NOW)
    for known in (frozenset[str](), frozenset({FIRST})):
        assert claim(ledger, "a", gathered=known) == Write(False, gathered.entry)


def test_a_claim_takes_the_place_of_an_expired_one_only_while_that_is_there(
    stack: Stack, ledger: Ledger
) -> None:
    claim(ledger, "a", lease_expires_at=NOW - 1)
    assert not claim(ledger, "c", expired="b").made
    assert claim(ledger, "b", expired="a", lease_expires_at=NOW - 1).made
    hold(stack, "b")
    assert stack.workflow_writes("ReleaseCompleted", ended("b"))
    refused = claim(ledger, "c", expired="b")
    assert (refused.made, refused.entry.covered_until) == (False, NOW)


def test_what_a_claim_leaves_is_pending(ledger: Ledger) -> None:
    ledger.gather(MODEL, frozenset({FIRST, SECOND}), NOW)
    assert claim(ledger, "a", gathered=frozenset({FIRST, SECOND}), left_at=NOW - 1).made
    left = Entry("a", None, LEASE, pending_at=NOW - 1, pending_since=NOW - 1, pending_updates=1)
    assert ledger.read(MODEL) == left


def test_waiting_is_finished_only_if_nothing_else_has_been_gathered(ledger: Ledger) -> None:
    ledger.gather(MODEL, frozenset({FIRST, SECOND}), NOW)
    ledger.promise(MODEL, NOW + 60, NOW)
    for known in (frozenset({FIRST}), frozenset[str]()):
        assert not ledger.finish_waiting(MODEL, known, NOW).made
    finished = ledger.finish_waiting(MODEL, frozenset({FIRST, SECOND}), NOW)
    assert finished == Write(True, Entry(promised_at=NOW))
    assert ledger.finish_waiting(MODEL, frozenset(), NOW).made
    assert not ledger.finish_waiting(OTHER, frozenset(), NOW).made
    assert ledger.read(OTHER) == Entry()


def test_a_claim_keeps_its_distance_from_the_last_completed_run(stack: Stack, ledger: Ledger) -> None:
    put(stack, Entry(covered_until=NOW - 100))
    assert not claim(ledger, "a", spacing=100.001).made
    assert claim(ledger, "a", spacing=100.0).made


def test_all_models_are_known_with_what_is_pending(stack: Stack, ledger: Ledger) -> None:
    assert ledger.entries() == {}
    ledger.gather(OTHER, frozenset({FIRST}), NOW)
    claim(ledger, "a")
    hold(stack, "a")
    mark_pending(ledger, "a", NOW + 1)
    waits = Entry(gathered=frozenset({FIRST}))
    assert ledger.entries() == {OTHER: waits, MODEL: noted(NOW + 1, NOW + 1, 1)}


# --- Give back and hold ----------------------------------------------------------------------------------


def test_a_claim_that_is_given_back_leaves_the_model_free_and_what_is_due(ledger: Ledger) -> None:
    claim(ledger, "a")
    left = Entry(pending_at=NOW - 50, pending_since=NOW - 70, pending_updates=3)
    assert give_back(ledger, "a") == Write(True, left)
    assert claim(ledger, "b").made


def test_a_claim_that_became_a_run_is_not_given_back(stack: Stack, ledger: Ledger) -> None:
    claim(ledger, "a")
    assert hold(stack, "a", lease_until=LEASE + 1000)
    assert give_back(ledger, "a") == Write(False, Entry("a", NOW, LEASE + 1000))
    assert not claim(ledger, "b", now=LEASE + 500).made


def test_only_the_holder_gives_back(ledger: Ledger) -> None:
    claim(ledger, "a")
    assert give_back(ledger, "b") == Write(False, Entry("a", None, LEASE))
    assert not claim(ledger, "c").made


def test_a_run_prolongs_its_lease(stack: Stack, ledger: Ledger) -> None:
    claim(ledger, "a")
    hold(stack, "a")
    assert ledger.hold(MODEL, "a", LEASE + 1000) == Write(True, Entry("a", NOW, LEASE + 1000))
    assert not claim(ledger, "b", now=LEASE + 500).made


@pytest.mark.parametrize("holder", [None, "b"])
def test_a_run_that_lost_its_model_holds_nothing(ledger: Ledger, holder: str | None) -> None:
    if holder:
        claim(ledger, holder)
    write = ledger.hold(MODEL, "a", LEASE + 1000)
    assert (write.made, write.entry.run_id) == (False, holder)


# --- What the workflow writes ----------------------------------------------------------------------------


def ended(run_id: str, requested_at: float = NOW) -> dict[str, Any]:
    """The data of an execution that has come to its end."""
    return {
        "run": {
            **MODEL._asdict(),
            "run_id": run_id,
            "requested_at": to_iso(requested_at),
            "cause": {"kind": "upload", "first_at": to_iso(requested_at - 60)},
        },
        "check": {"status": "failed", "reason": "Rejected", "detail": "gone", "polls": 3}
        | {"history": [PAST], "reference": REFERENCE},
    }


RELEASES = pytest.mark.parametrize("release", ["ReleaseCompleted", "ReleaseFailed"])


def test_since_when_a_model_is_stale_is_kept_from_its_first_failure_to_its_next_completion(
    stack: Stack, ledger: Ledger
) -> None:
    stale: list[float | None] = []
    for number, release in enumerate(["ReleaseFailed", "ReleaseFailed", "ReleaseCompleted", "ReleaseFailed"]):
        now = NOW + number * 1000
        run_id = f"{release} {number}"
        claimed = claim(ledger, run_id, now=now, lease_expires_at=now + 100, happened_at=now - 60)
        stale.append(claimed.entry.stale_since)
        hold(stack, run_id, now, now + 100)
        assert stack.workflow_writes(release, ended(run_id, now))
    assert stale == [None, NOW - 60, NOW - 60, None]
    assert ledger.read(MODEL).stale_since == NOW + 3000 - 60


def test_what_metrics_are_judged_by_moves_with_completed_runs_alone(stack: Stack, ledger: Ledger) -> None:
    known: list[Any] = []
    for number, release in enumerate(["ReleaseFailed", "ReleaseCompleted", "ReleaseFailed"]):
        now, run_id = NOW + number * 1000, f"{release} {number}"
        claim(ledger, run_id, now=now, lease_expires_at=now + 100, happened_at=now - 60)
        hold(stack, run_id, now, now + 100)
        assert stack.workflow_writes(release, ended(run_id, now))
        known.append(ledger.read(MODEL).reference)
    assert known == [None, REFERENCE, REFERENCE]
    assert claim(ledger, "next", now=NOW + 9000, happened_at=NOW + 8000).entry.reference == REFERENCE


def test_a_claim_becomes_a_run_by_its_workflow_alone(stack: Stack, ledger: Ledger) -> None:
    claim(ledger, "a")
    assert not hold(stack, "b")
    assert hold(stack, "a", lease_until=LEASE + 1000)
    assert claim(ledger, "b") == Write(False, Entry("a", NOW, LEASE + 1000))


@RELEASES
def test_a_release_leaves_the_model_free_and_the_pending_update_noted(
    stack: Stack, ledger: Ledger, release: str
) -> None:
    claim(ledger, "a")
    hold(stack, "a")
    mark_pending(ledger, "a", NOW + 1)
    assert stack.workflow_writes(release, ended("a"))
    item = stack.item()
    assert not item.keys() & {"run_id", "requested_at", "lease_expires_at"}
    assert (item["last_run_id"], item["pending_at"]) == ("a", to_iso(NOW + 1))
    assert item.get("covered_until") == (to_iso(NOW) if release == "ReleaseCompleted" else None)


@RELEASES
def test_a_release_whose_answer_was_lost_is_repeated_to_the_same_end(
    stack: Stack, ledger: Ledger, release: str
) -> None:
    """Refused, it would look as if another run had taken the model over, and nobody would ask again."""
    claim(ledger, "a")
    hold(stack, "a")
    mark_pending(ledger, "a", NOW + 1)
    assert stack.workflow_writes(release, ended("a"))
    released = stack.item()
    assert stack.workflow_writes(release, ended("a"))
    assert stack.item() == released


@RELEASES
@pytest.mark.parametrize("over", [False, True], ids=["under way", "over"])
def test_a_release_that_comes_after_the_next_run_s_claim_is_refused(
    stack: Stack, ledger: Ledger, release: str, over: bool
) -> None:
    claim(ledger, "a")
    hold(stack, "a")
    stack.workflow_writes("ReleaseFailed", ended("a"))
    assert claim(ledger, "b", now=NOW + 50).made
    if over:
        hold(stack, "b", NOW + 50)
        stack.workflow_writes("ReleaseCompleted", ended("b", NOW + 50))
    item = stack.item()
    assert not stack.workflow_writes(release, ended("a"))
    assert stack.item() == item


def test_a_run_that_never_had_the_model_releases_nothing(stack: Stack) -> None:
    assert not stack.workflow_writes("ReleaseCompleted", ended("a"))
    assert stack.item() == {}


# --- No table --------------------------------------------------------------------------------------------


def test_a_table_that_cannot_be_written_is_told(stack: Stack) -> None:
    ledger = Ledger(stack.dynamodb, "gone")
    writes: list[Callable[[], Write]] = [
        lambda: claim(ledger, "a"),
        lambda: mark_pending(ledger, "a", NOW, Entry()),
        lambda: ledger.follow(MODEL, "a", NOW),
        lambda: give_back(ledger, "a"),
        lambda: ledger.hold(MODEL, "a", LEASE),
        lambda: ledger.gather(MODEL, frozenset({FIRST}), NOW),
    ]
    for write in writes:
        with pytest.raises(AwsUnavailable, match="write to the ledger"):
            write()
    reads: list[Callable[[], object]] = [lambda: ledger.read(MODEL), ledger.entries]
    for read in reads:
        with pytest.raises(AwsUnavailable, match="read the ledger"):
            read()
