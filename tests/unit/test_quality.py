"""The verdict follows the rules, and never judges unknown figures."""

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.platform.model_metrics import OVERALL
from arcanna_metrics.runs import quality
from arcanna_metrics.runs.quality import (
    DEFAULT_GATE,
    LARGEST_DIFFERENCES,
    LARGEST_REFERENCE,
    Reference,
    Rules,
    in_words,
    learned,
    measured,
    scores,
)
from arcanna_metrics.settings import parse_settings
from tests.support.outcome_events import SCHEMAS, validate
from tests.unit.strategies import any_json

assess = partial(quality.assess, reference=None, cut_short=False)

DEFAULT = Rules(**DEFAULT_GATE)
RULES = Rules({"overall_accuracy": 0.02, "*.recall": 0.05, "Escalate.recall": 0.01}, {}, 30)
COMPLETED = SCHEMAS["recompute-completed"]
ASSESSMENT = {
    "type": "object",
    "required": ["verdict", "why", "differences"],
    "properties": {name: COMPLETED["properties"]["detail"]["properties"][name] for name in ("verdict", "why")}
    | {"differences": {"type": "array", "items": COMPLETED["$defs"]["difference"]}},
    "additionalProperties": False,
}


def decision(right: int, missed: int, false_alarms: int = 0) -> dict[str, Any]:
    """The figures of one decision, as the API serves them."""
    return {
        "recall": right / (right + missed) if right + missed else 0.0,
        "precision": right / (right + false_alarms) if right + false_alarms else 0.0,
        "f1_score": 2 * right / (2 * right + missed + false_alarms) if right + missed + false_alarms else 0.0,
        "true_positives": right,
        "true_negatives": 1000,
        "false_positives": false_alarms,
        "false_negatives": missed,
    }


def shown(accuracy: float | None = 0.9, samples: int = 1000, **decisions: Any) -> dict[str, Any]:
    """A model's metrics. By default, the decisions are Drop and Escalate as in BEFORE."""
    return {
        "overall_accuracy": accuracy,
        "overall_f1_score": 0.9,
        "overall_recall": 0.9,
        "overall_precision": 0.9,
        "confusion_matrix": [[samples, 0], [0, 0]],
        "metrics_per_decision": decisions or {"Drop": decision(855, 45), "Escalate": decision(90, 10)},
    }


BEFORE = shown()


def judged(after: Mapping[str, Any], rules: Rules = RULES, before: Any = BEFORE) -> tuple[str, str]:
    found = assess(before, after, rules)
    return found["verdict"], found["why"]


@pytest.mark.parametrize(
    ("after", "rules", "why"),
    [
        (shown(Drop=decision(855, 45), Escalate=decision(60, 40)), RULES, "Escalate.recall 0.9 -> 0.6"),
        (
            shown(0.8, Drop=decision(855, 45), Escalate=decision(60, 40)),
            RULES,
            "Escalate.recall 0.9 -> 0.6; overall_accuracy 0.9 -> 0.8",
        ),
        (shown(0.8), RULES, "overall_accuracy 0.9 -> 0.8"),
        (BEFORE, Rules({}, {"Escalate.recall": 0.95}, 30), "Escalate.recall 0.9, floor 0.95"),
        (shown(Drop=decision(855, 45), Escalate=decision(95, 5)), RULES, "Escalate.recall 0.9 -> 0.95"),
        (
            shown(Drop=decision(855, 45), Escalate=decision(15, 4)),
            RULES,
            "Escalate.recall on 19 alerts of 30",
        ),
        (shown(Drop=decision(855, 45)), RULES, "no Escalate.recall"),
        (BEFORE, Rules({}, {"Close.recall": 0.5}, 30), "no Close.recall"),
        (BEFORE, Rules({}, {}, 30), "no rule applies"),
        (BEFORE, RULES, "all judged figures are within their limits"),
    ],
)
def test_verdict_comes_with_its_reasons(after: Mapping[str, Any], rules: Rules, why: str) -> None:
    assert assess(BEFORE, after, rules)["why"] == why


# --- The verdict -----------------------------------------------------------------------------------------


