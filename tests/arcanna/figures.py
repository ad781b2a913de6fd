"""From labelled alerts to the figures that the API serves."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.arcanna.alerts import Alert
from tests.arcanna.schemas import Figures, KnowledgeBaseCount, MetricsPerDecision


def warm_up() -> None:
    """Pay for importing scikit-learn (seconds) before somebody waits for it."""
    import sklearn.metrics  # noqa: F401  # imported for its side effect: the next import is free


def compute_figures(alerts: Sequence[Alert]) -> Figures:
    """The figures over the alerts that have a consensus; decisions are in alphabetical order.

    A score that is not defined (no alert of that decision) is 0.
    """
    judged = [alert for alert in alerts if alert.consensus]
    if not judged:
        return Figures()
    from sklearn.metrics import (
        accuracy_score,
        multilabel_confusion_matrix,
        precision_recall_fscore_support,
    )

    true = [alert.consensus for alert in judged]
    predicted = [alert.decision for alert in judged]
    decisions = sorted({*true, *predicted})
    pairs = Counter(zip(true, predicted, strict=True))
    counts = multilabel_confusion_matrix(true, predicted, labels=decisions)
    precision, recall, f1, _ = precision_recall_fscore_support(
        true, predicted, labels=decisions, zero_division=0
    )
    per_decision = {
        decision: MetricsPerDecision(
            precision=precision[i],
            recall=recall[i],
            f1_score=f1[i],
            true_positives=counts[i, 1, 1],
            true_negatives=counts[i, 0, 0],
            false_positives=counts[i, 0, 1],
            false_negatives=counts[i, 1, 0],
        )
        for i, decision in enumerate(decisions)
    }
    return Figures(
        overall_accuracy=accuracy_score(true, predicted),
        overall_f1_score=f1.mean(),
        overall_recall=recall.mean(),
        overall_precision=precision.mean(),
        confusion_matrix=[[pairs[row, column] for column in decisions] for row in decisions],
        metrics_per_decision=per_decision,
        kb_count_per_decision=_knowledge_base(judged),
        buckets_in_kb=len({alert.bucket for alert in judged}),
    )


def _knowledge_base(judged: Sequence[Alert]) -> dict[str, KnowledgeBaseCount]:
    by_consensus = defaultdict(list)
    for alert in judged:
        by_consensus[alert.consensus].append(alert.bucket)
    return {
        decision: KnowledgeBaseCount(alerts_count=len(buckets), buckets_count=len(set(buckets)))
        for decision, buckets in sorted(by_consensus.items())
    }
