"""A run counts as completed only if the platform's own data proves it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arcanna_metrics.platform.model_metrics import ModelMetrics
from arcanna_metrics.runs.check import first_check
from arcanna_metrics.runs.completion import CLOCK_MARGIN, CONFIRMATION, Judgement, evidence, judge
from arcanna_metrics.runs.run import Check, Run
from arcanna_metrics.times import to_iso
from tests.support.runs import PACE, REQUESTED_AT, a_run
from tests.unit.strategies import any_json

BASELINE = "2025-01-15T14:00:00Z"
REQUESTED = "2025-01-15T14:10:00Z"
JUST_BEFORE = "2025-01-15T14:09:58Z"
OF_ANOTHER = "2025-01-15T14:09:54Z"
LATER = "2025-01-15T14:30:00Z"
NO_TIMES: list[Any] = [
    None,
    "",
    " ",
    "never",
    "null",
    "0",
    "0000-00-00T00:00:00Z",
    "0001-01-01T00:00:00Z",
    7,
    False,
    {},
]

ACCEPTED_AT = REQUESTED_AT + 1.0
RUN: Run = {**a_run(), "accepted_at": to_iso(ACCEPTED_AT)}
FIRST = first_check(RUN)

# Eighths of a second are exact in floats and in written times, so that both sides of a boundary are drawn.
seconds = (st.integers(0, 800) | st.integers(0, 8_000_000)).map(lambda eighths: eighths / 8)
offsets = st.integers(-14, 14).map(lambda hours: timezone(timedelta(hours=hours)))
moments = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(9999, 12, 30), timezones=offsets)  # noqa: DTZ001  # the offset is drawn
shown = (
    any_json
    | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
    | st.datetimes().map(datetime.isoformat)
    | moments.map(datetime.isoformat)
)
looks = st.fixed_dictionaries(
    {
        "baseline": shown,
        "requested_at": shown,
        "timestamp": shown,
        "recomputing": st.booleans(),
        "recomputing_until": st.none() | seconds.map(lambda after: after - 10.0),
        "idle_for": st.none() | seconds,
        "elapsed": seconds,
        "start_grace": seconds,
        "deadline": seconds,
    }
)


def judge_look(look: dict[str, Any]) -> Judgement:
    """What a check of a run means.

    `baseline` and `timestamp` are the platform's `last_recomputed_timestamp` before the request and now, and
    `requested_at` is its own time of the request. `elapsed` is the run's age in seconds. The platform has
    been seen recomputing until `recomputing_until` seconds after it accepted the request, or never (None),
    and idle without a proof for `idle_for` seconds, or not at all.
    """
    now, until, idle_for = REQUESTED_AT + look["elapsed"], look["recomputing_until"], look["idle_for"]
    run: Run = {
        **RUN,
        "baseline": {"last_recomputed_timestamp": look["baseline"]},
        "platform_requested_at": look["requested_at"],
        "pace": {**PACE, "start_grace": look["start_grace"], "deadline": look["deadline"]},
    }
    checked: Check = {
        **FIRST,
        "recomputing_at": None if until is None else to_iso(ACCEPTED_AT + until),
        "idle_since": None if idle_for is None else to_iso(now - idle_for),
    }
    # As the client passes it on.
    timestamp = look["timestamp"].strip() or None if isinstance(look["timestamp"], str) else None
    return judge(run, checked, ModelMetrics(look["recomputing"], timestamp, {}), now)


def judged(timestamp: str | None, **changes: Any) -> Judgement:
    """What a check of an idle platform means, 5 minutes after the request."""
    look: dict[str, Any] = {
        "baseline": BASELINE,
        "requested_at": REQUESTED,
        "timestamp": timestamp,
        "recomputing": False,
        "recomputing_until": None,
        "idle_for": None,
        "elapsed": 300.0,
        "start_grace": 600.0,
        "deadline": 3600.0,
    }
    return judge_look(look | changes)


# --- The rule --------------------------------------------------------------------------------------------

QUEUED: dict[str, Any] = {}
OVERDUE = {"elapsed": 600.0, "idle_for": 595.0}
RECOMPUTING = {"recomputing": True, "recomputing_until": 300.0}
RECOMPUTED = {"recomputing_until": 200.0}
CONFIRMED = {"recomputing_until": 200.0, "idle_for": 60.0}
LATE = {"elapsed": 3600.0}


@pytest.mark.parametrize(
    ("timestamp", "look", "expected"),
    [
        # Idle and as before: queued, until the start grace is over.
        (BASELINE, QUEUED, "running"),
        (BASELINE, OVERDUE | {"elapsed": 599.9}, "running"),
        (BASELINE, OVERDUE, "NeverStarted"),
        # Recomputing.
        (BASELINE, RECOMPUTING, "running"),
        (BASELINE, RECOMPUTING | {"elapsed": 700.0}, "running"),
        (BASELINE, RECOMPUTING | LATE, "DeadlinePassed"),
        # The timestamp moved on, whether or not a check saw the flag set.
        (LATER, RECOMPUTED, "completed"),
        (LATER, QUEUED, "completed"),
        (LATER, {"elapsed": 9999.0}, "completed"),
        # The timestamp moved on before the flag fell.
        (LATER, RECOMPUTING, "running"),
        # Ours has ended, and somebody else's recompute is under way at the deadline.
        (LATER, RECOMPUTING | LATE, "completed"),
        # The flag fell and the timestamp did not move: it may come later, otherwise the recompute failed.
        (BASELINE, RECOMPUTED, "running"),
        (BASELINE, CONFIRMED | {"idle_for": 59.9}, "running"),
        (BASELINE, CONFIRMED, "NoNewResult"),
        (None, CONFIRMED, "NoNewResult"),
        # The confirmation takes no longer than the start grace.
        (BASELINE, CONFIRMED | {"start_grace": 30.0, "idle_for": 29.9}, "running"),
        (BASELINE, CONFIRMED | {"start_grace": 30.0, "idle_for": 30.0}, "NoNewResult"),
        # A further check confirms a failure, even after the deadline.
        (BASELINE, OVERDUE | {"idle_for": 0.0}, "running"),
        (BASELINE, LATE, "running"),
        (BASELINE, LATE | {"idle_for": 60.0}, "NeverStarted"),
        (BASELINE, LATE | RECOMPUTED, "running"),
        (BASELINE, LATE | CONFIRMED, "NoNewResult"),
        (BASELINE, LATE | {"start_grace": 4000.0}, "DeadlinePassed"),
        # The timestamp moved on, but to a time before the request: another recompute ended then.
        (OF_ANOTHER, QUEUED, "running"),
        (OF_ANOTHER, OVERDUE, "NeverStarted"),
        (OF_ANOTHER, RECOMPUTING, "running"),
        (OF_ANOTHER, RECOMPUTING | LATE, "DeadlinePassed"),
        (OF_ANOTHER, CONFIRMED, "NoNewResult"),
        # Two seconds before the request: the clocks may differ, so it counts if nothing else comes.
        (JUST_BEFORE, QUEUED, "running"),
        (JUST_BEFORE, OVERDUE | {"elapsed": 599.9}, "running"),
        (JUST_BEFORE, OVERDUE, "completed"),
        (JUST_BEFORE, {"recomputing_until": 1.0}, "running"),
        (JUST_BEFORE, {"recomputing_until": 1.0, "idle_for": 60.0}, "completed"),
        (JUST_BEFORE, {"recomputing_until": 3.0, "idle_for": 60.0}, "completed"),
        # Unless a check saw the platform recompute after that time.
        (JUST_BEFORE, {"recomputing_until": 3.1, "idle_for": 60.0}, "NoNewResult"),
        (JUST_BEFORE, CONFIRMED, "NoNewResult"),
    ],
)
def test_check_is_judged_as_the_table_says(
    timestamp: str | None, look: dict[str, Any], expected: str
) -> None:
    judgement = judged(timestamp, **look)
    assert judgement.reason == expected
    assert judgement.detail
    named = {"running": "running", "completed": "completed", "DeadlinePassed": "timed_out"}
    assert judgement.status == named.get(expected, "failed")


@pytest.mark.parametrize("timestamp", NO_TIMES)
@pytest.mark.parametrize("look", [OVERDUE, CONFIRMED, {"baseline": None, **CONFIRMED}])
def test_invalid_timestamp_never_completes_a_run(timestamp: Any, look: dict[str, Any]) -> None:
    assert judged(timestamp, **look).status == "failed"
    assert judged(timestamp, **look | {"requested_at": None}).status == "failed"


@pytest.mark.parametrize(
    "timestamp", ["Wed, 15 Jan 2025 14:30:00 GMT", "2025-01-15 14:30:00 UTC", "1736951400", "never"]
)
@pytest.mark.parametrize("look", [OVERDUE, CONFIRMED])
def test_failure_names_a_timestamp_that_is_not_a_time(timestamp: str, look: dict[str, Any]) -> None:
    said = f"Arcanna shows last_recomputed_timestamp {timestamp!r}, which is not an ISO 8601 time."
    assert judged(timestamp, **look).detail.endswith(said)
    assert judged(timestamp, **look | {"baseline": timestamp}).detail.endswith(said)


def test_failure_names_a_timestamp_of_another_recompute() -> None:
    said = f"last_recomputed_timestamp {OF_ANOTHER!r}, which is too early to be of this recompute."
    assert judged(OF_ANOTHER, **CONFIRMED).detail.endswith(said)


@pytest.mark.parametrize("timestamp", [None, "", " ", BASELINE, "0001-01-01T00:00:00Z"])
def test_failure_does_not_mention_a_timestamp_that_is_the_baseline_or_empty(timestamp: str | None) -> None:
    assert "last_recomputed_timestamp" not in judged(timestamp, **CONFIRMED).detail


@pytest.mark.parametrize("baseline", NO_TIMES)
def test_first_timestamp_ever_completes_a_run(baseline: Any) -> None:
    assert judged(LATER, baseline=baseline).status == "completed"
    assert judged(LATER, baseline=baseline, requested_at=None).status == "completed"


@pytest.mark.parametrize("baseline", ["2036-02-07T06:28:16Z", "9999-12-31T23:59:59Z"])
def test_baseline_in_the_future_does_not_prevent_completion(baseline: str) -> None:
    """The platform's clock was wrong when it wrote the baseline, and has been corrected."""
    assert judged(LATER, baseline=baseline).status == "completed"
    assert judged(OF_ANOTHER, baseline=baseline, **CONFIRMED).status == "failed"


