"""The documented answers, field by field. The OpenAPI document is generated from them."""

from typing import Literal

from pydantic import BaseModel, Field


class MetricsPerDecision(BaseModel):
    precision: float
    recall: float
    f1_score: float
    true_positives: float
    true_negatives: float
    false_positives: float
    false_negatives: float


class KnowledgeBaseCount(BaseModel):
    alerts_count: int
    buckets_count: int


class Figures(BaseModel):
    """The result of a recompute. The defaults are those before the first one."""

    overall_accuracy: float | None = None
    overall_f1_score: float | None = Field(default=None, description="mean over the decisions")
    overall_recall: float | None = Field(default=None, description="mean over the decisions")
    overall_precision: float | None = Field(default=None, description="mean over the decisions")
    confusion_matrix: list[list[int]] | None = Field(
        default=None,
        description="rows: true decisions, columns: predicted ones; both in the order of "
        "metrics_per_decision",
    )
    metrics_per_decision: dict[str, MetricsPerDecision] = {}
    kb_count_per_decision: dict[str, KnowledgeBaseCount] = {}
    buckets_in_kb: int = 0


class ModelMetrics(Figures):
    model_id: str | None = None
    is_recomputing_metrics: bool | None = Field(
        default=None, description="may still be false just after a recompute was queued"
    )
    last_recomputed_timestamp: str | None = Field(
        default=None, description="ISO-8601; null before the first recompute"
    )


class ChangedConsensus(BaseModel):
    """Alerts that analysts agreed on after the training. The reference server has none."""

    total_events: int | None = 0
    top_events_ids: list[str] | None = []
    top_buckets_ids: list[str] | None = []


class JobMetrics(Figures):
    start_time: str | None = Field(default=None, description="ISO-8601; null without a date range")
    end_time: str | None = None
    active_model_id: str | None = None
    all_model_ids: list[str] | None = None
    time_saved_minutes: float | None = None
    total_events: int | None = 0
    total_events_in_knowledge_base: int | None = 0
    total_events_with_consensus: int | None = 0
    changed_consensus_after_training: ChangedConsensus = ChangedConsensus()


class JobAndLatestModelMetrics(JobMetrics):
    active_model_metrics: ModelMetrics


class Resource(BaseModel):
    id: int
    title: str


class RecomputeAccepted(BaseModel):
    message: str
    job_id: int
    model_id: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    requested_at: str


class Health(BaseModel):
    status: str
    reason: str = ""
    reason_details: str = ""


class Error(BaseModel):
    error: str
    details: str


class ApiError(Exception):
    """A request that is answered with `Error` and a status other than 200."""

    def __init__(self, status: int, error: str, details: str) -> None:
        super().__init__(f"{status} {error}: {details}")
        self.status = status
        self.body = Error(error=error, details=details)