def test_same_figures_are_unchanged() -> None:
    found = assess(BEFORE, BEFORE, RULES)
    assert found["verdict"] == "unchanged"
    assert found["differences"] == []


def test_missed_escalations_regress_despite_better_overall_accuracy() -> None:
    after = shown(accuracy=0.95, Drop=decision(890, 10), Escalate=decision(60, 40))
    assert judged(after) == ("regressed", "Escalate.recall 0.9 -> 0.6")


def test_every_regression_is_named() -> None:
    verdict, why = judged(shown(accuracy=0.8, Drop=decision(700, 200), Escalate=decision(90, 10)))
    assert verdict == "regressed"
    assert why.split("; ") == [
        "overall_accuracy 0.9 -> 0.8",
        "Drop.recall 0.95 -> 0.777778",
    ]


def test_reasons_are_one_line_whatever_a_decision_is_called() -> None:
    name = "a\nb\u2028c"
    before, after = (shown(**{name: decision(100 - missed, missed)}) for missed in (0, 20))  # type: ignore[arg-type]
    _, why = judged(after, before=before)
    assert why.startswith("a b c.recall ")


def test_reason_shows_on_which_side_of_a_limit_a_figure_is() -> None:
    just_below = shown(Escalate={**decision(90, 10), "recall": 0.8996})
    assert judged(just_below, Rules({}, {"Escalate.recall": 0.9}, 30)) == (
        "regressed",
        "Escalate.recall 0.8996, floor 0.9",
    )


@pytest.mark.parametrize("recall", [42.0, 1.001, -1.0, "42"])
def test_figure_outside_0_to_1_is_not_judged_by_limits_from_0_to_1(recall: object) -> None:
    """A percentage would always be above its floor, and -1 may stand for an undefined score."""
    strange = shown(Escalate={**decision(90, 10), "recall": recall})
    for before in (BEFORE, strange):
        assert assess(before, strange, Rules({}, {"Escalate.recall": 0.9}, 30))["verdict"] == "not_judged"


def test_better_escalation_recall_is_an_improvement() -> None:
    after = shown(Drop=decision(855, 45), Escalate=decision(95, 5))
    assert judged(after) == ("improved", "Escalate.recall 0.9 -> 0.95")


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.88, "unchanged"), (0.92, "unchanged")])
def test_change_of_exactly_the_limit_is_unchanged(accuracy: float, verdict: str) -> None:
    assert judged(shown(accuracy))[0] == verdict


def test_rule_for_one_decision_overrides_the_rule_for_all() -> None:
    after = shown(Drop=decision(830, 70), Escalate=decision(88, 12))  # -0.028 and -0.02
    assert judged(after) == ("regressed", "Escalate.recall 0.9 -> 0.88")
    assert judged(after, Rules({"*.recall": 0.05}, {}, 30))[0] == "unchanged"


def test_figures_without_a_rule_are_reported_but_not_judged() -> None:
    found = assess(BEFORE, {**BEFORE, "overall_precision": 0.1}, RULES)
    assert found["verdict"] == "unchanged"
    (difference,) = found["differences"]
    assert difference == {
        "figure": "overall_precision",
        "before": 0.9,
        "after": 0.1,
        "change": -0.8,
        "samples": 1000,
    }


# --- Floors ----------------------------------------------------------------------------------------------


def test_figure_below_its_floor_is_a_regression_whatever_it_was_before() -> None:
    rules = Rules({}, {"Escalate.recall": 0.95}, 30)
    assert judged(BEFORE, rules) == ("regressed", "Escalate.recall 0.9, floor 0.95")
    assert judged(BEFORE, rules, None)[0] == "regressed"


def test_mean_that_floating_point_makes_a_little_smaller_than_its_floor_is_unchanged() -> None:
    mean = (0.85 + 0.95) / 2
    assert mean < 0.9
    figures = shown(overall_recall=mean)
    assert judged(figures, Rules({}, {"overall_recall": 0.9}, 1), figures)[0] == "unchanged"


def test_figure_at_its_floor_is_unchanged() -> None:
    assert judged(BEFORE, Rules({}, {"*.recall": 0.9}, 30))[0] == "unchanged"


