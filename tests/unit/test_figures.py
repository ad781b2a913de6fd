"""The reference server's arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.arcanna.alerts import Alert
from tests.support.arcanna.figures import compute_figures
from tests.support.arcanna.schemas import Figures, MetricsPerDecision

# true decision, predicted decision
JUDGED = [
    *[("Drop", "Drop")] * 6,
    *[("Drop", "Escalate")] * 2,
    *[("Escalate", "Escalate")] * 1,
    *[("Escalate", "Drop")] * 3,
]


def alerts(pairs: list[tuple[str, str]]) -> list[Alert]:
    return [Alert(str(n), predicted, true, bucket=str(n % 5)) for n, (true, predicted) in enumerate(pairs)]


def test_metrics_of_twelve_alerts_equal_those_calculated_by_hand() -> None:
    figures = compute_figures(alerts(JUDGED))
    assert figures.confusion_matrix == [[6, 2], [3, 1]]
    assert figures.overall_accuracy == pytest.approx(7 / 12)
    drop = MetricsPerDecision(
        precision=6 / 9,
        recall=6 / 8,
        f1_score=12 / 17,
        true_positives=6,
        true_negatives=1,
        false_positives=3,
        false_negatives=2,
    )
    escalate = MetricsPerDecision(
        precision=1 / 3,
        recall=1 / 4,
        f1_score=2 / 7,
        true_positives=1,
        true_negatives=6,
        false_positives=2,
        false_negatives=3,
    )
    assert figures.metrics_per_decision == {"Drop": drop, "Escalate": escalate}
    assert figures.overall_precision == pytest.approx((6 / 9 + 1 / 3) / 2)
    assert figures.overall_recall == pytest.approx((6 / 8 + 1 / 4) / 2)
    assert figures.overall_f1_score == pytest.approx((12 / 17 + 2 / 7) / 2)
    assert figures.buckets_in_kb == 5


def test_unused_or_always_wrong_decision_has_scores_of_zero() -> None:
    scores = compute_figures(alerts([("Drop", "Escalate")])).metrics_per_decision
    assert [(s.precision, s.recall, s.f1_score) for s in scores.values()] == [(0, 0, 0)] * 2


def test_alerts_without_consensus_do_not_count() -> None:
    undecided = Alert("undecided", "Drop", "", "a bucket of its own")
    assert compute_figures([*alerts(JUDGED), undecided]) == compute_figures(alerts(JUDGED))
    assert compute_figures([undecided]) == Figures()


@given(st.lists(st.tuples(*[st.sampled_from(["Drop", "Escalate", "Investigate"])] * 2), min_size=1))
def test_every_alert_counts_once(pairs: list[tuple[str, str]]) -> None:
    figures = compute_figures(alerts(pairs))
    assert sum(map(sum, figures.confusion_matrix or [])) == len(pairs)
    for s in figures.metrics_per_decision.values():
        counts = (s.true_positives, s.true_negatives, s.false_positives, s.false_negatives)
        assert sum(counts) == len(pairs)
        assert 0 <= min(s.precision, s.recall) <= s.f1_score <= max(s.precision, s.recall) <= 1
