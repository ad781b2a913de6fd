"""What an event means to the ledger: training data has changed, or metrics must not be too old."""

from typing import NamedTuple

from arcanna_metrics.targets import Target

WHOLE = 1_000_000
"""The share, in millionths, that reaches a threshold."""


class Example(NamedTuple):
    """An object, as people see it."""

    bucket: str
    key: str
    version_id: str | None


class Update(NamedTuple):
    """The training data of a target changed, or a schedule asks for metrics that are not too old."""

    target: Target
    happened_at: float  # epoch seconds, never later than its message was sent
    cause: str  # upload, schedule, manual, an event's detail-type, or what a request says
    example: Example | None = None
    share: int = WHOLE  # of its route's threshold, in millionths, rounded up
    max_wait: float = 0.0  # seconds that a share of a threshold may wait for others
    older_than: float | None = None  # only for a wish: metrics must not be older than this, in seconds
    by_hand: bool = False  # the data is visible already, so the run does not wait for the visibility lag