def test_new_model_is_judged_by_floors_alone() -> None:
    floors = Rules({}, {"Escalate.recall": 0.85}, 30)
    assert judged(BEFORE, floors, None)[0] == "unchanged"
    assert judged(shown(Escalate=decision(80, 20)), floors, None)[0] == "regressed"
    assert judged(shown(Escalate=decision(8, 2)), floors, None)[0] == "not_judged"


def test_missing_figure_with_a_floor_is_not_judged() -> None:
    """A model that never decides Escalate may lack these figures, and is not good."""
    never = shown(Drop=decision(855, 145))
    rules = Rules({}, {"Escalate.recall": 0.9}, 30)
    assert judged(never, rules, never) == ("not_judged", "no Escalate.recall")


# --- The reference ---------------------------------------------------------------------------------------


def story(*runs: dict[str, Any], rules: Rules | Sequence[Rules] = RULES) -> list[str]:
    """The verdicts of successive runs by the same rules, or each by its own.

    The first metrics are those before all runs.
    """
    reference: Reference | None = None
    verdicts: list[str] = []
    by_run = itertools.repeat(rules) if isinstance(rules, Rules) else rules
    for (before, after), by in zip(itertools.pairwise(runs), by_run, strict=False):
        reference = learned(reference, measured(before, by), by)
        found = assess(before, after, by, reference=reference)
        reference = learned(reference, measured(after, by), by)
        reference = json.loads(json.dumps(reference))  # as it comes out of the ledger
        verdicts.append(found["verdict"])
    return verdicts


def escalating(recall: float) -> dict[str, Any]:
    return shown(Drop=decision(855, 45), Escalate=decision(round(recall * 1000), round((1 - recall) * 1000)))


def test_model_that_stays_bad_stays_regressed() -> None:
    good, bad = escalating(0.9), escalating(0.6)
    assert story(good, bad, bad, good) == ["regressed", "regressed", "unchanged"]
    assert judged(bad, before=bad)[0] == "unchanged"
    found = assess(bad, bad, RULES, reference={"Escalate.recall": (0.9, 1000)})
    assert found["why"] == "Escalate.recall 0.9 (reference) -> 0.6"


MANY: Any = {f"Decision {number}": decision(90, 10) for number in range(300)}


@pytest.mark.parametrize(("worse", "verdict"), [(0, "regressed"), (299, "not_judged"), (None, "not_judged")])
def test_model_too_large_for_the_workflow_never_passes_unseen(worse: int | None, verdict: str) -> None:
    rules = Rules({"*.recall": 0.05}, {}, 30)
    before, after = shown(**MANY), dict(MANY)
    if worse is not None:
        after[sorted(MANY, key="{}.recall".format)[worse]] = decision(10, 90)
    cut = {**before, "confusion_matrix": None, "metrics_per_decision": None}
    reference = learned(None, measured(before, rules), rules)
    found = assess(cut, shown(**after), rules, reference=reference, cut_short=True)
    assert found["verdict"] == verdict


@given(st.data())
def test_reference_made_before_the_run_changes_no_verdict(data: st.DataObject) -> None:
    figures = st.builds(decision, st.integers(0, 50), st.integers(0, 50))
    metrics = st.dictionaries(st.sampled_from(["Drop", "Escalate", "Other"]), figures, min_size=1)
    rules = Rules({"overall_accuracy": 0.02, "*.recall": 0.05}, {}, 30)
    drawn: list[Any] = [data.draw(metrics) for _ in range(2)]
    before, after = (shown(**decisions) for decisions in drawn)
    made = learned(None, measured(before, rules), rules)
    assert assess(before, after, rules, reference=made) == assess(before, after, rules)
    assert learned(made, measured(before, rules), rules) == made
    once = learned(made, measured(after, rules), rules)
    assert learned(once, measured(after, rules), rules) == once


def test_slow_decline_over_several_runs_is_a_regression() -> None:
    falling = [escalating(0.9 - step * 0.006) for step in range(5)]
    assert story(*falling) == ["unchanged", "regressed", "regressed", "regressed"]