@pytest.mark.parametrize("baseline", ["2036-02-07T06:28:16", "2025-01-16T14:10:01"])
@pytest.mark.parametrize("requested_at", ["2025-01-15T14:10:00", REQUESTED])
def test_baseline_in_the_future_without_an_offset_does_not_prevent_completion(
    baseline: str, requested_at: str
) -> None:
    def found(timestamp: str) -> str:
        return evidence(timestamp, baseline, requested_at)

    assert found("2025-01-15T14:30:00") == "proof"
    assert found("2025-01-15T04:30:00") == "proof"  # perhaps after the request, in UTC-10:00
    assert found("2025-01-14T14:10:00") == "none"
    assert found(baseline) == "none"


def test_baseline_less_than_a_day_after_the_request_may_be_of_another_time_zone() -> None:
    assert evidence("2025-01-16T14:09:59", "2025-01-16T14:10:00", REQUESTED) == "none"


def test_earlier_timestamp_proves_nothing_if_the_request_time_is_unknown() -> None:
    """It may come from a replica of the platform's database that lags behind."""
    earlier = "2025-01-15T13:00:00Z"
    assert judged(earlier, requested_at=None, **CONFIRMED).reason == "NoNewResult"
    assert judged(LATER, requested_at=None).status == "completed"


@given(looks)
def test_proven_run_completes_when_idle_or_at_the_deadline(look: dict[str, Any]) -> None:
    found = evidence(look["timestamp"], look["baseline"], look["requested_at"], look["recomputing_until"])
    status = judge_look(look).status
    ended = not look["recomputing"] or look["elapsed"] >= look["deadline"]
    if found == "proof":
        assert (status == "completed") == ended
    if found == "none" or not ended:
        assert status != "completed"


