"""Whether a model is better or worse than before: the verdict that people and deployment gates act on.

Overall accuracy hides missed escalations, because most alerts are dropped anyway. So the rules of the quality
gate look at the figures of each decision, and only at those that are based on enough alerts.

A model is compared with its reference: each figure's value before the model's first run here, or when it last
improved. A comparison with the previous run would be wrong: a model that is bad twice would count as
unchanged, and a model that loses a little each time would never count as worse.

A figure is named as the API names it: `overall_accuracy`, `overall_f1_score`, `overall_recall`,
`overall_precision`, or of one decision `Escalate.recall`, `Escalate.precision`, `Escalate.f1_score`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, TypeGuard

from arcanna_metrics.documents import Node
from arcanna_metrics.platform.model_metrics import OVERALL
from arcanna_metrics.runs.limits import as_many_as_fit, cut

_SHARE_OF = {
    "recall": ("true_positives", "false_negatives"),
    "precision": ("true_positives", "false_positives"),
    "f1_score": ("true_positives", "false_negatives", "false_positives"),
}
"""The counts that add up to the alerts that a decision's figure is based on."""

_LARGEST_SCORE = 1 + 1e-9
"""Scores are from 0 to 1, as the limits of the rules are, and may be rounded. By those limits, a percentage
would always be above its floor."""

_LARGEST_COUNT = 10**12
"""Alerts. A larger number is not a count, and sums of larger numbers would not fit into 64 bits."""

_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
"""A number that a platform shows as a text. float() would also read "nan", "1_000" and blanks."""

_RULE_NAME = re.compile(rf"{'|'.join(OVERALL)}|.+\.(?:{'|'.join(_SHARE_OF)})", re.DOTALL)

_OF_DECISIONS = f"<Decision>.<{'|'.join(_SHARE_OF)}>, where * stands for every decision"

Metrics = Mapping[str, Any]
"""What the platform shows about a model, as the API serves it."""

Reference = dict[str, tuple[float, float]]
"""Figures by name, each with the number of alerts that it is based on: as JSON, lists of two numbers."""

LARGEST_REFERENCE = 8 * 1024
"""Bytes of JSON: about two hundred figures, because the workflow's data is limited. Figures that rules name
in full come first. The others are compared with the run before."""

LARGEST_DIFFERENCES = 10 * 1024
"""Bytes of JSON: about a hundred figures. Figures that rules name in full come first."""

_LONGEST_WHY = 1000

DEFAULT_GATE: dict[str, Any] = {
    "largest_drop": {"overall_accuracy": 0.02, "*.recall": 0.05, "Escalate.recall": 0.02},
    "floor": {},
    "minimum_samples": 30,
}
"""The rules if the settings have none."""

Verdict = Literal["improved", "unchanged", "regressed", "not_judged"]


class Difference(TypedDict):
    """A figure that changed. A value is null if the metrics do not have the figure.

    `samples` is the number of alerts that the figure is based on: the smaller one of before and after.
    """

    figure: str
    before: float | None
    after: float | None
    change: float | None
    samples: int


class Assessment(TypedDict):
    """The verdict, the reasons for it in words, the most important first, and the figures that changed."""

    verdict: Verdict
    why: str
    differences: list[Difference]


class Rules(NamedTuple):
    """The quality gate. Figures by name; `*.recall` stands for every decision that has no rule of its own.

    `largest_drop` is how far a figure may fall, from 0 to 1. A figure has improved if it rose by more than
    that. `floor` is the lowest value that a figure may have. A figure that is based on fewer than
    `minimum_samples` alerts is not judged.
    """

    largest_drop: dict[str, float]
    floor: dict[str, float]
    minimum_samples: int

    @property
    def named(self) -> list[str]:
        """The figures that rules name in full. The model cannot be judged without them."""
        return sorted(name for name in self.largest_drop | self.floor if not name.startswith("*."))


class _Figure(NamedTuple):
    value: float
    samples: int


class _Judged(NamedTuple):
    """What the rules say about one figure. The verdict is None if the figure cannot be judged.

    `needed`: the model cannot be judged without it.
    """

    verdict: Literal["improved", "unchanged", "regressed"] | None
    why: str = ""
    needed: bool = False


def read_gate(node: Node) -> dict[str, Any]:
    """The fields of a quality gate in a document. Notes problems in the document."""
    return {
        name: field.whole_number(1, _LARGEST_COUNT) if name == "minimum_samples" else _limits(field)
        for name, field in node.fields(DEFAULT_GATE).items()
    }


