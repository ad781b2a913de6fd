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

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

Status = Literal["running", "completed", "failed", "timed_out"]
Evidence = Literal["none", "ambiguous", "proof"]

CLOCK_MARGIN = 5.0
"""Seconds by which the clocks of the platform's API and workers may differ."""

_FIRST_REAL_TIME = datetime(1970, 1, 2, tzinfo=UTC)
"""Earlier times are the zero of Go (year 1) or Unix (1970, in any time zone): a time that is not set."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a run stands."""

    status: Status
    reason: str  # a stable identifier for programs
    detail: str  # a sentence for people
    confirming: bool = False  # it looks like a failure, which a later check has to confirm


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
        return "proof" if before is None or ended.at > before.at else "none"
    earliest = asked.at if ended.at.microsecond else asked.at.replace(microsecond=0)
    if ended.at >= earliest:
        return "proof"
    margin = CLOCK_MARGIN - max(recomputing_until or 0.0, 0.0)
    ambiguous = margin > 0 and ended.at >= earliest - timedelta(seconds=margin)
    return "ambiguous" if ambiguous else "none"


def judge(
    *,
    baseline: object,
    requested_at: object,
    timestamp: object,
    recomputing: bool,
    recomputing_until: float | None,
    idle_for: float,
    elapsed: float,
    start_grace: float,
    confirmation: float,
    deadline: float,
) -> Judgement:
    """The completion rule, applied to what one check of the platform shows.

    Until the deadline, a proof counts once the platform is idle. A later check must confirm a failure, even
    after the deadline, because the platform's flag and timestamp may not change at the same moment. If the
    timestamp is ambiguous then, the run counts as completed instead of failed.

    Args:
        baseline: `last_recomputed_timestamp` before the request, None if there was none.
        requested_at: the platform's own time of the request, None if it did not give one.
        timestamp: `last_recomputed_timestamp` now.
        recomputing: `is_recomputing_metrics` now.
        recomputing_until: seconds after the request when a check last saw it recompute, None if never.
        idle_for: seconds since the platform has been seen idle without a proof, 0.0 if not before.
        elapsed: seconds since the run began.
        start_grace: seconds that a request may stay queued.
        confirmation: seconds that may pass between the changes of flag and timestamp.
        deadline: seconds that the whole run may take.
    """
    found = evidence(timestamp, baseline, requested_at, recomputing_until)
    if found == "proof" and not recomputing:
        return _completed(timestamp)
    if not recomputing and (failure := _failure(recomputing_until, elapsed, start_grace)):
        if idle_for < confirmation:
            return _unconfirmed(confirmation)
        if found == "none":
            return failure
        return _completed(timestamp, f", by Arcanna's clocks up to {CLOCK_MARGIN:.0f} s before the request")
    if elapsed >= deadline:
        if found == "proof":  # ours has ended; this is somebody else's recompute
            return _completed(timestamp, ", and are being recomputed again")
        return Judgement(
            "timed_out", "DeadlinePassed", f"The recompute was not finished after {elapsed:.0f} s"
        )
    return Judgement("running", "running", "recomputing" if recomputing else "queued")


def _unconfirmed(confirmation: float) -> Judgement:
    detail = f"idle without new metrics; if that lasts {confirmation:.0f} s, the run has failed"
    return Judgement("running", "running", detail, confirming=True)


def _completed(timestamp: object, remark: str = "") -> Judgement:
    return Judgement("completed", "completed", f"The metrics were computed at {timestamp}{remark}")


def _failure(recomputing_until: float | None, elapsed: float, start_grace: float) -> Judgement | None:
    """The failure that an idle platform without a proof means; None while the request may be queued."""
    if recomputing_until is not None:
        return Judgement(
            "failed",
            "NoNewResult",
            "Arcanna recomputed, but the metrics did not change. Look for the error in Arcanna.",
        )
    if elapsed >= start_grace:
        return Judgement(
            "failed",
            "NeverStarted",
            f"Arcanna accepted the request, but no check within {elapsed:.0f} s saw it recompute. Either it"
            " did not start, or it failed between two checks. Check that Arcanna's workers are running.",
        )
    return None


def _time(text: object) -> _Shown | None:
    """The time in a field of the platform; None for null, a text that is not a time, and a zero time."""
    if not isinstance(text, str):
        return None
    try:
        read = datetime.fromisoformat(text)
        at = read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the latter before the year 1 or after 9999 in UTC
        return None
    return _Shown(at, read.tzinfo is not None) if at >= _FIRST_REAL_TIME else None