@given(looks)
def test_ambiguous_timestamp_only_turns_a_failure_into_a_completion(look: dict[str, Any]) -> None:
    before = judge_look(look | {"timestamp": look["baseline"]})
    if evidence(look["timestamp"], look["baseline"], look["requested_at"]) == "ambiguous":
        now = judge_look(look)
        assert now.status == before.status or (before.status, now.status) == ("failed", "completed")


@given(looks, st.lists(seconds, min_size=1))
def test_queued_recompute_never_completes(look: dict[str, Any], times: list[float]) -> None:
    unchanged = look | {"timestamp": look["baseline"], "recomputing": False, "recomputing_until": None}
    for elapsed in times:
        assert judge_look(unchanged | {"elapsed": elapsed}).status != "completed"


@given(looks)
def test_run_never_fails_while_the_platform_recomputes(look: dict[str, Any]) -> None:
    assert judge_look(look | {"recomputing": True}).status != "failed"


@given(looks)
def test_run_goes_on_after_its_deadline_only_to_confirm_a_failure(look: dict[str, Any]) -> None:
    judgement = judge_look(look | {"elapsed": look["deadline"]})
    assert judgement.status != "running" or judgement.confirmed_in is not None
    confirmed = judge_look(look | {"elapsed": look["deadline"], "idle_for": CONFIRMATION})
    assert confirmed.status != "running"