def test_improved_figures_become_the_reference() -> None:
    assert story(escalating(0.8), escalating(0.9), escalating(0.85)) == ["improved", "regressed"]


def test_reference_is_the_same_in_any_json() -> None:
    """Lambda's runtime writes a named tuple as an object, unlike the standard library."""
    kept = learned(None, measured(BEFORE, RULES), RULES)
    assert {type(figure) for figure in kept.values()} == {tuple}


def test_improvement_does_not_raise_the_reference_while_another_figure_regresses() -> None:
    one, other = shown(0.9, Escalate=decision(900, 100)), shown(0.99, Escalate=decision(600, 400))
    assert story(one, other, one) == ["regressed", "unchanged"]


@pytest.mark.parametrize(
    ("other", "verdict"),
    [(Rules({"*.recall": 0.05}, {}, 30), "unchanged"), (RULES._replace(minimum_samples=5000), "not_judged")],
)
def test_regression_outlives_rules_that_do_not_judge_it(other: Rules, verdict: str) -> None:
    bad = shown(0.7)
    assert story(BEFORE, bad, bad, bad, rules=[RULES, other, RULES]) == ["regressed", verdict, "regressed"]


@pytest.mark.parametrize(
    "other", [Rules({"*.recall": 0.05}, {}, 30), Rules({}, {"overall_accuracy": 0.1}, 30)]
)
def test_reference_rises_under_rules_that_do_not_compare_it(other: Rules) -> None:
    good, best, bad = shown(0.7), shown(0.95), shown(0.72)
    assert story(good, good, best, bad, rules=[RULES, other, RULES])[-1] == "regressed"


def test_compared_figures_come_first_in_a_reference() -> None:
    decisions: dict[str, Any] = {f"Decision {number}": decision(90, 10, 10) for number in range(120)}
    by_all = Rules({"*.recall": 0.05}, {"*.precision": 0.1, "*.f1_score": 0.1}, 30)
    kept = learned(None, measured(shown(**decisions), by_all), by_all)
    assert {f"{name}.recall" for name in decisions} <= kept.keys()
    assert len(kept) < 3 * len(decisions)


def test_decision_that_has_only_a_floor_for_all_is_missed_for_good() -> None:
    gone = shown(Drop=decision(855, 45))
    by_floor = Rules({}, {"*.recall": 0.7}, 30)
    assert story(BEFORE, gone, gone, BEFORE, rules=by_floor) == ["not_judged", "not_judged", "unchanged"]


def test_figures_with_too_few_alerts_are_no_reference() -> None:
    thin, thick = shown(Escalate=decision(10, 0)), shown(Escalate=decision(80, 20))
    assert learned(None, measured(thin, RULES), RULES).keys() == {"overall_accuracy"}
    assert story(thin, thick, thick) == ["not_judged", "unchanged"]


def test_missing_or_thin_figure_is_noticed_under_a_rule_for_all_decisions() -> None:
    rules = Rules({"*.recall": 0.05}, {}, 30)
    gone, thin = shown(Drop=decision(855, 45)), shown(Drop=decision(855, 45), Escalate=decision(9, 1))

    assert story(BEFORE, gone, gone, BEFORE, rules=rules) == ["not_judged", "not_judged", "unchanged"]
    assert judged(thin, rules) == ("not_judged", "Escalate.recall on 10 alerts of 30")


def test_reference_has_only_compared_figures_and_a_bounded_size() -> None:
    decisions: dict[str, Any] = {f"Decision {number}": decision(90, 10) for number in range(1000)}
    decisions["Escalate"] = decision(90, 10)
    kept = learned(None, measured(shown(**decisions), RULES), RULES)

    assert "Escalate.recall" in kept  # which a rule names
    assert {name.rpartition(".")[2] for name in kept} == {"overall_accuracy", "recall"}
    assert "overall_accuracy" in kept
    assert 0.95 * LARGEST_REFERENCE < len(json.dumps(kept)) <= LARGEST_REFERENCE


