"""Whether a model is better or worse than before: the verdict that people and deployment gates act on.

Overall accuracy hides missed escalations, because most alerts are to be dropped anyway. So the rules of the
quality gate look at the figures of each decision, and at each only where it stands on enough alerts.

A model is compared with its reference: each figure as it was when it was first judged, or when it last
improved. Compared with the run before, a model would be found unchanged as soon as it has been bad twice, and
one that loses a little each time would never be found worse.

A figure is named as the API names it: `overall_accuracy`, `overall_f1_score`, `overall_recall`,
`overall_precision`, or of one decision `Escalate.recall`, `Escalate.precision`, `Escalate.f1_score`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

from arcanna_metrics.errors import ConfigurationError

OVERALL = {
    "overall_accuracy": "accuracy",
    "overall_f1_score": "F1",
    "overall_recall": "recall",
    "overall_precision": "precision",
}
"""The overall scores by the API's names, with their names for people."""

_SHARE_OF = {
    "recall": ("true_positives", "false_negatives"),
    "precision": ("true_positives", "false_positives"),
    "f1_score": ("true_positives", "false_negatives", "false_positives"),
}
"""The counts that together are the alerts a decision's figure stands on."""

_LARGEST_SCORE = 1e9
"""Scores are from 0 to 1, or percentages."""

_RULE_NAME = re.compile(rf"{'|'.join(OVERALL)}|.+\.(?:{'|'.join(_SHARE_OF)})", re.DOTALL)

Reference = dict[str, tuple[float, int]]
"""Figures by name, each with the number of alerts that it stands on: as JSON, lists of two numbers."""

LARGEST_REFERENCE = 8 * 1024
"""Bytes of JSON, for the sake of the workflow's data: some two hundred figures, those first that rules name
outright. Any beyond are compared with the run before."""

Verdict = Literal["improved", "unchanged", "regressed", "not_judged"]


class Difference(TypedDict):
    """A figure that is not what it was. Null where there was or is none.

    `samples` is the number of alerts that it stands on: of before and after, the fewer.
    """

    figure: str
    before: float | None
    after: float | None
    change: float | None
    samples: int


class Assessment(TypedDict):
    """The verdict, the reasons in a sentence or more, and all figures that changed."""

    verdict: Verdict
    why: str
    differences: list[Difference]