def _limits(node: Node) -> dict[str, float | None]:
    limits = node.members()
    for name, limit in limits.items():
        if not _RULE_NAME.fullmatch(name):
            limit.wrong(f"is not a figure; figures are {', '.join(OVERALL)}, and {_OF_DECISIONS}")
    return {name: limit.number(0, 1) for name, limit in limits.items()}


def assess(
    before: Metrics | None, after: Metrics, rules: Rules, reference: Reference | None, *, cut_short: bool
) -> Assessment:
    """Judges the metrics by the rules.

    `cut_short` says that the metrics before were too large for the workflow's data. Then the reference may
    show that the model regressed, but nothing shows that it did not.

    Figures that `reference` (see `learned`) does not have are compared with those before. The
    differences are always those between before and after.

    One figure that regressed makes the model regressed. Otherwise the model is not judged if there is nothing
    to compare with, if a figure disappeared or is now based on too few alerts, if a figure that a rule names
    in full cannot be judged, or if no figure can. A figure that the model never had matters only if it has a
    floor of its own. Otherwise one figure that improved makes the model improved.
    """
    old, new = _figures(_object(before)), _figures(after)
    # New figures are compared with the reference, or with those before if it has too few alerts.
    standard = old | {name: f for name, f in _referred(reference).items() if _solid(f, rules)}
    names = _ranked({*old, *new, *standard, *rules.named}, rules)
    findings = [f for n in names if (f := _find(n, old.get(n), standard.get(n), new.get(n), rules))]
    verdict, why = _verdict(findings, compared=bool(standard) or not rules.largest_drop, cut_short=cut_short)
    differences = [d for n in names if (d := _difference(n, old.get(n), new.get(n)))]
    return {
        "verdict": verdict,
        "why": cut(" ".join("; ".join(why).splitlines()), _LONGEST_WHY),  # decisions can have any names
        "differences": as_many_as_fit(differences, LARGEST_DIFFERENCES),
    }


def measured(metrics: Metrics, rules: Rules) -> Reference:
    """The figures of the metrics that are based on enough alerts."""
    return {name: (f.value, f.samples) for name, f in _figures(metrics).items() if _solid(f, rules)}


def learned(reference: Reference | None, seen: Reference, rules: Rules) -> Reference:
    """The model's reference after its metrics had the `seen` figures.

    It has the figures that rules name, or have named before. A figure's reference moves only when the figure
    improves, and not at all if the model is worse than its reference. So the gate detects a model that stays
    bad, and a model that loses a little each time. Figures that the rules do not compare now are kept at
    their best for later rules. To learn the same figures twice changes nothing more.
    """
    kept, new = _referred(reference), _referred(seen)
    found = {name: _find(name, None, kept.get(name), figure, rules) for name, figure in new.items()}
    worse = any(judged and judged.verdict == "regressed" for judged in found.values())
    for name, figure in new.items():
        old, drop = kept.get(name), _rule_for(name, rules.largest_drop) or 0.0
        if not _solid(figure, rules) or (old is None and found[name] is None):  # None: no rule for it
            continue
        if not _solid(old, rules) or (_change(old, figure) > drop and not worse):
            kept[name] = figure
    return _fitting(kept, rules)


def _fitting(figures: Mapping[str, _Figure], rules: Rules) -> Reference:
    """As many of the figures as a reference may have, those that rules name first."""
    # Plain pairs: Lambda's runtime would write named tuples as JSON objects.
    pairs = [(name, (figures[name].value, figures[name].samples)) for name in _ranked(figures, rules)]
    pairs.sort(key=lambda one: one[0] not in rules.named and _rule_for(one[0], rules.largest_drop) is None)
    return dict(as_many_as_fit(pairs, LARGEST_REFERENCE))


def _ranked(names: Iterable[str], rules: Rules) -> list[str]:
    """Figures that rules name first, and those of decisions before the overall ones, which hide too much."""
    return sorted(names, key=lambda name: (name not in rules.named, name in OVERALL, name))


def _referred(reference: Reference | None) -> dict[str, _Figure]:
    return {name: _Figure(value, int(samples)) for name, (value, samples) in (reference or {}).items()}


def _solid(figure: _Figure | None, rules: Rules) -> TypeGuard[_Figure]:
    """Whether the figure exists and is based on enough alerts."""
    return figure is not None and figure.samples >= rules.minimum_samples


def _verdict(findings: Sequence[_Judged], *, compared: bool, cut_short: bool) -> tuple[Verdict, list[str]]:
    """The verdict on the model, and the reasons for it."""

    def why(verdict: str | None) -> list[str]:
        return [found.why for found in findings if found.verdict == verdict]

    if regressed := why("regressed"):
        return "regressed", regressed
    if not compared:
        return "not_judged", ["no earlier metrics"]
    if cut_short:
        return "not_judged", ["the earlier metrics are too large to compare with all of them"]
    if missing := [found.why for found in findings if found.needed]:
        return "not_judged", missing
    if improved := why("improved"):
        return "improved", improved + why(None)
    if why("unchanged"):
        return "unchanged", ["all judged figures are within their limits", *why(None)]
    return "not_judged", why(None) or ["no rule applies"]


