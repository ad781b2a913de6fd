"""What the platform shows about a model."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModelMetrics:
    """What the platform shows about a model. `figures` holds the scores under their documented names.

    `timestamp` is the end of the last recompute as the platform writes it; None if it is null or empty.
    """

    recomputing: bool
    timestamp: str | None
    figures: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For workflow data and outcome events."""
        return {"last_recomputed_timestamp": self.timestamp, **self.figures}
