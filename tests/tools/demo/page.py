"""The picture of a demo: one HTML page that needs nothing but itself."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.tools.demo.markup import Markup, counted, element, join, name, seconds
from tests.tools.demo.record import Model, Outage, Record, Run
from tests.tools.demo.timeline import axis_of, has_failed, in_words, lane, outcome_of, scale

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
WIDTHS = {"narrow": 332, "medium": 600, "wide": 920}
"""The timeline is drawn for each, in pixels; the style shows the one that fits."""
OVERALL = {
    "Accuracy": "overall_accuracy",
    "F1": "overall_f1_score",
    "Recall": "overall_recall",
    "Precision": "overall_precision",
}
SHADES = (0.0, 0.1, 0.25, 0.5, 0.8)
"""A cell is as dark as the number of these that its share of the row exceeds."""
CHECK = "M3 8.5 l3.5 3.5 l6.5 -8"
CROSS = "M4 4 l8 8 m0 -8 l-8 8"


def page(record: Record) -> str:
    """The record as an HTML document."""
    body = element(
        "main",
        _head(record),
        _timeline(record),
        *(_model(model) for model in record.models),
        _promises(record),
        _events(record),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # Not even by mistake does the page load anything.
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'",
        ),
        element("title", "make demo: fresh metrics"),
        element("style", Markup(STYLE)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"


# --- What it is, and the figures of it all ---------------------------------------------------------------


def _head(record: Record) -> Markup:
    runs = sum(len(model.runs) for model in record.models)
    kept = sum(record.promises.values())
    all_kept = kept == len(record.promises)
    return element(
        "header",
        element("p", "make demo", class_="eyebrow"),
        element("h1", "Model metrics, kept fresh"),
        element(
            "p",
            f"One run of the demo, on {record.began_at:%d %B %Y at %H:%M} UTC:"
            f" {counted(len(record.uploads), 'upload')} led to {counted(runs, 'recompute')}"
            f" of {counted(len(record.models), 'model')}; this page shows when, why, and with what result.",
            class_="lead",
        ),
        element(
            "p",
            _icon(all_kept),
            element("a", f"{kept} of {len(record.promises)} promises kept", href="#promises"),
            class_="verdict good" if all_kept else "verdict bad",
        ),
        element("dl", *(_tile(what, value) for what, value in record.summary.items()), class_="tiles"),
    )


def _tile(what: str, value: str) -> Markup:
    """A number stands out from what it counts."""
    figure, rest = re.fullmatch(r"([\d.,]*)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr]  # any text
    shown = join(element("span", figure, class_="big") if figure else "", element("span", rest))
    return element("div", element("dt", what), element("dd", shown))


# --- The timeline ----------------------------------------------------------------------------------------


def _timeline(record: Record) -> Markup:
    charts = [
        element("div", *_lanes(record, width), _scale_note(), class_=f"chart {size}")
        for size, width in WIDTHS.items()
    ]
    return element(
        "section",
        element("h2", "What happened"),
        element(
            "p",
            "Updates above, runs of the workflow below; a line leads from updates to their run.",
            class_="note",
        ),
        _legend(),
        *charts,
        class_="card",
    )


def _lanes(record: Record, width: float) -> list[Markup]:
    axis = axis_of(record, width)
    lanes = []
    for model in record.models:
        uploads = record.uploads_of(model.model_id)
        title = element("p", name(model.job), " ", name(model.model_id, class_="id"), class_="lane-name")
        words = in_words(model.job, uploads, model.runs, record.outage)
        lanes += [title, lane(axis, uploads, model.runs, words, record.outage)]
    if ignored := record.uploads_of(None):
        keys = [name(upload.key, class_="id") for upload in ignored]
        title = element("p", "No route ", *keys, class_="lane-name")
        lanes += [title, lane(axis, ignored, (), in_words("No route", ignored, ()))]
    return [*lanes, scale(axis)]


def _scale_note() -> Markup:
    return element("p", "seconds since the first upload", class_="scale-note")


LEGEND = (
    ("upload", 8, '<rect x="2.5" y="5" width="3" height="6" rx="1" class="upload"/>'),
    ("correction", 8, '<path d="M4 4.5l3.5 3.5l-3.5 3.5l-3.5 -3.5z" class="correction"/>'),
    ("ignored", 8, '<circle cx="4" cy="8" r="2.7" class="ignored"/>'),
    ("waits for its run", 22, '<path d="M1 4H18V13m-3 -4l3 4l3 -4" class="wait"/>'),
    ("run, from claim to release", 22, '<rect x="1" y="2.5" width="20" height="11" rx="3" class="run"/>'),
    ("poll", 8, '<g class="poll"><path d="M4 3V15"/><circle cx="4" cy="3" r="2.5"/></g>'),
    ("recompute requested (POST)", 10, '<path d="M1 5h8l-4 6z" class="post"/>'),
    ("queued at Arcanna", 22, '<path d="M1 8H21" class="queued"/>'),
    ("Arcanna recomputes", 22, '<rect x="1" y="5.5" width="20" height="5" rx="2" class="work"/>'),
    ("Arcanna does not answer", 22, '<rect x="0" y="0" width="22" height="16" class="outage"/>'),
    ("completed", 6, '<rect x="1" y="1" width="4" height="14" rx="1.5" class="end completed"/>'),
    ("failed", 6, '<rect x="1" y="1" width="4" height="14" rx="1.5" class="end failed"/>'),
)
"""What each mark means, the width of its sample, and the sample."""


def _legend() -> Markup:
    items = [
        element(
            "li",
            element(
                "svg", Markup(mark), viewBox=f"0 0 {width} 16", width=width, height=16, aria_hidden="true"
            ),
            text,
        )
        for text, width, mark in LEGEND
    ]
    return element("ul", *items, class_="legend", aria_label="Legend")


# --- One model -------------------------------------------------------------------------------------------


def _model(model: Model) -> Markup:
    completed = [(n, run) for n, run in enumerate(model.runs, 1) if run.after is not None]
    parts = [_scores(*completed[-1])] if completed else [element("p", "No run has completed.", class_="note")]
    return element(
        "section",
        element("h2", name(model.job)),
        element("p", name(model.model_id), class_="id"),
        element("ol", *(_run(n, run) for n, run in enumerate(model.runs, 1)), class_="runs"),
        *parts,
        class_="card model",
    )


def _run(n: int, run: Run) -> Markup:
    return element(
        "li",
        _icon(not has_failed(run), "completed", "failed"),
        element(
            "p",
            element("strong", f"Run {n} {outcome_of(run)}"),
            element(
                "span",
                f"{seconds(run.claimed_at)} to {seconds(run.released_at)}, {counted(len(run.polls), 'poll')}",
                class_="when",
            ),
        ),
        element("p", run.why, class_="why"),
        class_="bad" if has_failed(run) else "good",
    )


def _scores(n: int, run: Run) -> Markup:
    """What the last completed run changed, against what it found."""
    before, after = run.before or {}, run.after or {}
    then, now = (f"{when} run {n}" for when in ("Before", "After"))
    return element(
        "div",
        element(
            "div",
            _score_table(before, after, then, now),
            class_="scroll",
            tabindex="0",
            role="region",
            aria_label="Scores",
        ),
        element(
            "div",
            element("div", _confusion(before, then), _confusion(after, now), class_="matrices"),
            element(
                "p",
                "Confusion matrices: alerts by what analysts agreed on (rows) and what the model had decided"
                " (columns), with their share of the row. Blue: decided right. Orange: decided wrong.",
                class_="note small",
            ),
        ),
        class_="results",
    )


def _score_table(before: Mapping[str, Any], after: Mapping[str, Any], then: str, now: str) -> Markup:
    overall = [(what, before.get(figure), after.get(figure)) for what, figure in OVERALL.items()]
    decisions_then, decisions_now = (f.get("metrics_per_decision") or {} for f in (before, after))
    recall = [
        (decision, decisions_then.get(decision, {}).get("recall"), figures["recall"])
        for decision, figures in decisions_now.items()
    ]
    headings = [element("td"), *(element("th", text, scope="col") for text in (then, now, "Change"))]
    return element(
        "table",
        element("caption", "Scores"),
        element("thead", element("tr", *headings)),
        element("tbody", *(_score_row(*row) for row in overall)),
        element(
            "tbody",
            element("tr", element("th", "Recall per decision", scope="rowgroup", colspan=4), class_="group"),
            *(_score_row(*row) for row in recall),
        ),
        class_="scores",
    )


def _score_row(what: str, then: float | None, now: float | None) -> Markup:
    change = None if then is None or now is None else round(now, 3) - round(then, 3)
    shown = "\N{EN DASH}" if change is None else f"{change:+.3f}".replace("-", "\N{MINUS SIGN}")
    if change is not None and abs(change) < 0.0005:
        shown = "0.000"
    direction = "" if change is None or shown == "0.000" else " up" if change > 0 else " down"
    return element(
        "tr",
        element("th", name(what), scope="row"),
        element("td", _figure(then), class_="then"),
        element("td", _figure(now)),
        element("td", shown, class_=f"change{direction}"),
    )


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _confusion(figures: Mapping[str, Any], title: str) -> Markup:
    """A heat table: what was decided right and what wrong have a colour each, by their share of the row."""
    matrix: Sequence[Sequence[int]] = figures.get("confusion_matrix") or []
    if not matrix:
        return element(
            "div", element("p", title, class_="caption"), element("p", "No metrics yet"), class_="empty"
        )
    decisions = list(figures["metrics_per_decision"])
    rows = [
        element(
            "tr",
            element("th", name(decision), scope="row"),
            *(_cell(count, sum(counts), row == column) for column, count in enumerate(counts)),
        )
        for row, (decision, counts) in enumerate(zip(decisions, matrix, strict=True))
    ]
    headings = [element("th", name(decision), scope="col") for decision in decisions]
    return element(
        "div",
        element(
            "table",
            element("caption", title),
            element("thead", element("tr", element("td", "analysts ↓, model →", class_="corner"), *headings)),
            element("tbody", *rows),
            class_="confusion",
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=f"Confusion matrix, {title.lower()}",
    )


def _cell(count: int, total: int, right: bool) -> Markup:
    share = count / total if total else 0.0
    shade = sum(share > limit for limit in SHADES)
    colour = f"{'right' if right else 'wrong'}-{shade}" if shade else "none"
    return element("td", str(count), element("small", f"{share:.0%}"), class_=colour)


# --- Promises, and everything as a list ------------------------------------------------------------------


def _promises(record: Record) -> Markup:
    items = [
        element("li", _icon(kept), element("span", promise), class_="good" if kept else "bad")
        for promise, kept in record.promises.items()
    ]
    return element(
        "section",
        element("h2", "What was promised"),
        element("ul", *items, class_="promises"),
        id="promises",
        class_="card",
    )


def _events(record: Record) -> Markup:
    rows = sorted(
        (
            (upload.at, "", f"{'Correction' if upload.correction else 'Upload'} of {upload.key}")
            for upload in record.uploads
        ),
    )
    for model in record.models:
        for n, run in enumerate(model.runs, 1):
            rows += [(at, f"{model.job}, run {n}", what) for at, what in _story_of(run)]
    if record.outage:
        rows += [(at, "", what) for at, what in _story_of_outage(record.outage)]
    headings = [element("th", text, scope="col") for text in ("Second", "Run", "What happened")]
    body = [
        element(
            "tr",
            element("td", f"{at:.1f}", class_="at"),
            element("td", name(whose)),
            element("td", name(what)),
        )
        for at, whose, what in sorted(rows)
    ]
    table = element("table", element("thead", element("tr", *headings)), element("tbody", *body))
    return element(
        "details",
        element("summary", f"All {len(rows)} events as a list"),
        element("div", table, class_="scroll", tabindex="0", role="region", aria_label="All events"),
        class_="card events",
    )


def _story_of(run: Run) -> list[tuple[float, str]]:
    platform = (
        (run.asked_at, "POST: the recompute is requested"),
        (run.started_at, "Arcanna begins to recompute"),
        (run.finished_at, "Arcanna has recomputed"),
    )
    return [
        (run.claimed_at, f"Claim of {run.run_id}"),
        *((at, what) for at, what in platform if at is not None),
        *((poll.at, f"Poll {number}: {poll.detail}") for number, poll in enumerate(run.polls, 1)),
        (run.released_at, f"{run.outcome}: {run.why}"),
    ]


def _story_of_outage(outage: Outage) -> list[tuple[float, str]]:
    return [
        (outage.began, "Arcanna does not answer any more"),
        *(
            (attempt.at, f"An attempt failed and will be retried: {attempt.detail}")
            for attempt in outage.attempts
        ),
        (outage.ended, "Arcanna answers again"),
    ]


def _icon(good: bool, yes: str = "kept", no: str = "broken") -> Markup:
    """✓ or ✗, and what that means for those who do not see it."""
    return element(
        "svg",
        element("path", d=CHECK if good else CROSS),
        viewBox="0 0 16 16",
        role="img",
        aria_label=yes if good else no,
        class_="icon",
    )
