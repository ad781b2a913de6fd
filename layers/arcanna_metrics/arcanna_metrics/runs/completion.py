"""When a recompute is finished, and what proves it.

The platform has no failure field and no request ids. It shows one flag and one timestamp of a model, and just
after a request the flag may still be false because the request is only queued. So only the timestamp proves a
completion, never the flag. The platform's times are compared with each other, never with our clock.

What a timestamp proves, see `evidence`:

    no time, or the baseline's        ->  nothing
    the time of the request is known
        at the request or later       ->  proof
        a few seconds before it       ->  ambiguous: the platform's clocks differ, or another recompute set it
        earlier                       ->  nothing: another recompute set it
    the time of the request is not known
        later than the baseline       ->  proof
        earlier                       ->  nothing: it may come from a replica that lags behind
"""

from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from arcanna_metrics.platform.model_metrics import ModelMetrics
from arcanna_metrics.runs.limits import cut
from arcanna_metrics.runs.run import Check, Run, Status
from arcanna_metrics.times import from_iso, parsed

Evidence = Literal["none", "ambiguous", "proof"]

CONFIRMATION = 60.0
"""Seconds that the platform must stay idle without new metrics before a run has failed."""

CLOCK_MARGIN = 5.0
"""Seconds by which the clocks of the platform's API and workers may differ."""

_FIRST_REAL_TIME = datetime(1970, 1, 2, tzinfo=UTC)
"""Earlier times are the zero of Go (year 1) or Unix (1970, in any time zone): a time that is not set."""

_MORE_THAN_AN_OFFSET = timedelta(days=1)
"""A time without an offset is read as UTC, and so is wrong by less than this."""


class Judgement(NamedTuple):
    """How a run stands."""

    status: Status
    reason: str  # a stable identifier for programs
    detail: str  # a sentence for people
    confirmed_in: float | None = None  # seconds until a check confirms what looks like a failure


class _Shown(NamedTuple):
    """A time that the platform shows. Without an offset it is read as UTC, which may be wrong by hours."""

    at: datetime
    has_offset: bool


def evidence(
    timestamp: object, baseline: object, requested_at: object, recomputing_until: float | None = None
) -> Evidence:
    """What the timestamp proves about the recompute that was requested.

    `requested_at` is the platform's own time of the request. It counts as known if both it and the timestamp
    have an offset from UTC. If the timestamp has whole seconds only, both are compared in whole seconds.
    Otherwise only the baseline counts, if it is within a day of the request. If there is none, or a wrong
    clock wrote it, a day before the request counts instead, if the platform told any time of it.
    `recomputing_until`: seconds after the request when a check last saw the platform recompute, or None.

    A timestamp from before the request usually proves nothing: it may belong to somebody else's recompute,
    which ended just before the request and is not in the baseline. But it may also be ours, if the clocks
    of the platform's API and workers differ by more than the recompute took. Such a timestamp is ambiguous,
    and `judge` counts it only when no other can come. If a check saw the recompute running, it cannot have
    ended before that check, so the margin shrinks. This assumes that the flag is not cleared late.
    """
    ended, before, asked = _time(timestamp), _time(baseline), _time(requested_at)
    if ended is None or (before is not None and ended.at == before.at):
        return "none"
    if asked is None or not (asked.has_offset and ended.has_offset):
        if asked and (before is None or abs(before.at - asked.at) > _MORE_THAN_AN_OFFSET):
            before = _Shown(asked.at - _MORE_THAN_AN_OFFSET, has_offset=False)
        return "proof" if before is None or ended.at > before.at else "none"
    earliest = asked.at if ended.at.microsecond else asked.at.replace(microsecond=0)
    if ended.at >= earliest:
        return "proof"
    margin = CLOCK_MARGIN - max(recomputing_until or 0.0, 0.0)
    ambiguous = margin > 0 and ended.at >= earliest - timedelta(seconds=margin)
    return "ambiguous" if ambiguous else "none"