NOT_FINISHED: Assessment = {
    "verdict": "not_judged",
    "why": "There are no new metrics",
    "differences": [],
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The quality gate. Figures by name; `*.recall` stands for every decision that has no rule of its own.

    `largest_drop` is how far a figure may fall, from 0 to 1; it has improved if it rose by more than that.
    `floor` is what a figure must not be below, whatever it was before. A figure that stands on fewer than
    `minimum_samples` alerts is not judged.
    """

    largest_drop: dict[str, float]
    floor: dict[str, float]
    minimum_samples: int

    @property
    def named(self) -> list[str]:
        """The figures that are named outright: without one of them the model cannot be judged."""
        return sorted(name for name in self.largest_drop | self.floor if not name.startswith("*."))


class _Figure(NamedTuple):
    value: float
    samples: int


_NO_FIGURE = _Figure(0.0, 0)


class _Finding(NamedTuple):
    """What the rules say of one figure. The verdict is None where it cannot be judged.

    `needed` tells that the model cannot be judged without it.
    """

    verdict: Literal["improved", "unchanged", "regressed"] | None
    why: str
    needed: bool = False


def parse(text: str) -> Rules:
    """The rules out of their JSON document. Raises ConfigurationError."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the quality gate is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError("the quality gate must be a JSON object")
    if unknown := document.keys() - {"largest_drop", "floor", "minimum_samples"}:
        raise ConfigurationError(f"the quality gate knows no {', '.join(sorted(unknown))}")
    minimum = document.get("minimum_samples", 1)
    if isinstance(minimum, bool) or not isinstance(minimum, int) or minimum < 1:
        raise ConfigurationError(
            f"minimum_samples of the quality gate must be a whole number from 1 on, not {minimum!r:.100}"
        )
    return Rules(_limits(document, "largest_drop"), _limits(document, "floor"), minimum)


def _limits(document: Mapping[str, Any], name: str) -> dict[str, float]:
    limits = document.get(name, {})
    if not isinstance(limits, dict):
        raise ConfigurationError(f"{name} of the quality gate must be a JSON object")
    for figure, limit in limits.items():
        if not _RULE_NAME.fullmatch(figure):
            raise ConfigurationError(
                f"{name} of the quality gate names {figure!r:.100}: a figure is one of {', '.join(OVERALL)},"
                f" or <Decision>.<{'|'.join(_SHARE_OF)}>, where * stands for every decision"
            )
        if (number := _number(limit)) is None or not 0 <= number <= 1:
            raise ConfigurationError(
                f"{figure} in {name} of the quality gate must be from 0 to 1, not {limit!r:.100}"
            )
    return limits


def assess(
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    rules: Rules,
    reference: Mapping[str, Sequence[float]] | None = None,
) -> Assessment:
    """Judges the metrics, as the API serves them, by the rules. Whatever is not there is not judged.

    Figures that `reference` has not (see `next_reference`) are compared with those before. The differences
    are always those between before and after.

    One regression makes the model regressed. Otherwise it is not judged if there is nothing to compare with,
    if a figure is gone or has become too thin, if one that a rule names outright cannot be judged, or if none
    can; a figure that the model neither had nor has keeps it from being judged only where it has a floor of
    its own. Otherwise one improvement makes it improved.
    """
    old, new = _figures(_object(before)), _figures(after)
    standard = _standard(reference, old, rules)
    known = sorted(new | standard, key=_overall_first)
    findings = {
        n: found for n in known if (found := _find(n, old.get(n), standard.get(n), new.get(n), rules))
    }
    verdict, why = _verdict(findings, rules, compared=bool(standard) or not rules.largest_drop)
    changed = sorted(old | new, key=_overall_first)
    differences = [d for n in changed if (d := _difference(n, old.get(n), new.get(n)))]
    return {"verdict": verdict, "why": "; ".join(why), "differences": differences}


def next_reference(
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any],
    rules: Rules,
    reference: Mapping[str, Sequence[float]] | None,
    verdict: Verdict,
) -> Reference:
    """What the model's next metrics are to be compared with: the figures that a largest drop is for.

    A figure's reference moves only when the figure improves, and none moves in a run that regressed: so
    neither a model that stays bad nor one that loses a little each time passes.
    """
    old = _standard(reference, _figures(_object(before)), rules)
    found = {} if verdict == "regressed" else _figures(after)
    moved: Reference = {}
    size = 0
    for name in sorted(old | found, key=lambda name: (name not in rules.named, *_overall_first(name))):
        if (drop := _rule_for(name, rules.largest_drop)) is None:
            continue
        figure = _better(old.get(name), found.get(name), drop, rules)
        if not _solid(figure, rules):
            continue
        size += len(json.dumps({name: figure}))
        if size <= LARGEST_REFERENCE:
            moved[name] = (figure.value, figure.samples)
    return moved


def _overall_first(name: str) -> tuple[bool, str]:
    return name not in OVERALL, name


def _standard(
    reference: Mapping[str, Sequence[float]] | None, before: Mapping[str, _Figure], rules: Rules
) -> dict[str, _Figure]:
    """What new figures are compared with: the reference, and where it is too thin for the rules, before."""
    kept = {name: _Figure(value, int(samples)) for name, (value, samples) in (reference or {}).items()}
    return {**before, **{name: figure for name, figure in kept.items() if _solid(figure, rules)}}


def _better(old: _Figure | None, new: _Figure | None, drop: float, rules: Rules) -> _Figure:
    """The new figure if there was none that could be judged by, or if it is an improvement; else the old."""
    if old is None or not _solid(old, rules):
        return new or old or _NO_FIGURE
    return new if new and _solid(new, rules) and _change(old, new) > drop else old


def _solid(figure: _Figure, rules: Rules) -> bool:
    return figure.samples >= rules.minimum_samples


