"""The timeline of a demo as SVG: updates, runs and polls of each model on a common time axis."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup

from arcanna_metrics_cli.report.markup import element, join
from arcanna_metrics_cli.words import counted
from tests.tools.demo.record import Outage, Record, Run, Upload

EDGE = 8.0
"""Margin left and right of the time axis, in pixels."""
MARK = 4.4
"""Size of an upload's mark, in pixels. The marks of corrections are square."""
ROW = 7.2
TEXT = 12.0
LINE = 17.0
GAP = 6.0
"""Smallest gap between texts on one line, in pixels."""
BAR = 22.0
CHARACTER = 0.6
"""Widest mean width of a character in the fonts of the page, as a share of the text's size."""


class Box(NamedTuple):
    """A box on a time axis, from `left` to `right` and `height` high, in pixels."""

    left: float
    right: float
    height: float


def piled(boxes: Iterable[Box]) -> list[float]:
    """The height of each box above the ground. Each lies as low as it can without covering an earlier one."""
    placed: list[tuple[Box, float]] = []
    for box in boxes:
        below = [(b, y) for b, y in placed if b.left < box.right and box.left < b.right]
        candidates = sorted({0.0, *(y + b.height for b, y in below)})
        placed.append((box, next(c for c in candidates if _is_free(c, box.height, below))))
    return [y for _, y in placed]


def _is_free(bottom: float, height: float, others: Iterable[tuple[Box, float]]) -> bool:
    return all(bottom >= y + b.height or bottom + height <= y for b, y in others)


@dataclass(frozen=True)
class Axis:
    """Seconds to pixels, on a drawing of this width."""

    width: float
    end: float

    @property
    def zoom(self) -> float:
        """The scale of updates' marks. A burst must not rise too high if a second is narrow."""
        return 1.0 if self.width > 480 else 0.7

    def x(self, at: float) -> float:
        return EDGE + at / self.end * (self.width - 2 * EDGE)

    def ticks(self) -> list[int]:
        """Whole seconds, at least 44 pixels apart."""
        fits = (self.width - 2 * EDGE) / 44
        steps = (base * 10**power for power in range(12) for base in (1, 2, 5))
        step = next(step for step in steps if self.end / step <= fits)
        return list(range(0, int(self.end) + 1, step))

    def within(self, left: float, width: float) -> Box:
        """The box of a text with its gap. It begins at `left`, or earlier if it would not fit."""
        left = max(0.0, min(left, self.width - width))
        return Box(left, left + width + GAP, LINE)


def axis_of(record: Record, width: float) -> Axis:
    """The axis that all models of the record share."""
    ends = [run.released_at for model in record.models for run in model.runs]
    if record.outage:
        ends.append(record.outage.ended)
    return Axis(width, max([1.0, *(upload.at for upload in record.uploads), *ends]))


def text_width(text: str) -> float:
    """The largest width of the text in pixels."""
    return len(text) * TEXT * CHARACTER


def lane(
    axis: Axis, uploads: Sequence[Upload], runs: Sequence[Run], label: str, outage: Outage | None = None
) -> Markup:
    """What happened to one model."""
    above, height = _updates(axis, uploads, runs)
    ground = height + 6
    below, depth = _runs(axis, runs)
    bottom = ground + (14 + depth if runs else 6)
    return element(
        "svg",
        _outage(axis, outage, bottom),
        _grid(axis, bottom),
        element("g", above, transform=f"translate(0 {ground:.2f})"),
        element("g", below, transform=f"translate(0 {ground + 14:.2f})"),
        viewBox=f"0 0 {axis.width:g} {bottom:.2f}",
        role="img",
        aria_label=label,
        class_="lane",
    )


def seconds(value: float) -> str:
    """A time or duration for people."""
    return f"{value:.1f} s"


def scale(axis: Axis) -> Markup:
    """The numbers below the lanes."""
    ticks = [
        element("text", str(at), x=axis.x(at), y=14, class_="tick", text_anchor="middle")
        for at in axis.ticks()
    ]
    return element("svg", *ticks, viewBox=f"0 0 {axis.width:g} 18", class_="scale", aria_hidden="true")


