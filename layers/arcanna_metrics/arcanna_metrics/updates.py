"""What an event means to the ledger: training data has changed, or metrics must not be too old."""

from dataclasses import dataclass
from typing import NamedTuple

from arcanna_metrics.targets import Target

WHOLE = 1_000_000
"""The share of a threshold that is worth a recompute alone, in millionths."""


class Example(NamedTuple):
    """An object, as people are shown it."""

    bucket: str
    key: str
    version_id: str | None


@dataclass(frozen=True, slots=True)
class Update:
    """The training data of a target changed, or a schedule wishes for metrics that are not too old."""

    target: Target
    happened_at: float  # epoch seconds, never later than its message was sent
    cause: str  # upload, schedule, manual, an event's detail-type, or what a request says
    example: Example | None = None
    share: int = WHOLE  # of its route's threshold, in millionths, rounded up
    max_wait: float = 0.0  # seconds after which a share of a threshold is recomputed in any case
    older_than: float | None = None  # only of a wish: metrics must not be older than this, in seconds
    by_hand: bool = False  # the data is there already, so no visibility lag is waited for
