"""What the platform shows about a model. A plain type, so that pure code need not know the client."""

from typing import Any, NamedTuple

OVERALL = {
    "overall_accuracy": "accuracy",
    "overall_f1_score": "F1",
    "overall_recall": "recall",
    "overall_precision": "precision",
}
"""The overall scores by the API's names, with their names for people."""

FIELDS = (*OVERALL, "confusion_matrix", "metrics_per_decision", "kb_count_per_decision", "buckets_in_kb")
"""The fields of an answer that are passed on as they are."""


class ModelMetrics(NamedTuple):
    """What the platform shows about a model. `fields` has all FIELDS; None if missing.

    `timestamp` is the end of the last recompute as the platform writes it; None if it is null or empty.
    """

    recomputing: bool
    timestamp: str | None
    fields: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """For workflow data and outcome events."""
        return {"last_recomputed_timestamp": self.timestamp, **self.fields}
