"""Whatever the platform shows, in whatever order: no run counts as completed without proof.

The real client, the real check and the real completion rule follow runs on two platforms: one that tells the
truth in odd ways, and one that answers anything.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast

import httpx
from hypothesis import assume, given
from hypothesis import strategies as st

from arcanna_metrics.errors import Rejected, RetryLater
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.runs.check import check, first_check
from arcanna_metrics.runs.completion import CLOCK_MARGIN, CONFIRMATION, evidence
from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.runs.run import Check, Run
from tests.support.doubles import BASELINE, MODEL, Answer, ScriptedPlatform, answer, metrics_body, no_answer
from tests.support.outcome_events import validate_entry
from tests.support.runs import BUS, DEADLINE, EXECUTION, PACE, REQUESTED_AT, a_run, accepted
from tests.unit.strategies import any_json, any_text

APART = CONFIRMATION / 2
"""The most seconds between the changes of the truthful platform's flag and timestamp."""

NO_TIMES = [
    "",
    None,
    "null",
    "n/a",
    "0",
    "0001-01-01T00:00:00Z",
    "1970-01-01T00:00:00Z",
    "2025-13-45T99:00:00Z",
]


def check_again(arcanna: Arcanna, run: Run, last: Check, now: float) -> Check:
    """One check, with the data as the workflow hands it on. Raises only the project's own errors."""
    run, last = json.loads(json.dumps([run, last]))
    return check(arcanna, run, last, Origin(EXECUTION, BUS, now))


# --- A platform that tells the truth, in odd ways ----------------------------------------------------------


@dataclass(frozen=True)
class Recompute:
    """Times in seconds after the request, by a clock that is right."""

    began: float
    ended: float
    succeeds: bool = True
    timestamp_lag: float = 0.0
    flag_lag: float = 0.0


@dataclass
class TruthfulPlatform:
    """A platform that shows the end of the last recompute, and whether one is under way."""

    recomputes: list[Recompute]
    skew: float  # seconds by which the clock of its API is wrong
    worker_skew: float  # seconds by which the clock of its workers is ahead of that
    written: Any  # how it writes times
    oddities: list[Any] = field(default_factory=list)  # shown instead of the timestamp, the truth where ...
    calls: int = 0

    def write(self, seconds: float) -> str:
        moment = datetime(2025, 1, 15, 14, 30, tzinfo=UTC) + timedelta(seconds=seconds + self.skew)
        return cast("str", self.written(moment))

    def shown(self, at: float) -> dict[str, Any]:
        seen = [r for r in self.recomputes if r.succeeds and r.ended + r.timestamp_lag <= at]
        last = max((r.ended for r in seen), default=None)
        timestamp = self.write(-86400) if last is None else self.write(last + self.worker_skew)
        oddity = self.oddities[self.calls % len(self.oddities)] if self.oddities else ...
        self.calls += 1
        return metrics_body(
            is_recomputing_metrics=any(r.began <= at < r.ended + r.flag_lag for r in self.recomputes),
            last_recomputed_timestamp=timestamp if oddity is ... else oddity,
        )