def _verdict(findings: Mapping[str, _Finding], rules: Rules, *, compared: bool) -> tuple[Verdict, list[str]]:
    def said(verdict: str | None) -> list[str]:
        return [found.why for found in findings.values() if found.verdict == verdict]

    if regressed := said("regressed"):
        return "regressed", regressed
    if not compared:
        return "not_judged", ["There are no metrics from before"]
    unknown = [name for name in rules.named if name not in findings]
    missing = [found.why for found in findings.values() if found.needed]
    missing += [
        f"{name} has a floor, but is no figure of this model" for name in unknown if name in rules.floor
    ]
    if missing:
        return "not_judged", missing
    left_out = said(None) + [f"{name} is no figure of this model" for name in unknown]
    if improved := said("improved"):
        return "improved", improved + left_out
    if said("unchanged"):
        return "unchanged", ["Every figure that could be judged is within its limits", *left_out]
    return "not_judged", ["No rule could be applied", *left_out]


def _find(
    name: str, before: _Figure | None, old: _Figure | None, new: _Figure | None, rules: Rules
) -> _Finding | None:
    """What the rules say of a figure, compared with the `old` one; None where there is no rule for it."""
    drop, floor = _rule_for(name, rules.largest_drop), _rule_for(name, rules.floor)
    if drop is None and floor is None:
        return None
    named = name in rules.named
    if new is None or not _solid(new, rules):
        lost = old is not None and _solid(old, rules)
        return _Finding(None, _shortage(name, new, "now", rules), named or lost)
    if floor is not None and new.value < floor:
        return _Finding("regressed", f"{name} is {new.value:.3f}, below its floor of {floor:g}")
    if drop is None:
        return _Finding("unchanged", "")
    if old is None or not _solid(old, rules):
        return _Finding(None, _shortage(name, old, "before", rules), named)
    whose = "" if before and before.value == old.value else "its reference of "
    change, story = _change(old, new), f"from {whose}{old.value:.3f} to {new.value:.3f}"
    if abs(change) <= drop:
        return _Finding("unchanged", "")
    if change > 0:
        return _Finding("improved", f"{name} rose {story}")
    return _Finding("regressed", f"{name} fell {story}, by more than {drop:g}")


def _rule_for(name: str, limits: Mapping[str, float]) -> float | None:
    return limits.get(name, limits.get(f"*.{name.rpartition('.')[2]}"))


def _shortage(name: str, figure: _Figure | None, when: str, rules: Rules) -> str:
    if figure is None:
        return f"{name} is not known {when}"
    return f"{name} stands on {figure.samples} alerts {when}, {rules.minimum_samples} are needed"


def _difference(name: str, old: _Figure | None, new: _Figure | None) -> Difference | None:
    change = _change(old, new) if old and new else None
    if change == 0:
        return None
    return {
        "figure": name,
        "before": old.value if old else None,
        "after": new.value if new else None,
        "change": change,
        "samples": min(figure.samples for figure in (old, new) if figure),
    }


def _change(old: _Figure, new: _Figure) -> float:
    """Without the dust of binary fractions: 0.95 - 0.9 is 0.05, not a little less."""
    return round(new.value - old.value, 9)


def _figures(metrics: Mapping[str, Any]) -> dict[str, _Figure]:
    """The figures that are there and are numbers."""
    matrix = metrics.get("confusion_matrix")
    rows = [row for row in matrix if isinstance(row, list)] if isinstance(matrix, list) else []
    total = sum(_count(cell) for row in rows for cell in row)
    figures = {
        name: _Figure(value, total) for name in OVERALL if (value := _number(metrics.get(name))) is not None
    }
    for decision, scores in _object(metrics.get("metrics_per_decision")).items():
        shown = _object(scores)
        for score, counts in _SHARE_OF.items():
            if (value := _number(shown.get(score))) is not None:
                samples = sum(_count(shown.get(count)) for count in counts)
                figures[f"{decision}.{score}"] = _Figure(value, samples)
    return figures


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def _number(value: object) -> float | None:
    """A number that a score can be, else None: differences of larger ones are no numbers at all."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST_SCORE:
        return None
    return float(value)


def scores(metrics: Mapping[str, Any] | None) -> dict[str, float | None]:
    """The overall scores, under the API's names."""
    return {name: _number(_object(metrics).get(name)) for name in OVERALL}


def in_words(*shown: Mapping[str, Any] | None) -> str:
    """The overall scores in one line, of one moment or of several in order."""
    of = [scores(metrics) for metrics in shown]

    def story(name: str) -> str:
        return " -> ".join("none" if (s := each[name]) is None else f"{s:.3f}" for each in of)

    return ", ".join(f"{word} {story(name)}" for name, word in OVERALL.items())