@given(looks)
def test_failure_needs_a_confirmation(look: dict[str, Any]) -> None:
    assume(look["start_grace"] > 0)
    assert judge_look(look | {"idle_for": 0.0}).status != "failed"


@given(looks, st.integers(1, 480).map(lambda eighths: eighths / 8))
def test_failure_is_confirmed_by_a_check_at_the_announced_time_and_by_none_before(
    look: dict[str, Any], earlier: float
) -> None:
    def judged_after(wait: float) -> Judgement:
        idle_for = (look["idle_for"] or 0.0) + wait
        return judge_look(look | {"elapsed": look["elapsed"] + wait, "idle_for": idle_for})

    left = judge_look(look).confirmed_in
    if left is not None:
        assert 0 < left <= CONFIRMATION
        assert judged_after(left).status in ("failed", "completed")
        if earlier < left:
            assert judged_after(left - earlier).confirmed_in == earlier


@pytest.mark.parametrize("idle_for", [0.0, 1.0, 59.0])
def test_every_check_before_a_failure_is_confirmed_says_when_it_will_be(idle_for: float) -> None:
    judgement = judged(BASELINE, recomputing_until=10.0, idle_for=idle_for)
    assert judgement.detail == "idle without new metrics; if that lasts 60 s, the run has failed"


# --- What a timestamp proves -----------------------------------------------------------------------------


@given(
    st.datetimes(min_value=datetime(1971, 1, 1)),  # noqa: DTZ001  # the offset is written below
    st.sampled_from([lambda t: t + "Z", lambda t: t + "+00:00", lambda t: t, lambda t: t + ".000Z"]),
    st.sampled_from([lambda t: t + "Z", lambda t: t + "+00:00", lambda t: t, lambda t: t + ".000000Z"]),
)
def test_same_moment_in_another_notation_proves_nothing(
    moment: Any, one: Callable[[str], str], other: Callable[[str], str]
) -> None:
    text = moment.replace(microsecond=0).isoformat()
    assert evidence(one(text), other(text), None) == "none"
    assert evidence(one(text), other(text), "1999-01-01T00:00:00Z") == "none"


@pytest.mark.parametrize(
    ("timestamp", "baseline", "newer"),
    [
        (None, None, False),
        (None, BASELINE, False),
        (BASELINE, None, True),
        (BASELINE, "", True),
        ("", BASELINE, False),
        (LATER, BASELINE, True),
        ("2025-01-15T14:00:00.000001Z", BASELINE, True),
        ("2025-01-15T15:30:00+01:00", BASELINE, True),
        ("2025-01-15T15:00:00+01:00", BASELINE, False),
        ("2025-01-15t14:30:00z", "2025-01-15t14:00:00z", True),
        ("2025-01-15t14:00:00z", BASELINE, False),
        ("a week ago", "a week ago", False),
        ("just now", "a week ago", False),
        (BASELINE, "a week ago", True),
        ("0001-01-01T00:00:00Z", None, False),
        ("1970-01-01T00:00:00Z", None, False),
        ("1970-01-01T02:00:00", None, False),
        ("9999-12-31T23:59:59-14:00", BASELINE, False),
    ],
)
def test_timestamp_proves_a_completion_if_it_is_newer_than_the_baseline(
    timestamp: str | None, baseline: str | None, newer: bool
) -> None:
    assert evidence(timestamp, baseline, None) == ("proof" if newer else "none")