def test_figures_with_too_few_alerts_are_not_kept_as_reference() -> None:
    thin: dict[str, Any] = {f"thin-{number:03}": decision(1, 0) for number in range(450)}
    kept = learned(None, measured(shown(**thin, zz=decision(900, 100)), RULES), RULES)
    assert kept.keys() == {"overall_accuracy", "zz.recall"}


# --- What cannot be judged -------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, {}, dict.fromkeys(BEFORE)])
def test_first_recompute_is_not_judged(before: Any) -> None:
    assert judged(BEFORE, before=before) == ("not_judged", "no earlier metrics")


def test_named_figure_based_on_too_few_alerts_is_not_judged() -> None:
    after = shown(Drop=decision(890, 10), Escalate=decision(1, 28))
    assert judged(after) == ("not_judged", "Escalate.recall on 29 alerts of 30")
    assert judged(BEFORE, before=after)[1] == "Escalate.recall on 29 alerts of 30 before"


def test_unnamed_decision_with_too_few_alerts_is_named_and_not_judged() -> None:
    rare = shown(accuracy=0.99, Drop=decision(855, 45), Escalate=decision(90, 10), Investigate=decision(0, 5))
    verdict, why = judged(rare, before=rare | {"overall_accuracy": 0.9})

    assert verdict == "improved"
    assert why.split("; ") == [
        "overall_accuracy 0.9 -> 0.99",
        "Investigate.recall on 5 alerts of 30",
    ]


def test_model_without_a_named_decision_anymore_is_not_judged() -> None:
    after = shown(Drop=decision(855, 45))
    assert judged(after) == ("not_judged", "no Escalate.recall")
    gone = next(d for d in assess(BEFORE, after, RULES)["differences"] if d["figure"] == "Escalate.recall")
    assert (gone["before"], gone["after"], gone["change"]) == (0.9, None, None)


def test_new_decision_is_named_and_not_judged() -> None:
    after = shown(Drop=decision(855, 45), Escalate=decision(90, 10), Investigate=decision(50, 50))
    verdict, why = judged(after)

    assert verdict == "unchanged"
    assert "no Investigate.recall before" in why


def test_named_decision_that_the_model_never_had_is_ignored() -> None:
    phishing = shown(Spam=decision(900, 100))
    verdict, why = judged(phishing, before=phishing)

    assert verdict == "unchanged"
    assert "no Escalate.recall" in why


def test_empty_gate_judges_nothing() -> None:
    assert judged(shown(0.1), Rules({}, {}, 1)) == ("not_judged", "no rule applies")


def test_samples_of_a_figure_are_the_alerts_in_its_denominator() -> None:
    after = shown(Escalate=decision(30, 10, 5))
    samples = {d["figure"]: d["samples"] for d in assess(None, after, RULES)["differences"]}
    assert samples == {
        **dict.fromkeys(OVERALL, 1000),
        "Escalate.recall": 40,
        "Escalate.precision": 35,
        "Escalate.f1_score": 45,
    }


def with_numbers_as(kind: type, value: Any) -> Any:
    """The metrics with all numbers as floats, as the vendor's own client declares them, or as texts."""
    if isinstance(value, dict):
        return {name: with_numbers_as(kind, each) for name, each in value.items()}
    if isinstance(value, list):
        return [with_numbers_as(kind, each) for each in value]
    return kind(value)


@pytest.mark.parametrize("kind", [float, str])
def test_numbers_are_read_as_integers_floats_or_decimal_texts(kind: type) -> None:
    after = shown(Drop=decision(855, 45), Escalate=decision(50, 50))
    found = assess(BEFORE, after, RULES)

    assert found["verdict"] == "regressed"
    assert assess(with_numbers_as(kind, BEFORE), with_numbers_as(kind, after), RULES) == found
    assert assess(BEFORE, with_numbers_as(kind, after), RULES) == found


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("0.5", 0.5),
        ("1", 1.0),
        ("5e-05", 0.00005),
        ("-0.25", None),
        ("", None),
        ("n/a", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        (" 0.5 ", None),
        ("0_5", None),
        (".5", None),
        ("0,5", None),
        ("50%", None),
        ("\u0663", None),
    ],
)
def test_text_is_a_score_only_if_it_is_a_finite_decimal(text: str, score: float | None) -> None:
    assert scores({"overall_accuracy": text})["overall_accuracy"] == score


