"""The report's SVG charts: a model's runs on a common time axis, and its scores over its runs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

from arcanna_metrics.platform.model_metrics import OVERALL
from arcanna_metrics_cli.entries import PastRun
from arcanna_metrics_cli.report.facts import Model
from arcanna_metrics_cli.report.markup import element, join
from arcanna_metrics_cli.report.words import RESULTS, clock, ended_at, result_of, span
from arcanna_metrics_cli.words import counted, score

STRIP = 264.0
"""Width of a strip of runs, in pixels."""

HEIGHT = 34.0
EDGE = 7.0
"""Room left and right of the time axis, in pixels."""

MIDDLE = HEIGHT / 2

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
SPANS = (
    *(n * _MINUTE for n in (1, 2, 5, 10, 30)),
    *(n * _HOUR for n in (1, 2, 6, 12)),
    *(n * _DAY for n in (1, 2, 7, 14, 30, 90, 180, 365)),
)
"""The lengths that the time axis may have, in seconds."""

MOST_OF = 0.9
"""The strips show this share of all runs, so that one old run does not squeeze all others."""

MARKS = {
    "improved": "M0 -5.5 L5.5 4 H-5.5 Z",
    "regressed": "M0 5.5 L5.5 -4 H-5.5 Z",
    "unchanged": "M-4 0 a4 4 0 1 0 8 0 a4 4 0 1 0 -8 0 Z",
    "not_judged": "M-3.5 0 a3.5 3.5 0 1 0 7 0 a3.5 3.5 0 1 0 -7 0 Z",
    "failed": "M-4 -4 L4 4 M4 -4 L-4 4",
}
"""Each result has its own shape, so that nobody has to tell colours apart."""


@dataclass(frozen=True)
class Axis:
    """The time axis of all strips, from `start` to `end` in epoch seconds."""

    start: float
    end: float

    def x(self, at: float) -> float:
        """The position of a time, in pixels from the left edge. Earlier times are at the axis's start."""
        share = (at - self.start) / (self.end - self.start)
        return EDGE + min(1.0, max(0.0, share)) * (STRIP - 2 * EDGE)


def axis_of(models: Iterable[Model], now: float) -> Axis:
    """The shortest axis that shows most of the runs."""
    ages = sorted(now - run.requested_at for model in models for run in model.runs)
    needed = ages[ceil(MOST_OF * len(ages)) - 1] if ages else 0.0
    return Axis(now - next((length for length in SPANS if length >= needed), max(needed, SPANS[-1])), now)


def scale(axis: Axis) -> Markup:
    """The scale above the strips."""
    length = round(axis.end - axis.start)
    middle = span(length / 2) if length / 2 in SPANS else ""  # only a round one
    places = (
        (EDGE, "start", f"{span(length)} ago"),
        (STRIP / 2, "middle", middle),
        (STRIP - EDGE, "end", "now"),
    )
    return element(
        "svg",
        *(element("text", text, x=x, y=10, text_anchor=anchor) for x, anchor, text in places),
        element("path", d=f"M{EDGE:g} 14.5 H{STRIP - EDGE:g} M{EDGE:g} 14 v4 M{STRIP / 2:g} 14 v4"
                f" M{STRIP - EDGE:g} 14 v4"),
        viewBox=f"0 0 {STRIP:g} 18",
        width=STRIP,
        height=18,
        class_="scale",
        aria_hidden="true",
    )  # fmt: skip


def strip(model: Model, axis: Axis) -> Markup:
    """A model's runs, with updates that wait and the run under way."""
    shown = [run for run in model.runs if ended_at(run, axis.end) >= axis.start]
    # What matters most is drawn last, on top.
    drawn = sorted(shown, key=lambda run: ("failed", "regressed").count(result_of(run)))
    return element(
        "svg",
        element("path", d=f"M{EDGE:g} {MIDDLE:g} H{STRIP - EDGE:g}", class_="ground"),
        _earlier(len(model.runs) - len(shown)),
        *(_took(run, axis) for run in shown),
        _waits(model, axis),
        *(_mark(run, axis) for run in drawn),
        viewBox=f"0 0 {STRIP:g} {HEIGHT:g}",
        width=STRIP,
        height=HEIGHT,
        role="img",
        aria_label=in_words(model),
        class_="strip",
    )


def in_words(model: Model) -> str:
    """The strip in words, for screen readers."""
    ends = Counter(RESULTS[result_of(run)].lower() for run in model.runs)
    parts = [", ".join(f"{count} {result}" for result, count in ends.items()) if ends else "No runs"]
    if model.running_since is not None:
        parts.append(f"a run is under way since {clock(model.running_since)}")
    elif model.waits_since is not None:
        parts.append(f"an update waits since {clock(model.waits_since)}")
    return "; ".join(parts)


def _earlier(count: int) -> Markup:
    if not count:
        return join()
    return element("text", f"+{count}", x=0, y=10, class_="earlier")


def _took(run: PastRun, axis: Axis) -> Markup:
    """A line as long as the run took, if it is long enough to be seen."""
    left, right = axis.x(run.requested_at), axis.x(ended_at(run, axis.end))
    if right - left < 2:
        return join()
    return element("path", d=f"M{left:.1f} {MIDDLE:g} H{right:.1f}", class_="took")