def judge(run: Run, checked: Check, seen: ModelMetrics, now: float) -> Judgement:
    """The completion rule, applied to what one check has `seen` at `now`, in epoch seconds.

    `checked` says what the platform has shown until then, including this check. Until the deadline, a proof
    counts once the platform is idle. A later check must confirm a failure, even after the deadline, because
    the platform's flag and timestamp may not change at the same moment. If the timestamp is ambiguous then,
    the run counts as completed instead of failed.
    """
    pace, elapsed, until = run["pace"], elapsed_of(run, now), _recomputing_until(run, checked)
    baseline = (run["baseline"] or {}).get("last_recomputed_timestamp")
    found = evidence(seen.timestamp, baseline, run["platform_requested_at"], until)
    if found == "proof" and not seen.recomputing:
        return _completed(seen)
    if not seen.recomputing and (failure := _failure(until, elapsed, pace["start_grace"])):
        confirmation = min(CONFIRMATION, pace["start_grace"])
        idle_since = from_iso(checked["idle_since"]) if checked["idle_since"] else now
        if (left := idle_since + confirmation - now) > 0:
            detail = f"idle without new metrics; if that lasts {confirmation:.0f} s, the run has failed"
            return Judgement("running", "running", detail, confirmed_in=left)
        if found == "none":
            return _with_unusable_time(failure, seen.timestamp, baseline)
        return _completed(seen, f", by Arcanna's clocks up to {CLOCK_MARGIN:.0f} s before the request")
    if elapsed >= pace["deadline"]:
        if found == "proof":  # ours has ended; this is somebody else's recompute
            return _completed(seen, ", and are being recomputed again")
        return Judgement(
            "timed_out", "DeadlinePassed", f"The recompute was not finished after {elapsed:.0f} s"
        )
    return Judgement("running", "running", "recomputing" if seen.recomputing else "queued")


def elapsed_of(run: Run, now: float) -> float:
    """Seconds since the run began."""
    return max(0.0, now - from_iso(run["requested_at"]))


def _recomputing_until(run: Run, checked: Check) -> float | None:
    """Seconds after the request when a check last saw it recompute; 0.0 if unknown, None if never."""
    recomputing_at = checked["recomputing_at"]
    if recomputing_at is None:
        return None
    return from_iso(recomputing_at) - from_iso(run["accepted_at"] or recomputing_at)


def _completed(seen: ModelMetrics, remark: str = "") -> Judgement:
    return Judgement("completed", "completed", f"The metrics were computed at {seen.timestamp}{remark}")


def _failure(recomputing_until: float | None, elapsed: float, start_grace: float) -> Judgement | None:
    """The failure that an idle platform without a proof means; None while the request may be queued."""
    if recomputing_until is not None:
        return Judgement(
            "failed",
            "NoNewResult",
            "Arcanna recomputed, but there are no new metrics. Look for the error in Arcanna.",
        )
    if elapsed >= start_grace:
        return Judgement(
            "failed",
            "NeverStarted",
            f"Arcanna accepted the request, but no check within {elapsed:.0f} s saw it recompute. Either it"
            " did not start, or it failed between two checks. Check that Arcanna's workers are running.",
        )
    return None


def _with_unusable_time(failure: Judgement, timestamp: str | None, baseline: str | None) -> Judgement:
    """The failure, which names a timestamp that proves nothing: it may be the only reason."""
    if timestamp is None:
        return failure
    try:
        from_iso(timestamp)
    except ValueError:
        why = "is not an ISO 8601 time"
    else:
        ended, before = _time(timestamp), _time(baseline)
        if ended is None or (before and ended.at == before.at):
            return failure
        why = "is too early to be of this recompute"
    shown = f"Arcanna shows last_recomputed_timestamp {cut(timestamp, 64)!r}, which {why}."
    return failure._replace(detail=f"{failure.detail} {shown}")


def _time(text: object) -> _Shown | None:
    """The time in a field of the platform; None for null, a text that is not a time, and a zero time."""
    if not isinstance(text, str):
        return None
    try:
        read = parsed(text)
        at = read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter before the year 1 or after 9999 in UTC
        return None
    return _Shown(at, read.tzinfo is not None) if at >= _FIRST_REAL_TIME else None
