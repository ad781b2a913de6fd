"""The page of a demo: the report of its stack, and the demo's story and promises."""

import re
from pathlib import Path

from markupsafe import Markup

from arcanna_metrics_cli.report import build
from arcanna_metrics_cli.report.markup import element, join
from arcanna_metrics_cli.words import counted
from tests.tools.demo.record import Outage, Record, Run
from tests.tools.demo.timeline import axis_of, in_words, lane, scale

STYLE = Path(__file__).with_name("story.css").read_text(encoding="utf-8")
WIDTHS = {"narrow": 332, "medium": 600, "wide": 920}
"""Widths in pixels. The timeline is drawn for each, and the style shows the one that fits."""
CHECK = "M3 8.5 l3.5 3.5 l6.5 -8"
CROSS = "M4 4 l8 8 m0 -8 l-8 8"


def page(record: Record) -> str:
    """The record as an HTML document."""
    parts = (_timeline(record), _promises(record), _events(record))
    story = element("div", *parts, class_="story")
    return build(
        record.facts,
        heading="make demo: model metrics, kept fresh",
        lead=_lead(record),
        section=story,
        section_style=STYLE,
    )


def _name(text: str, **attributes: str) -> Markup:
    """A name from outside. Isolated, so that its writing direction does not affect its surroundings."""
    return element("bdi", text, **attributes)


# --- The figures of it all -------------------------------------------------------------------------------


def _lead(record: Record) -> Markup:
    runs = sum(len(model.runs) for model in record.models)
    kept = sum(record.promises.values())
    all_kept = kept == len(record.promises)
    return element(
        "p",
        f"{counted(len(record.uploads), 'upload')} led to {counted(runs, 'recompute')}"
        f" of {counted(len(record.models), 'model')}. ",
        element(
            "a",
            f"{kept} of {len(record.promises)} promises kept",
            href="#promises",
            class_="good" if all_kept else "bad",
        ),
        class_="lead",
    )


def _tile(what: str, value: str) -> Markup:
    """A tile with an emphasised number and its label."""
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
        id="story",
        class_="card",
    )


def _lanes(record: Record, width: float) -> list[Markup]:
    axis = axis_of(record, width)
    lanes = []
    for model in record.models:
        uploads = record.uploads_of(model.model_id)
        title = element("p", _name(model.job), " ", _name(model.model_id, class_="id"), class_="lane-name")
        words = in_words(model.job, uploads, model.runs, record.outage)
        lanes += [title, lane(axis, uploads, model.runs, words, record.outage)]
    if ignored := record.uploads_of(None):
        keys = [_name(upload.key, class_="id") for upload in ignored]
        title = element("p", "No route ", *keys, class_="lane-name")
        lanes += [title, lane(axis, ignored, (), in_words("No route", ignored, ()))]
    return [*lanes, scale(axis)]


def _scale_note() -> Markup:
    return element("p", "seconds since the first upload", class_="scale-note")


LEGEND = (
    ("upload", 8, Markup('<rect x="2.5" y="5" width="3" height="6" rx="1" class="upload"/>')),
    ("correction", 8, Markup('<path d="M4 4.5l3.5 3.5l-3.5 3.5l-3.5 -3.5z" class="correction"/>')),
    ("ignored", 8, Markup('<circle cx="4" cy="8" r="2.7" class="ignored"/>')),
    ("waits for its run", 22, Markup('<path d="M1 4H18V13m-3 -4l3 4l3 -4" class="wait"/>')),
    (
        "run, from claim to release",
        22,
        Markup('<rect x="1" y="2.5" width="20" height="11" rx="3" class="run"/>'),
    ),
    ("poll", 8, Markup('<g class="poll"><path d="M4 3V15"/><circle cx="4" cy="3" r="2.5"/></g>')),
    ("recompute requested (POST)", 10, Markup('<path d="M1 5h8l-4 6z" class="post"/>')),
    ("queued at Arcanna", 22, Markup('<path d="M1 8H21" class="queued"/>')),
    ("Arcanna recomputes", 22, Markup('<rect x="1" y="5.5" width="20" height="5" rx="2" class="work"/>')),
    ("Arcanna does not answer", 22, Markup('<rect x="0" y="0" width="22" height="16" class="outage"/>')),
    ("completed", 6, Markup('<rect x="1" y="1" width="4" height="14" rx="1.5" class="end completed"/>')),
    ("failed", 6, Markup('<rect x="1" y="1" width="4" height="14" rx="1.5" class="end failed"/>')),
)
"""The meaning of each mark, the width of its sample, and the sample."""


def _legend() -> Markup:
    items = [
        element(
            "li",
            element("svg", mark, viewBox=f"0 0 {width} 16", width=width, height=16, aria_hidden="true"),
            text,
        )
        for text, width, mark in LEGEND
    ]
    return element("ul", *items, class_="legend", aria_label="Legend")


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
        element("dl", *(_tile(what, value) for what, value in record.summary.items()), class_="figures"),
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
            element("td", _name(whose)),
            element("td", _name(what)),
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
    """✓ or ✗, with its meaning for screen readers."""
    return element(
        "svg",
        element("path", d=CHECK if good else CROSS),
        viewBox="0 0 16 16",
        role="img",
        aria_label=yes if good else no,
        class_="icon",
    )
