"""When to retry a failed attempt."""

from arcanna_metrics.errors import RetryLater
from arcanna_metrics.protocol.entry import NEVER
from arcanna_metrics.protocol.transitions import Postponement
from arcanna_metrics.runs.limits import cut
from arcanna_metrics.settings import Pace

LONGEST_RETRY_AFTER = 3600.0
"""The longest Retry-After that counts, in seconds. A mistake there must not stop the target for years."""

LONGEST_ERROR = 200
"""Characters that the ledger keeps of an error."""


def delay(attempts: int, pace: Pace, draw: float) -> float:
    """Seconds until the next attempt after this number of failed attempts: exponential, with full jitter.

    `draw` is uniform in [0, 1). Full jitter spreads the targets that one outage stopped over the interval, so
    that they are not all retried at once.
    """
    return max(1.0, min(pace.first_backoff * 2.0 ** min(attempts, 20), pace.longest_backoff) * draw)


def postponement(error: Exception | None, attempts: int, pace: Pace, now: float, draw: float) -> Postponement:
    """When to retry after this error.

    A Retry-After is honoured. After a request whose effect is unknown, the recompute may be queued. Arcanna
    does not show that during the start grace, so the next attempt waits for that long.
    """
    firm, effect_unknown = NEVER, error is not None  # a bug may have come after a request
    if isinstance(error, RetryLater):
        effect_unknown = error.effect_unknown
        if error.retry_after is not None:
            firm = now + min(error.retry_after, LONGEST_RETRY_AFTER)
    if effect_unknown:
        firm = max(firm, now + pace.start_grace)
    last_error = cut(f"{type(error).__name__}: {error}", LONGEST_ERROR) if error else ""
    return Postponement(now + delay(attempts, pace, draw), firm, last_error)