@pytest.mark.parametrize(
    "odd", [95.5, -95, -95.0, True, "-95", "95.5", "many", None, float("nan"), float("inf"), 1e300, 10**30]
)
def test_value_that_is_not_a_count_adds_no_samples(odd: Any) -> None:
    after = shown(Drop=decision(855, 45), Escalate=decision(95, 5) | {"true_positives": odd})
    assert judged(after)[1] == "Escalate.recall on 5 alerts of 30"


def test_null_score_is_not_judged() -> None:
    after = shown(accuracy=None, Drop=decision(855, 45), Escalate=decision(90, 10))
    assert judged(after) == ("not_judged", "no overall_accuracy")
    assert judged(after, Rules({"*.recall": 0.05}, {}, 30))[0] == "unchanged"


def test_reasons_and_differences_are_limited_with_named_figures_first() -> None:
    many: dict[str, Any] = {f"Decision {number}": decision(900, 100) for number in range(500)}
    fewer: dict[str, Any] = {name: decision(500, 500) for name in many}
    before, after = shown(**many, Escalate=decision(90, 10)), shown(**fewer, Escalate=decision(80, 20))
    found = assess(before, after, RULES)

    assert found["verdict"] == "regressed"
    assert len(found["why"]) == 1000
    assert found["why"].endswith("...")
    assert found["differences"][0]["figure"] == "Escalate.recall"
    assert 0.9 * LARGEST_DIFFERENCES < len(json.dumps(found["differences"])) < 1.1 * LARGEST_DIFFERENCES


figures = st.none() | st.floats() | st.integers() | st.booleans() | st.text(max_size=3)
odd_decisions = st.dictionaries(
    st.text(max_size=5) | st.sampled_from(["Escalate", "Drop"]),
    figures | st.fixed_dictionaries({}, optional=dict.fromkeys(decision(1, 1), figures)),
    max_size=4,
)
odd_metrics = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(OVERALL, figures),
        "confusion_matrix": any_json | st.lists(st.lists(st.integers())),
        "metrics_per_decision": odd_decisions | any_json,
    },
)


@given(before=st.none() | odd_metrics, after=odd_metrics, rules=st.sampled_from([RULES, DEFAULT]))
def test_verdict_for_any_metrics_matches_the_events_schema(
    before: dict[str, Any] | None, after: dict[str, Any], rules: Rules
) -> None:
    found = assess(before, after, rules)
    validate(json.loads(json.dumps(found, allow_nan=False)), ASSESSMENT)
    kept = learned(learned(None, measured(before or {}, rules), rules), measured(after, rules), rules)
    again = assess(before, after, rules, reference=json.loads(json.dumps(kept, allow_nan=False)))

    assert again["verdict"] == found["verdict"] or found["verdict"] in ("improved", "not_judged")


@given(
    st.integers(30, 500),
    st.integers(0, 500),
    st.integers(30, 500),
    st.integers(0, 500),
)
def test_swapping_before_and_after_swaps_improved_and_regressed(
    right: int, missed: int, right_now: int, missed_now: int
) -> None:
    rules = Rules({"*.recall": 0.05}, {}, 30)
    one, other = shown(Escalate=decision(right, missed)), shown(Escalate=decision(right_now, missed_now))
    opposite = {"improved": "regressed", "regressed": "improved", "unchanged": "unchanged"}

    assert judged(one, rules, other)[0] == opposite[judged(other, rules, one)[0]]


# --- In words --------------------------------------------------------------------------------------------


def test_scores_are_written_in_one_line() -> None:
    assert in_words(BEFORE) == "accuracy 0.900, F1 0.900, recall 0.900, precision 0.900"
    assert in_words(None, shown(0.95)).startswith("accuracy none -> 0.950, F1 none -> 0.900")
    assert scores({"overall_accuracy": "high"}) == dict.fromkeys(OVERALL)


# --- The rules -------------------------------------------------------------------------------------------


