"""When a recompute is finished, and what proves it.

The platform has no failure field and no request ids. What it shows of a model is one flag and one
timestamp, and just after a request the flag may still be false because the request is only queued. So a
completion is proven by a timestamp that moved on from the one read before the request, never by the flag.
The platform's timestamps are compared with each other, never with our clock.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from arcanna_metrics.times import from_iso

Status = Literal["running", "completed", "failed", "timed_out"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a run stands. `reason` is a stable word for programs, `detail` a sentence for people."""

    status: Status
    reason: str
    detail: str


def is_newer(timestamp: str | None, baseline: str | None) -> bool:
    """Whether the metrics were recomputed after `baseline` was read.

    The platform writes the same moment with and without fractional seconds, so moments are compared where
    both can be read, and otherwise the texts.
    """
    if timestamp is None or baseline is None:
        return timestamp is not None
    try:
        return from_iso(timestamp) > from_iso(baseline)
    except (ValueError, OverflowError):
        return timestamp != baseline


def is_from_before(timestamp: str | None, requested_at: str | None) -> bool:
    """Whether the metrics are of a recompute that ended before ours was asked for.

    So they are if somebody else's recompute had just ended when the baseline was read, and the timestamp
    was yet to follow the flag. Both times are the platform's. They are compared only where both name their
    offset from UTC, and in whole seconds where the timestamp has no others.
    """
    try:
        ended = datetime.fromisoformat(timestamp or "")
        asked = datetime.fromisoformat(requested_at or "")
    except ValueError:
        return False
    if ended.tzinfo is None or asked.tzinfo is None:
        return False
    return ended < (asked if ended.microsecond else asked.replace(microsecond=0))


def judge(
    *,
    baseline: str | None,
    requested_at: str | None,
    timestamp: str | None,
    recomputing: bool,
    seen_recomputing: bool,
    idle_for: float | None,
    elapsed: float,
    start_grace: float,
    confirmation: float,
    deadline: float,
) -> Judgement:
    """The completion rule, on what one look at the platform shows.

    Args:
        baseline: `last_recomputed_timestamp` before the request, None if there was none.
        requested_at: the platform's own time of the request, None if it did not tell.
        timestamp: `last_recomputed_timestamp` now.
        recomputing: `is_recomputing_metrics` now.
        seen_recomputing: whether any earlier look of this run saw it recomputing.
        idle_for: seconds since this run first saw it idle after it had been recomputing, None before that.
        elapsed: seconds since the request.
        start_grace: seconds that a request may stay queued.
        confirmation: seconds that flag and timestamp may change apart.
        deadline: seconds that the run may take in all.
    """
    if is_newer(timestamp, baseline) and not is_from_before(timestamp, requested_at):
        if not recomputing:
            return Judgement("completed", "completed", f"The metrics are of {timestamp}")
    elif not recomputing and seen_recomputing:
        if idle_for is not None and idle_for >= confirmation:
            return Judgement(
                "failed",
                "NoNewResult",
                "Arcanna recomputed and left the metrics as they were. Look for the error in Arcanna.",
            )
    elif not recomputing and elapsed >= start_grace:
        return Judgement(
            "failed",
            "NeverStarted",
            f"Arcanna accepted the request, and within {elapsed:.0f} s no check saw it recompute: it did not"
            " begin, or failed between two checks. Look whether its workers are running.",
        )
    if elapsed >= deadline:
        return Judgement(
            "timed_out", "DeadlinePassed", f"The recompute was not finished after {elapsed:.0f} s"
        )
    return Judgement("running", "running", "recomputing" if recomputing else "queued")