def in_words(title: str, uploads: Sequence[Upload], runs: Sequence[Run], outage: Outage | None = None) -> str:
    """The description of the lane for screen readers."""
    kinds = [
        f"{_kind(group)} from {seconds(group[0].at)} to {seconds(group[-1].at)}"
        for group in _groups(uploads, runs).values()
    ]
    ends = [
        f"run {n} from {seconds(run.claimed_at)} to {seconds(run.released_at)} with"
        f" {counted(len(run.polls), 'poll')}: {outcome_of(run)}"
        for n, run in enumerate(runs, 1)
    ]
    away = (
        [f"Arcanna does not answer from {seconds(outage.began)} to {seconds(outage.ended)}"] if outage else []
    )
    return f"{title}: {'; '.join([*kinds, *ends, *away]) or 'nothing happened'}."


def outcome_of(run: Run) -> str:
    """The outcome of a run in a few lower-case words."""
    end = run.outcome.lower().removeprefix("recompute ")
    return f"{end}, {run.verdict.replace('_', ' ')}" if run.verdict else end


def has_failed(run: Run) -> bool:
    return run.outcome != "Recompute Completed"


def _kind(group: Sequence[Upload]) -> str:
    if group[0].model_id is None:
        return f"{len(group)} ignored"
    return counted(len(group), "correction" if group[0].correction else "upload")


def _groups(uploads: Iterable[Upload], runs: Sequence[Run]) -> dict[tuple[int, bool], list[Upload]]:
    """The uploads by kind and by the index of the run that covers them (the number of runs for none)."""
    groups: dict[tuple[int, bool], list[Upload]] = defaultdict(list)
    for upload in uploads:
        run = next((n for n, run in enumerate(runs) if run.claimed_at >= upload.at), len(runs))
        groups[run, upload.correction].append(upload)
    return groups


# --- Above the ground: updates, and what they wait for ---------------------------------------------------


def _updates(axis: Axis, uploads: Sequence[Upload], runs: Sequence[Run]) -> tuple[Markup, float]:
    """The marks of updates, with the ground at y = 0, and their height."""
    groups = _groups(uploads, runs)
    dots = [_mark_box(axis, upload) for upload in uploads]
    texts = [_kind(group) for group in groups.values()]
    labels = [
        axis.within(axis.x(group[0].at) - MARK / 2 * axis.zoom, text_width(text))
        for group, text in zip(groups.values(), texts, strict=True)
    ]
    heights = piled([*dots, *labels])
    marks = [_mark(axis, u, -y) for u, y in zip(uploads, heights, strict=False)]
    words = [
        element("text", text, x=box.left, y=-y - 5, class_="label")
        for text, box, y in zip(texts, labels, heights[len(dots) :], strict=True)
    ]
    waits = [
        _wait(axis.x(group[0].at), axis.x(runs[run].claimed_at))
        for (run, _), group in groups.items()
        if run < len(runs)
    ]
    tops = (y + box.height for box, y in zip([*dots, *labels], heights, strict=True))
    return join(*waits, *marks, *words), max(tops, default=0.0)


def _mark_box(axis: Axis, upload: Upload) -> Box:
    half = axis.zoom / 2 * (ROW if upload.correction or upload.model_id is None else MARK)
    return Box(axis.x(upload.at) - half, axis.x(upload.at) + half, ROW * axis.zoom)


def _mark(axis: Axis, upload: Upload, bottom: float) -> Markup:
    title = element("title", f"{upload.key}, {seconds(upload.at)}")
    x, z = axis.x(upload.at), axis.zoom
    y = bottom - ROW / 2 * z
    if upload.correction:
        r = 3.5 * z
        diamond = f"M{x:.2f} {y - r:.2f} l{r} {r} l{-r} {r} l{-r} {-r} z"
        return element("path", title, d=diamond, class_="correction")
    if upload.model_id is None:
        return element("circle", title, cx=x, cy=y, r=2.7 * z, class_="ignored")
    return element(
        "rect", title, x=x - 1.5 * z, y=y - 3 * z, width=3 * z, height=6 * z, rx=z, class_="upload"
    )


def _wait(start: float, claimed: float) -> Markup:
    """From the first update of a group to the claim of the run that covers it."""
    path = f"M{start:.2f} 3 H{claimed:.2f} V11 m-3 -4 l3 4 l3 -4"
    return element("path", d=path, class_="wait")


# --- Below the ground: runs, their polls, and the platform's work ----------------------------------------