@given(moments, moments)
def test_timestamps_with_offsets_are_compared_as_moments(ended: datetime, asked: datetime) -> None:
    assume(ended.microsecond)
    assert (evidence(ended.isoformat(), None, asked.isoformat()) == "proof") == (ended >= asked)


@given(moments, moments.map(lambda moment: moment.astimezone(UTC)))
def test_timestamp_of_whole_seconds_is_compared_in_whole_seconds(ended: datetime, asked: datetime) -> None:
    """The platform cuts fractions: a recompute may end in the second in which it was requested."""
    cut = ended.replace(microsecond=0)
    found = evidence(cut.isoformat(), None, asked.isoformat())
    assert (found == "proof") == (cut >= asked.replace(microsecond=0))


@given(moments, st.floats(0, 3 * CLOCK_MARGIN), st.none() | st.floats(-1, 3 * CLOCK_MARGIN))
def test_timestamp_within_the_clock_margin_is_ambiguous(
    asked: datetime, early: float, recomputing_until: float | None
) -> None:
    assume(asked.year > 1971)
    ended = asked - timedelta(seconds=early)
    assume(ended < asked and ended.microsecond)
    found = evidence(ended.isoformat(), None, asked.isoformat(), recomputing_until)
    margin = CLOCK_MARGIN - max(0.0, recomputing_until or 0.0)
    assume(abs((asked - ended).total_seconds() - margin) > 1e-5)
    assert found == ("ambiguous" if (asked - ended).total_seconds() < margin else "none")


@pytest.mark.parametrize(
    ("timestamp", "requested_at", "found"),
    [
        ("2025-01-15T14:10:00Z", REQUESTED, "proof"),
        ("2025-01-15T14:09:59.999999Z", REQUESTED, "ambiguous"),
        ("2025-01-15T14:09:55Z", REQUESTED, "ambiguous"),
        ("2025-01-15T14:09:54Z", REQUESTED, "none"),
        ("2025-01-15T15:09:54+01:00", REQUESTED, "none"),
        ("2025-01-15T13:30:00-01:00", REQUESTED, "proof"),
        # A fraction that the timestamp does not show is not held against it.
        ("2025-01-15T14:10:00Z", "2025-01-15T14:10:00.900Z", "proof"),
        ("2025-01-15T14:10:00.100Z", "2025-01-15T14:10:00.900Z", "ambiguous"),
        # Without an offset nobody knows when that was: only the baseline tells.
        ("2025-01-15T14:09:54", REQUESTED, "proof"),
        ("2025-01-15T14:09:54Z", "2025-01-15T14:10:00", "proof"),
        ("2025-01-15T13:59:59", "2025-01-15T14:10:00", "none"),
        # The same where the time of the request is not known.
        (LATER, None, "proof"),
        (LATER, "", "proof"),
        (LATER, "just now", "proof"),
        (LATER, "0001-01-01T00:00:00Z", "proof"),
        (BASELINE, None, "none"),
    ],
)
def test_timestamp_is_proof_ambiguous_or_none_as_the_table_says(
    timestamp: str, requested_at: str | None, found: str
) -> None:
    assert evidence(timestamp, BASELINE, requested_at) == found


@pytest.mark.parametrize("baseline", [None, "", "2024-01-15T14:00:00", "2036-01-15T14:00:00"])
@pytest.mark.parametrize("requested_at", [REQUESTED, "2025-01-15T14:10:00"])
@pytest.mark.parametrize(
    ("timestamp", "found"), [("2024-10-15T14:10:00.5", "none"), ("2025-01-15T09:10:00.5", "proof")]
)
def test_time_without_an_offset_proves_nothing_if_it_is_over_a_day_before_the_request(
    baseline: str | None, requested_at: str, timestamp: str, found: str
) -> None:
    """A platform that restarts may show no times for a moment, and then those of earlier recomputes."""
    assert evidence(timestamp, baseline, requested_at) == found