def _mark(run: PastRun, axis: Axis) -> Markup:
    result = result_of(run)
    title = f"{clock(run.requested_at)}: {RESULTS[result].lower()}, caused by {run.cause}"
    return element(
        "use",
        element("title", title),
        href=f"#{result}",
        x=axis.x(ended_at(run, axis.end)),
        y=MIDDLE,
        class_=f"mark {result.replace('_', '-')}",
    )


def _waits(model: Model, axis: Axis) -> Markup:
    """Lines from the first update that waits, and from the start of the run under way, to now."""
    right = STRIP - EDGE
    parts = []
    if model.waits_since is not None:
        path = f"M{min(axis.x(model.waits_since), right - 12):.1f} {HEIGHT - 5:g} H{right:g}"
        parts.append(element("path", element("title", "Updates wait"), d=path, class_="waits"))
    if model.running_since is not None:
        left = min(axis.x(model.running_since), right - 6)
        path = f"M{left:.1f} {MIDDLE - 5:g} H{right:g} v10 H{left:.1f} Z"
        parts.append(element("path", element("title", "A run is under way"), d=path, class_="under-way"))
    return join(*parts)


# --- Scores over time ------------------------------------------------------------------------------------

WIDTH, TALL = 360.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 36.0, 122.0, 10.0, 24.0
LINE = 15.0
"""The least distance between the names of two lines, in pixels."""

LEAST_SPAN = 0.05
"""Of the scores that a chart shows, whose largest is 1: less would make mountains of noise."""


def over_time(runs: Sequence[PastRun]) -> Markup:
    """The overall scores after each of these completed runs, the oldest first."""
    values = [value for run in runs for value in run.scores.values() if value is not None]
    if not values:
        return join()
    ticks = round_ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (TALL - TOP - BOTTOM)

    def x(position: int) -> float:
        return LEFT + position / max(1, len(runs) - 1) * (WIDTH - LEFT - RIGHT)

    grid = "".join(f"M{LEFT:g} {y(tick):.1f} H{WIDTH - RIGHT:g}" for tick in ticks)
    # Later runs replace the scores of earlier ones.
    last = {name: v for name in OVERALL for run in runs if (v := run.scores.get(name)) is not None}
    places = apart({name: y(value) for name, value in last.items()}, TOP, TALL - BOTTOM)
    ends = [(x(0), "start", _day(runs[0]))]
    if len(runs) > 1:
        ends.append((x(len(runs) - 1), "end", _day(runs[-1])))
    return element(
        "svg",
        element("path", d=grid, class_="grid"),
        *(element("text", _tick(tick), x=LEFT - 7, y=y(tick) + 4, text_anchor="end") for tick in ticks),
        *(element("text", text, x=at, y=TALL - 6, text_anchor=anchor) for at, anchor, text in ends),
        *(_line(n, [(x(at), y(value)) for at, run in enumerate(runs)
                    if (value := run.scores.get(name)) is not None])
          for n, name in enumerate(OVERALL) if name in last),
        *(_name(n, name, last[name], places[name]) for n, name in enumerate(OVERALL) if name in last),
        viewBox=f"0 0 {WIDTH:g} {TALL:g}",
        role="img",
        aria_label=_scores_in_words(runs),
        class_="scores-chart",
    )  # fmt: skip


def _day(run: PastRun) -> str:
    return clock(run.requested_at).rpartition(":")[0]


def _tick(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.3g}"


def round_ticks(low: float, high: float) -> list[float]:
    """The scores at the grid's lines: multiples of 1, 2 or 5 times a power of ten that enclose both."""
    room = max(0.0, LEAST_SPAN * max(1.0, abs(high)) - (high - low)) / 2
    low = low - room if low < 0 else max(0.0, low - room)
    high = high + room if high > 1 else min(1.0, high + room)
    least = (high - low) / 4
    power = 10.0 ** floor(log10(least))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= least)
    slack = 1e-9  # what is a multiple but for its rounding
    return [step * n for n in range(floor(low / step + slack), ceil(high / step - slack) + 1)]


def apart(places: Mapping[str, float], top: float, bottom: float) -> dict[str, float]:
    """The places in the same order between top and bottom, moved so that they are at least LINE apart."""
    order = sorted(places, key=lambda name: places[name])
    moved: dict[str, float] = {}
    floor = top
    for name in order:
        moved[name] = floor = max(places[name], floor)
        floor += LINE
    ceiling = bottom
    for name in reversed(order):
        moved[name] = ceiling = min(moved[name], ceiling)
        ceiling -= LINE
    return moved


def _line(number: int, points: Sequence[tuple[float, float]]) -> Markup:
    path = "M" + " L".join(f"{a:.1f} {b:.1f}" for a, b in points)
    dots = "".join(f"M{a - 2.2:.1f} {b:.1f} a2.2 2.2 0 1 0 4.4 0 a2.2 2.2 0 1 0 -4.4 0" for a, b in points)
    return join(
        element("path", d=path, class_=f"line s{number}"), element("path", d=dots, class_=f"dots s{number}")
    )


def _name(number: int, name: str, value: float, y: float) -> Markup:
    word = OVERALL[name].capitalize() if OVERALL[name].islower() else OVERALL[name]
    return element("text", f"{word} {score(value)}", x=WIDTH - RIGHT + 9, y=y + 4, class_=f"name s{number}")


def _scores_in_words(runs: Sequence[PastRun]) -> str:
    parts = [
        f"{word} {', '.join(score(run.scores.get(name)) for run in runs)}" for name, word in OVERALL.items()
    ]
    return f"Scores after {counted(len(runs), 'completed run')}: {'; '.join(parts)}"
