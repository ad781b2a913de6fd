"""Computes the figures that the API serves from labelled alerts."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import fmean

from tests.support.arcanna.alerts import Alert
from tests.support.arcanna.schemas import Figures, KnowledgeBaseCount, MetricsPerDecision


def compute_figures(alerts: Sequence[Alert]) -> Figures:
    """The figures over the alerts that have a consensus. Decisions are in alphabetical order.

    A score that is not defined (no alert of that decision) is 0.
    """
    judged = [alert for alert in alerts if alert.consensus]
    if not judged:
        return Figures()
    pairs = Counter((alert.consensus, alert.decision) for alert in judged)
    decisions = sorted({decision for pair in pairs for decision in pair})
    per_decision = {decision: _scores(pairs, decision) for decision in decisions}
    scores = per_decision.values()
    return Figures(
        overall_accuracy=sum(score.true_positives for score in scores) / len(judged),
        overall_f1_score=fmean(score.f1_score for score in scores),
        overall_recall=fmean(score.recall for score in scores),
        overall_precision=fmean(score.precision for score in scores),
        confusion_matrix=[[pairs[row, column] for column in decisions] for row in decisions],
        metrics_per_decision=per_decision,
        kb_count_per_decision=_knowledge_base(judged),
        buckets_in_kb=len({alert.bucket for alert in judged}),
    )


def _scores(pairs: Counter[tuple[str, str]], decision: str) -> MetricsPerDecision:
    """One decision against all others. `pairs` counts pairs of true and predicted decision."""
    right = pairs[decision, decision]
    missed = sum(n for (true, _), n in pairs.items() if true == decision) - right
    wrong = sum(n for (_, predicted), n in pairs.items() if predicted == decision) - right
    return MetricsPerDecision(
        precision=right / ((right + wrong) or 1),
        recall=right / ((right + missed) or 1),
        f1_score=2 * right / (2 * right + missed + wrong),
        true_positives=right,
        true_negatives=pairs.total() - right - missed - wrong,
        false_positives=wrong,
        false_negatives=missed,
    )


def _knowledge_base(judged: Sequence[Alert]) -> dict[str, KnowledgeBaseCount]:
    by_consensus = defaultdict(list)
    for alert in judged:
        by_consensus[alert.consensus].append(alert.bucket)
    return {
        decision: KnowledgeBaseCount(alerts_count=len(buckets), buckets_count=len(set(buckets)))
        for decision, buckets in sorted(by_consensus.items())
    }