def _runs(axis: Axis, runs: Sequence[Run]) -> tuple[Markup, float]:
    """The bars of runs, with their top at y = 0, and their depth."""
    texts = _run_labels(axis, runs)
    boxes = [_run_box(axis, run, text) for run, text in zip(runs, texts, strict=True)]
    top = BAR + 18
    labels = [
        element(
            "g",
            element("path", d=CROSS if has_failed(run) else CHECK, class_=_ended(run)),
            element("text", text, x=16, y=12, class_="label strong"),
            transform=f"translate({box.left:.2f} {top + y:.2f})",
        )
        for run, text, box, y in zip(runs, texts, boxes, piled(boxes), strict=True)
    ]
    depth = max((y + LINE for y in piled(boxes)), default=0.0)
    return join(*(_run(axis, n, run) for n, run in enumerate(runs, 1)), *labels), top + depth


CHECK = "M1.5 8 l3.5 3.5 l6 -7"
CROSS = "M2 4 l8 8 m0 -8 l-8 8"


def _run_labels(axis: Axis, runs: Sequence[Run]) -> list[str]:
    """The labels of runs, as many words as fit on one line."""
    variants = (
        [f"Run {n} {outcome_of(run)}" for n, run in enumerate(runs, 1)],
        [f"Run {n} {outcome_of(run).rpartition(', ')[2]}" for n, run in enumerate(runs, 1)],
        [f"Run {n}" for n, _ in enumerate(runs, 1)],
    )
    for texts in variants:
        boxes = [_run_box(axis, run, text) for run, text in zip(runs, texts, strict=True)]
        apart = all(one.right <= following.left for one, following in pairwise(boxes))
        if apart and all(box.right <= axis.width + GAP for box in boxes):
            break
    return texts


def _run_box(axis: Axis, run: Run, text: str) -> Box:
    return axis.within(axis.x(run.claimed_at), 16 + text_width(text))


def _ended(run: Run) -> str:
    return "failed" if has_failed(run) else "completed"


def _run(axis: Axis, n: int, run: Run) -> Markup:
    left, right = axis.x(run.claimed_at), max(axis.x(run.released_at), axis.x(run.claimed_at) + 4)
    bar = element(
        "rect",
        element("title", f"Run {n}, {run.run_id}: {seconds(run.claimed_at)} to {seconds(run.released_at)}"),
        x=left,
        y=0,
        width=right - left,
        height=BAR,
        rx=3,
        class_="run",
    )
    end = element(
        "rect",
        element("title", f"{run.outcome}: {run.why}"),
        x=right - 4,
        y=0,
        width=4,
        height=BAR,
        rx=1.5,
        class_=f"end {_ended(run)}",
    )
    polls = [
        element(
            "g",
            element("title", f"Poll {number}, {seconds(poll.at)}: {poll.detail}"),
            element("path", d=f"M{axis.x(poll.at):.2f} -3 V{BAR:g}"),
            element("circle", cx=axis.x(poll.at), cy=-3, r=2.5),
            class_="poll",
        )
        for number, poll in enumerate(run.polls, 1)
    ]
    return element("g", bar, end, *polls, _platform(axis, run), class_="one-run")


def _platform(axis: Axis, run: Run) -> Markup:
    """A thin bar with the request, the time in Arcanna's queue, and the recompute."""
    if run.asked_at is None:
        return join()
    y = BAR + 9
    asked = axis.x(run.asked_at)
    started = axis.x(run.released_at if run.started_at is None else run.started_at)
    post = element(
        "path",
        element("title", f"POST, {seconds(run.asked_at)}"),
        d=f"M{asked - 4:.2f} {BAR + 2:g} h8 l-4 6 z",
        class_="post",
    )
    queued = element("path", d=f"M{asked:.2f} {y + 2.5:g} H{started:.2f}", class_="queued")
    if run.started_at is None:
        return join(queued, post)
    finished = axis.x(run.released_at if run.finished_at is None else run.finished_at)
    work = element(
        "rect",
        element("title", f"Arcanna recomputes from {seconds(run.started_at)}"),
        x=started,
        y=y,
        width=max(1.0, finished - started),
        height=5,
        rx=2,
        class_="work",
    )
    return join(queued, work, post)


def _outage(axis: Axis, outage: Outage | None, height: float) -> Markup:
    """The background of the time in which Arcanna did not answer."""
    if outage is None:
        return join()
    left, right = axis.x(outage.began), axis.x(outage.ended)
    title = f"Arcanna does not answer: {seconds(outage.began)} to {seconds(outage.ended)}"
    return element(
        "rect",
        element("title", title),
        x=left,
        y=0,
        width=max(1.0, right - left),
        height=height,
        class_="outage",
    )


def _grid(axis: Axis, height: float) -> Markup:
    lines = "".join(f"M{axis.x(at):.2f} 0 V{height:.2f}" for at in axis.ticks())
    return element("path", d=lines, class_="grid")