def _find(
    name: str, before: _Figure | None, old: _Figure | None, new: _Figure | None, rules: Rules
) -> _Judged | None:
    """What the rules say about a figure, compared with the `old` one; None if there is no rule for it."""
    drop, floor = _rule_for(name, rules.largest_drop), _rule_for(name, rules.floor)
    if drop is None and floor is None:
        return None
    if not _solid(new, rules):
        known = name in rules.named and (old is not None or new is not None)
        needed = known or _solid(old, rules) or name in rules.floor
        return _Judged(None, _shortage(name, new, rules), needed)
    if floor is not None and round(new.value - floor, 9) < 0:  # scores are means, such as 0.8999999999999999
        return _Judged("regressed", f"{name} {new.value:g}, floor {floor:g}")
    if drop is None:
        return _Judged("unchanged")
    if not _solid(old, rules):
        return _Judged(None, f"{_shortage(name, old, rules)} before", name in rules.named)
    reference = "" if before and before.value == old.value else " (reference)"
    change, why = _change(old, new), f"{name} {old.value:g}{reference} -> {new.value:g}"
    if abs(change) <= drop:
        return _Judged("unchanged")
    return _Judged("improved" if change > 0 else "regressed", why)


def _rule_for(name: str, limits: Mapping[str, float]) -> float | None:
    return limits.get(name, limits.get(f"*.{name.rpartition('.')[2]}"))


def _shortage(name: str, figure: _Figure | None, rules: Rules) -> str:
    return f"{name} on {figure.samples} alerts of {rules.minimum_samples}" if figure else f"no {name}"


def _difference(name: str, old: _Figure | None, new: _Figure | None) -> Difference | None:
    change = _change(old, new) if old and new else None
    if change == 0 or not (old or new):
        return None
    return {
        "figure": name,
        "before": old.value if old else None,
        "after": new.value if new else None,
        "change": change,
        "samples": min(figure.samples for figure in (old, new) if figure),
    }


def _change(old: _Figure, new: _Figure) -> float:
    """Rounded, because in floating point 0.95 - 0.9 is a little less than 0.05."""
    return round(new.value - old.value, 9)


def _figures(metrics: Metrics) -> dict[str, _Figure]:
    """The figures that are numbers from 0 to 1."""
    matrix = metrics.get("confusion_matrix")
    rows = [row for row in matrix if isinstance(row, list)] if isinstance(matrix, list) else []
    total = sum(as_count(cell) or 0 for row in rows for cell in row)
    figures = {
        name: _Figure(value, total) for name in OVERALL if (value := as_number(metrics.get(name))) is not None
    }
    for decision, scores in _object(metrics.get("metrics_per_decision")).items():
        shown = _object(scores)
        for score, counts in _SHARE_OF.items():
            if (value := as_number(shown.get(score))) is not None:
                samples = sum(as_count(shown.get(count)) or 0 for count in counts)
                figures[f"{decision}.{score}"] = _Figure(value, samples)
    return figures


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_count(value: object) -> int | None:
    """A number of alerts; None if the value is not one. 95 and 95.0 are the same number."""
    number = as_number(value, _LARGEST_COUNT)
    return int(number) if number is not None and number.is_integer() else None


def as_number(value: object, largest: float = _LARGEST_SCORE) -> float | None:
    """A number or its decimal text, from 0 to `largest`, by default a score; None for all else."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        return None
    return float(value)


def current(reference: Reference, metrics: Metrics | None) -> Reference:
    """The reference's figures as the metrics have them, without those that they lack."""
    found = _figures(_object(metrics))
    return {name: (found[name].value, found[name].samples) for name in reference if name in found}


def scores(metrics: Metrics | None) -> dict[str, float | None]:
    """The overall scores by the API's names; None if the value is not a number from 0 to 1."""
    return {name: as_number(_object(metrics).get(name)) for name in OVERALL}


def in_words(*shown: Metrics | None) -> str:
    """The overall scores in one line, of one or several sets of metrics in order."""
    of = [scores(metrics) for metrics in shown]

    def story(name: str) -> str:
        return " -> ".join("none" if (s := each[name]) is None else f"{s:.3f}" for each in of)

    return ", ".join(f"{word} {story(name)}" for name, word in OVERALL.items())