def whole(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def fractional(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def elsewhere(moment: datetime) -> str:
    return moment.astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()


def without_offset(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat()


formats = st.sampled_from([whole, fractional, elsewhere])
lags = st.just(0.0) | st.floats(0, APART)


@st.composite
def earlier_recomputes(draw: st.DrawFn, timestamp_lags: st.SearchStrategy[float] = lags) -> list[Recompute]:
    """Recomputes of other people, which end before the request. Their timestamp may follow later."""
    ends = draw(st.lists(st.floats(-3600, -0.001), max_size=2))
    return [Recompute(end - 60, end, draw(st.booleans()), draw(timestamp_lags)) for end in ends]


@st.composite
def own_recomputes(draw: st.DrawFn) -> list[Recompute]:
    """None if the request is never taken up, or one that may fail, and which others may follow."""
    recomputes = []
    free = 0.0
    for _ in range(draw(st.integers(0, 3))):
        began = free + draw(st.just(0.0) | st.floats(0, 500))
        ended = began + draw(st.floats(0.1, 10) | st.floats(0, 4000))
        recomputes.append(Recompute(began, ended, draw(st.booleans()), draw(lags), draw(lags)))
        free = ended + APART
    return recomputes


def follow(platform: TruthfulPlatform, run: Run, steps: list[float], until: float = 2 * DEADLINE) -> Check:
    """The run's last check. Each check is late by the next of `steps`."""
    scripted = ScriptedPlatform()
    arcanna, last = scripted.client(), first_check(run)
    at, number = 0.0, 0
    while last["status"] == "running" and at < until:
        at += last["wait_seconds"] + steps[number % len(steps)]
        number += 1
        scripted.metrics = answer(json=platform.shown(at))
        last = check_again(arcanna, run, last, REQUESTED_AT + at)
    return last


def requested(platform: TruthfulPlatform, requested_at: str | None, start_grace: float = 600.0) -> Run:
    """A run whose baseline is what the platform shows at the request."""
    run = a_run(baseline=platform.shown(0.0), pace={**PACE, "start_grace": start_grace})
    return accepted(run, requested_at)


delays = st.lists(st.floats(0, 300), min_size=1, max_size=5)


@given(
    earlier=earlier_recomputes(),
    own=own_recomputes(),
    skew=st.floats(-1e7, 1e8),
    worker_skew=st.floats(-CLOCK_MARGIN, CLOCK_MARGIN),
    written=formats,
    oddities=st.lists(st.just(...) | st.sampled_from(NO_TIMES), max_size=6),
    steps=delays,
)
def test_run_completes_only_by_a_recompute_that_ended_after_the_request(
    earlier: list[Recompute],
    own: list[Recompute],
    skew: float,
    worker_skew: float,
    written: Any,
    oddities: list[Any],
    steps: list[float],
) -> None:
    """An earlier end counts within the difference of the platform's clocks and its timestamps' precision."""
    platform = TruthfulPlatform([*earlier, *own], skew, worker_skew, written, oddities)
    last = follow(platform, requested(platform, platform.write(0.0)), steps)
    assert last["status"] != "running"
    if last["status"] == "completed":
        earliest = -(CLOCK_MARGIN + max(0.0, worker_skew) + 1.0)
        assert any(r.succeeds and r.ended >= earliest for r in platform.recomputes)


@given(
    earlier=earlier_recomputes(st.just(0.0)),
    own=own_recomputes(),
    skew=st.floats(-1e7, 1e8),
    requested_at=st.none() | st.just("") | any_text,
    written=formats | st.just(without_offset),
    oddities=st.lists(st.just(...) | st.sampled_from(NO_TIMES), max_size=6),
    steps=delays,
)
def test_run_completes_if_the_time_of_the_request_is_unknown(
    earlier: list[Recompute],
    own: list[Recompute],
    skew: float,
    requested_at: str | None,
    written: Any,
    oddities: list[Any],
    steps: list[float],
) -> None:
    """The baseline must be true, because nothing else distinguishes an earlier recompute from a later one."""
    platform = TruthfulPlatform([*earlier, *own], skew, 0.0, written)
    run = requested(platform, requested_at)
    platform.oddities = oddities
    last = follow(platform, run, steps)
    if last["status"] == "completed":
        assert any(r.succeeds and r.ended >= 0.0 for r in own)


@given(
    earlier=earlier_recomputes(),
    delay=st.just(0.0) | st.floats(0, 500),
    duration=st.floats(0.1, 10) | st.floats(0.1, 2000),
    timestamp_lag=lags,
    skew=st.floats(-1e7, 1e8),
    worker_skew=st.just(0.0) | st.floats(-CLOCK_MARGIN + 1, CLOCK_MARGIN - 1),
    written=formats,
    steps=delays,
)
def test_run_completes_if_its_recompute_succeeds_in_time(
    earlier: list[Recompute],
    delay: float,
    duration: float,
    timestamp_lag: float,
    skew: float,
    worker_skew: float,
    written: Any,
    steps: list[float],
) -> None:
    """This includes short recomputes, ends in whole seconds, and different clocks of the platform."""
    own = Recompute(delay, delay + duration, timestamp_lag=timestamp_lag)
    platform = TruthfulPlatform([*earlier, own], skew, worker_skew, written)
    ends = [platform.write(r.ended + worker_skew) for r in platform.recomputes if r.succeeds]
    assume(ends[-1] not in ends[:-1])  # two ends in one second cannot be distinguished
    last = follow(platform, requested(platform, platform.write(0.0)), steps)
    assert last["status"] == "completed"


@given(
    baseline=st.sampled_from(["2036-02-07T06:28:16Z", "9999-12-31T23:59:59Z", "2025-01-15T14:30:01Z"]),
    duration=st.floats(0.1, 2000),
    written=formats,
    steps=delays,
)
def test_run_completes_after_the_platforms_clock_was_corrected(
    baseline: str, duration: float, written: Any, steps: list[float]
) -> None:
    platform = TruthfulPlatform([Recompute(2.0, 2.0 + duration)], 0.0, 0.0, written, [baseline])
    run = requested(platform, platform.write(0.0))
    platform.oddities = []
    assert follow(platform, run, steps)["status"] == "completed"


# --- A platform that answers anything ----------------------------------------------------------------------

FIELDS = (
    "model_id",
    "is_recomputing_metrics",
    "last_recomputed_timestamp",
    "overall_accuracy",
    "overall_f1_score",
    "overall_recall",
    "overall_precision",
    "confusion_matrix",
    "metrics_per_decision",
    "kb_count_per_decision",
    "buckets_in_kb",
)
times = st.sampled_from([*NO_TIMES, BASELINE, "2025-01-15T14:31:00Z", "2025-01-15T14:29:58Z", "2036-01-01"])
documented = st.fixed_dictionaries(
    {"is_recomputing_metrics": st.sampled_from([True, False, None]), "last_recomputed_timestamp": times},
    optional=dict.fromkeys(FIELDS[3:], any_json),
)
odd = st.dictionaries(st.sampled_from(FIELDS), any_json, max_size=4)
numbers = st.floats() | st.integers() | st.integers().map(lambda exponent: 10 ** (abs(exponent) % 300))
decisions = st.dictionaries(
    st.sampled_from(["Escalate", "Drop", '"', "\u2028"]),
    st.dictionaries(
        st.sampled_from(["recall", "precision", "f1_score", "true_positives", "false_negatives"]), numbers
    ),
    max_size=3,
)
bodies = (documented | odd).map(lambda changes: metrics_body(**changes)) | st.builds(
    lambda times, decisions: metrics_body(last_recomputed_timestamp=times, metrics_per_decision=decisions),
    times,
    decisions,
)


def as_answer(body: object) -> Answer:
    return answer(content=json.dumps(body).encode("utf-8", "surrogatepass"))


answers = (
    bodies.map(as_answer)
    | any_json.map(as_answer)
    | st.binary(max_size=50).map(lambda content: answer(content=content))
    | st.builds(
        lambda status, text, after: answer(status, content=text.encode(errors="replace"), headers=after),
        st.integers(200, 599),
        any_text,
        st.sampled_from([{}, {"Retry-After": "0"}, {"Retry-After": "9" * 30}, {"Retry-After": "soon"}]),
    )
    | st.just(no_answer(httpx.ReadTimeout("timed out")))
)
jobs = answers | st.sampled_from([MODEL.model_id, "another", "", None, 7]).map(
    lambda model_id: as_answer({"active_model_id": model_id})
)


@given(
    shown=st.lists(st.tuples(answers, jobs), min_size=1, max_size=12),
    baseline=answers,
    requested_at=st.none() | times | any_text,
    active=st.booleans(),
    steps=st.lists(st.floats(0, DEADLINE), min_size=1, max_size=5),
)
def test_any_answers_lead_to_valid_checks_or_project_errors(
    shown: list[tuple[Answer, Answer]],
    baseline: Answer,
    requested_at: str | None,
    active: bool,
    steps: list[float],
) -> None:
    scripted = ScriptedPlatform(metrics=baseline)
    arcanna = scripted.client()
    try:
        run = a_run(active=active, baseline=arcanna.metrics(MODEL).as_dict())
    except (RetryLater, Rejected):
        run = cast("Run", {**a_run(active=active), "baseline": None})
    run = accepted(run, requested_at)
    last, at = first_check(run), 0.0
    for number, (metrics, job) in enumerate(shown):
        scripted.metrics, scripted.job = metrics, job
        at += last["wait_seconds"] + steps[number % len(steps)]
        try:
            last = check_again(arcanna, run, last, REQUESTED_AT + at)
        except (RetryLater, Rejected):
            continue
        if last["status"] != "running":
            break
        assert last["wait_seconds"] >= 1
        assert last["outcome"] is None
    json.dumps(last, allow_nan=False).encode()
    if last["outcome"]:
        for entry in last["outcome"]["events"]:
            validate_entry(entry)


@given(
    shown=st.lists(bodies, min_size=1, max_size=12),
    baseline=times,
    requested_at=st.none() | times,
    steps=st.lists(st.floats(0, 400), min_size=1, max_size=5),
)
def test_run_never_completes_without_a_timestamp_other_than_the_baselines(
    shown: list[dict[str, Any]], baseline: str | None, requested_at: str | None, steps: list[float]
) -> None:
    scripted = ScriptedPlatform()
    arcanna = scripted.client()
    before = metrics_body(last_recomputed_timestamp=baseline)
    run = accepted(a_run(baseline=before), requested_at)
    last, at = first_check(run), 0.0
    kept = [body for body in shown if evidence(body["last_recomputed_timestamp"], None, None) == "none"] or [
        before
    ]
    for number, body in enumerate([*kept, before]):
        scripted.metrics = as_answer(body)
        at += last["wait_seconds"] + steps[number % len(steps)]
        try:
            last = check_again(arcanna, run, last, REQUESTED_AT + at)
        except (RetryLater, Rejected):
            continue
        assert last["status"] != "completed"
        if last["status"] != "running":
            break