def rules_of(gate: object) -> Rules:
    """The rules of settings with this quality gate. Raises ConfigurationError."""
    return Rules(**parse_settings(json.dumps({"quality_gate": gate})).shared.gate)


def test_rules_are_read_from_a_document() -> None:
    gate = {"largest_drop": {"*.recall": 0, "overall_f1_score": 1}, "floor": {"A.b.recall": 0.5}}
    assert rules_of(gate) == Rules({"*.recall": 0, "overall_f1_score": 1}, {"A.b.recall": 0.5}, 30)


def test_whole_number_in_rules_may_be_a_float() -> None:
    rules = rules_of({"minimum_samples": 20.0})
    assert (rules.minimum_samples, type(rules.minimum_samples)) == (20, int)


@pytest.mark.parametrize("document", [None, [], "{}", 7])
def test_rules_are_read_from_any_document_or_refused(document: object) -> None:
    with pytest.raises(ConfigurationError, match="quality_gate must be an object"):
        rules_of(document)


def test_default_gate_watches_escalations() -> None:
    assert DEFAULT.named == ["Escalate.recall", "overall_accuracy"]
    assert judged(shown(Drop=decision(855, 45), Escalate=decision(87, 13)), DEFAULT)[0] == "regressed"


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"largest_drops": {}}, "largest_drops is not allowed here"),
        ({"floor": []}, "floor must be an object"),
        ({"floor": {"Escalate": 0.9}}, "floor.Escalate is not a figure"),
        ({"floor": {".recall": 0.9}}, r"floor\.\.recall is not a figure"),
        ({"floor": {"overall_accuracy.recall.x": 0.9}}, "is not a figure"),
        ({"floor": {"*.recall": 90}}, r"floor\.\*\.recall must be a number from 0 to 1, not 90"),
        ({"largest_drop": {"*.recall": -0.1}}, "from 0 to 1, not -0.1"),
        ({"largest_drop": {"*.recall": True}}, "from 0 to 1, not true"),
        ({"minimum_samples": 0}, "whole number from 1 to 1000000000000, not 0"),
        ({"minimum_samples": 1.5}, "whole number from 1 to 1000000000000, not 1.5"),
        ({"minimum_samples": True}, "whole number from 1 to 1000000000000, not true"),
        ({"minimum_samples": 1e300}, "whole number from 1 to 1000000000000, not 1e"),
    ],
)
def test_invalid_rules_are_refused_with_what_they_should_be(gate: object, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        rules_of(gate)


# --- References ------------------------------------------------------------------------------------------


def test_reference_does_not_follow_a_rise_within_the_limit() -> None:
    kept = learned({"overall_accuracy": (0.9, 100)}, {"overall_accuracy": (0.91, 100)}, RULES)
    assert kept == {"overall_accuracy": (0.9, 100)}


def test_figure_whose_rule_was_removed_is_kept_at_its_best() -> None:
    kept = learned({"Drop.f1_score": (0.8, 100)}, {"Drop.f1_score": (0.9, 100)}, RULES)
    assert kept == {"Drop.f1_score": (0.9, 100)}


def test_figure_on_too_few_alerts_is_not_learned() -> None:
    assert learned({}, {"overall_accuracy": (0.9, 29)}, RULES) == {}


def test_reference_on_fewer_alerts_than_are_needed_now_does_not_count() -> None:
    thin: Reference = {"overall_accuracy": (0.5, 10)}
    assert assess(shown(0.9), shown(0.8), RULES, reference=thin)["verdict"] == "regressed"


THIN = decision(8, 2)
"""Figures on ten alerts, of thirty that RULES need."""


@pytest.mark.parametrize(("before", "after"), [(THIN, THIN), (THIN, None), (None, THIN)])
def test_model_is_not_judged_while_a_figure_that_a_rule_names_has_too_few_alerts(
    before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    drop = decision(855, 45)
    then, now = (
        shown(Drop=drop, Escalate=figures) if figures else shown(Drop=drop) for figures in (before, after)
    )
    assert assess(then, now, RULES)["verdict"] == "not_judged"
