"""The picture of a demo: all of it is there, none of it is markup from outside, and all of it can be read."""

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import combinations, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcanna_metrics.times import to_iso
from tests.support.arcanna.platform import Ask, Recompute
from tests.tools.demo.gather import run_of
from tests.tools.demo.markup import NO_CHARACTERS
from tests.tools.demo.page import STYLE, WIDTHS, page
from tests.tools.demo.record import Model, Outage, Poll, Record, Run, Upload
from tests.tools.demo.samples import figures, hostile, recorded, run
from tests.tools.demo.timeline import Axis, Box, lane, piled
from tests.unit.strategies import any_text

# --- Any record ----------------------------------------------------------------------------------------

times = st.floats(0, 1e6)
scores = st.none() | st.fixed_dictionaries({"overall_accuracy": st.none() | st.floats(0, 1)})
tables = st.lists(any_text, min_size=1, max_size=4, unique=True).map(figures)
runs = st.builds(
    Run,
    run_id=any_text,
    claimed_at=times,
    asked_at=st.none() | times,
    started_at=st.none() | times,
    finished_at=st.none() | times,
    polls=st.lists(st.builds(Poll, times, any_text), max_size=3).map(tuple),
    released_at=times,
    outcome=st.sampled_from(["Recompute Completed", "Recompute Failed"]) | any_text,
    verdict=st.none() | any_text,
    why=any_text,
    before=scores | tables,
    after=st.none() | tables,
)
names = st.sampled_from(["m1", "m2"])
records = st.builds(
    Record,
    began_at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    models=st.tuples(
        *(st.builds(Model, any_text, st.just(m), st.lists(runs, max_size=3).map(tuple)) for m in ("m1", "m2"))
    ),
    uploads=st.lists(st.builds(Upload, times, any_text, st.none() | names, st.booleans()), max_size=12).map(
        tuple
    ),
    outage=st.none()
    | st.builds(Outage, times, times, st.lists(st.builds(Poll, times, any_text), max_size=3).map(tuple)),
    summary=st.dictionaries(any_text, any_text, max_size=3),
    promises=st.dictionaries(any_text, st.booleans(), max_size=3),
)


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag: str | None = None, class_: str | None = None) -> list["Element"]:
        """The elements inside, at any depth, in order."""
        inside = [
            found for child in self.children if isinstance(child, Element) for found in (child, *child.all())
        ]
        return [e for e in inside if tag in (None, e.tag) and (class_ is None or class_ in e.classes)]


class Parser(HTMLParser):
    """Builds the tree of a document in which every element but `meta` is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attributes))
        self._open[-1].children.append(element)
        if tag != "meta":
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == [self.root]


def parsed(record: Record) -> Element:
    parser = Parser()
    parser.feed(page(record))
    parser.close()
    return parser.root


def vocabulary(document: Element) -> set[tuple[str, str]]:
    """Every element with every attribute that it has."""
    return {(e.tag, name) for e in document.all() for name in ("", *e.attributes)}


KNOWN = vocabulary(parsed(recorded())) | vocabulary(parsed(hostile()))


@settings(max_examples=40)
@given(records)
def test_all_updates_runs_and_polls_are_drawn_at_each_width(record: Record) -> None:
    uploads = record.uploads
    expected = {
        "upload": sum(u.model_id is not None and not u.correction for u in uploads),
        "correction": sum(u.correction for u in uploads),
        "ignored": sum(u.model_id is None and not u.correction for u in uploads),
        "run": sum(len(model.runs) for model in record.models),
        "poll": sum(len(one.polls) for model in record.models for one in model.runs),
        "post": sum(one.asked_at is not None for model in record.models for one in model.runs),
        "end": sum(len(model.runs) for model in record.models),
        "outage": len(record.models) if record.outage else 0,
    }

    document = parsed(record)

    for size in WIDTHS:
        (chart,) = document.all("div", size)
        assert {kind: len(chart.all(class_=kind)) for kind in expected} == expected


@settings(max_examples=40)
@given(records)
def test_nothing_from_outside_becomes_markup(record: Record) -> None:
    assert vocabulary(parsed(record)) <= KNOWN


@settings(max_examples=40)
@given(records)
def test_what_comes_from_outside_is_shown_as_it_is(record: Record) -> None:
    text = parsed(record).text

    outside = [*record.summary, *record.promises, *(u.key for u in record.uploads)]
    for model in record.models:
        outside += [model.job, *(one.why for one in model.runs), *(one.run_id for one in model.runs)]
    if record.outage:
        outside += [attempt.detail for attempt in record.outage.attempts]
    for one in outside:
        assert NO_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", one).replace("\r", "\n") in text.replace(
            "\r", "\n"
        )


@settings(max_examples=40)
@given(records)
def test_the_page_can_be_written(record: Record) -> None:
    assert NO_CHARACTERS.search(page(record)) is None
    page(record).encode()


# --- Self-contained and accessible ----------------------------------------------------------------------


@pytest.mark.parametrize("record", [recorded(), hostile()], ids=["recorded", "hostile"])
def test_the_page_needs_nothing_but_itself(record: Record) -> None:
    document = parsed(record)

    assert {"script", "link", "img", "iframe", "object", "use", "image"}.isdisjoint(
        e.tag for e in document.all()
    )
    links = [
        e.attributes[name]
        for e in document.all()
        for name in e.attributes
        if name in {"src", "href", "style"}
    ]
    assert links == ["#promises"]
    assert not re.search(r"url\(|@import|@font-face|https?:", STYLE)
    policy = [e for e in document.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0].attributes["content"] == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.mark.parametrize("record", [recorded(), hostile()], ids=["recorded", "hostile"])
def test_who_does_not_see_the_page_is_told_the_same(record: Record) -> None:
    document = parsed(record)

    assert document.all("html")[0].attributes["lang"] == "en"
    assert document.all("title")[0].text
    assert len(document.all("h1")) == 1
    assert all(th.attributes["scope"] in {"row", "col", "rowgroup"} for th in document.all("th"))
    assert all(table.all("caption") or table.all("thead") for table in document.all("table"))
    for drawing in document.all("svg"):
        assert (drawing.attributes.get("role") == "img" and drawing.attributes["aria-label"]) or (
            drawing.attributes.get("aria-hidden") == "true"
        )
    ids = Counter(e.attributes["id"] for e in document.all() if "id" in e.attributes)
    assert ids == {"promises": 1}


def test_the_lane_is_told_in_words() -> None:
    lanes = [e.attributes["aria-label"] for e in parsed(recorded()).all("div", "wide")[0].all("svg", "lane")]

    assert re.fullmatch(
        r"security-alerts: 20 uploads from 0\.0 s to \d\.\d s; 5 corrections from \S+ s to \S+ s;"
        r" 3 uploads from \S+ s to \S+ s;"
        r" run 1 from \S+ s to \S+ s with \d polls?: completed, not judged;"
        r" run 2 from \S+ s to \S+ s with \d polls?: completed, improved;"
        r" run 3 from \S+ s to \S+ s with \d polls?: completed, \w+;"
        r" Arcanna does not answer from \S+ s to \S+ s\.",
        str(lanes[0]),
    )


# --- The figures ----------------------------------------------------------------------------------------


def model_with(*its_runs: Run) -> Element:
    """The section of a model with these runs."""
    record = Record(datetime(2026, 11, 24, tzinfo=UTC), (Model("job", "model", its_runs),), (), None, {}, {})
    return parsed(record).all("section", "model")[0]


def rows_of(table: Element) -> list[list[str]]:
    return [
        [cell.text for cell in row.children if isinstance(cell, Element)]
        for body in table.all("tbody")
        for row in body.all("tr")
    ]


def test_scores_are_those_of_the_last_completed_run_with_their_difference() -> None:
    before = figures(["Drop", "Escalate"], right=50) | {"overall_f1_score": 0.5004, "overall_recall": 0.9}
    after = figures(["Drop", "Escalate"], right=90) | {"overall_f1_score": 0.4996, "overall_recall": 0.8}
    section = model_with(
        run(1, 2), run(3, 4, before=before, after=after), run(5, 6, after=None, outcome="Recompute Failed")
    )

    (table,) = section.all("table", "scores")
    assert [cell.text for cell in table.all("thead")[0].all("th")] == [
        "Before run 2",
        "After run 2",
        "Change",
    ]
    minus = "\N{MINUS SIGN}"
    assert rows_of(table) == [
        ["Accuracy", "0.943", "0.968", "+0.025"],
        ["F1", "0.500", "0.500", "0.000"],
        ["Recall", "0.900", "0.800", f"{minus}0.100"],
        ["Precision", "0.943", "0.968", "+0.025"],
        ["Recall per decision"],
        ["Drop", "0.943", "0.968", "+0.025"],
        ["Escalate", "0.943", "0.968", "+0.025"],
    ]
    assert [cell.classes for cell in table.all("td", "change")][:3] == [
        ["change", "up"],
        ["change"],
        ["change", "down"],
    ]


def test_scores_that_were_not_there_before_are_none_and_have_no_difference() -> None:
    section = model_with(run(1, 2, before=None))

    assert rows_of(section.all("table", "scores")[0])[0] == ["Accuracy", "none", "0.968", "\N{EN DASH}"]
    assert [e.text for e in section.all("div", "empty")] == ["Before run 1No metrics yet"]
    assert [e.text for e in section.all("caption")] == ["Scores", "After run 1"]


def test_a_model_without_a_completed_run_has_no_scores() -> None:
    section = model_with(run(1, 2, after=None, outcome="Recompute Failed", verdict=None))

    assert "No run has completed." in section.text
    assert section.all("table") == []


def test_the_confusion_matrix_is_a_heat_table_of_shares_of_the_row() -> None:
    after = figures(["Drop", "Escalate"]) | {"confusion_matrix": [[0, 10], [10, 990]]}
    section = model_with(run(1, 2, after=after))

    table = section.all("table", "confusion")[1]
    assert rows_of(table) == [["Drop", "00%", "10100%"], ["Escalate", "101%", "99099%"]]
    shades = [cell.classes for cell in table.all("tbody")[0].all("td")]
    assert shades == [["none"], ["wrong-5"], ["wrong-1"], ["right-5"]]


def test_broken_promises_are_counted_and_marked() -> None:
    document = parsed(hostile())

    assert "1 of 3 promises kept" in document.all("header")[0].text
    marks = [icon.attributes["aria-label"] for icon in document.all("ul", "promises")[0].all("svg")]
    assert marks == ["kept", "broken", "broken"]


def test_the_list_has_every_event_in_order() -> None:
    record = recorded()
    (events,) = parsed(record).all("details")
    at = [float(cell.text) for cell in events.all("td", "at")]

    of_runs = [one for model in record.models for one in model.runs]
    assert record.outage
    of_outage = 2 + len(record.outage.attempts)
    assert len(at) == len(record.uploads) + sum(5 + len(one.polls) for one in of_runs) + of_outage
    assert at == sorted(at)


# --- The drawing ----------------------------------------------------------------------------------------

spans = st.tuples(st.integers(0, 100), st.integers(1, 40), st.integers(1, 20)).map(
    lambda b: Box(b[0], b[0] + b[1], b[2])
)


@given(st.lists(spans, max_size=15))
def test_what_is_piled_lies_on_the_ground_or_on_something_and_never_overlaps(boxes: list[Box]) -> None:
    heights = piled(boxes)

    placed = list(zip(boxes, heights, strict=True))
    for (a, y), (b, z) in combinations(placed, 2):
        assert a.right <= b.left or b.right <= a.left or y + a.height <= z or z + b.height <= y
    for box, y in placed:
        assert y == 0 or any(
            y == z + b.height and b.left < box.right and box.left < b.right for b, z in placed
        )


@given(st.floats(1, 1e6), st.sampled_from(list(WIDTHS.values())))
def test_ticks_are_apart_and_on_the_drawing(end: float, width: int) -> None:
    axis = Axis(width, end)
    places = [axis.x(tick) for tick in axis.ticks()]

    assert places[0] == axis.x(0)
    assert places[-1] <= axis.x(end)
    assert all(b - a >= 43.9 for a, b in pairwise(places))


def test_lines_lead_from_updates_to_the_run_that_covers_them() -> None:
    uploads = [Upload(at, "key", "model") for at in (0.0, 1.0, 2.0, 3.0, 7.0)]
    axis = Axis(800, 10)

    drawing = lane(axis, uploads, [run(2, 4), run(5, 6)], "label")

    lines = re.findall(r'd="M([\d.]+) 3 H([\d.]+) V', drawing)
    assert [tuple(map(float, line)) for line in lines] == [
        (axis.x(0), axis.x(2)),
        (axis.x(3), axis.x(5)),
    ]
    assert re.findall(r'class="label">(\d \w+)<', drawing) == ["3 uploads", "1 upload", "1 upload"]


# --- The palette ----------------------------------------------------------------------------------------


def palette(scheme: str) -> dict[str, str]:
    """The colours of the style in a scheme, by their variables' names."""
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", light))
    return colours | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", dark)) if scheme == "dark" else colours


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


TEXTS = [(text, ground) for text in ("text", "muted", "good", "bad") for ground in ("ground", "surface")]
CELLS = [
    ("on-deep" if shade == 5 else "on-pale", f"{kind}-{shade}")
    for kind in ("right", "wrong")
    for shade in range(1, 6)
]
MARKS = ("upload", "correction", "edge", "poll", "work", "good", "bad")


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXTS + CELLS)
def test_text_can_be_read(scheme: str, text: str, ground: str) -> None:
    colours = palette(scheme)
    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("mark", MARKS)
def test_marks_can_be_seen(scheme: str, mark: str) -> None:
    colours = palette(scheme)
    assert contrast(colours[mark], colours["surface"]) >= 3
    if mark == "poll":
        assert contrast(colours[mark], colours["run"]) >= 3


def test_both_schemes_name_the_same_colours() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    assert re.findall(r"--[\w-]+(?=:)", light) == re.findall(r"--[\w-]+(?=:)", dark)


# --- From an installation to the record -----------------------------------------------------------------

EXECUTION = {"name": "run-1", "stopDate": datetime.fromtimestamp(1020.5, UTC)}


def outcome(**changes: Any) -> dict[str, Any]:
    detail = {"run_id": "run-1", "requested_at": to_iso(1010), "before": None, "after": {"buckets_in_kb": 1}}
    return {
        "detail-type": "Recompute Completed",
        "detail": detail | {"verdict": "improved", "why": "it rose"} | changes,
    }


def test_a_run_is_put_together_from_all_that_was_kept_of_it() -> None:
    checks = [
        {"run_id": "run-1", "timestamp": "1970-01-01 00:16:52,250+0000", "detail": "recomputing"},
        {"run_id": "run-2", "timestamp": "1970-01-01 00:16:53,000+0000", "detail": "of another run"},
    ]
    earlier = Recompute(1, "m", [Ask(1001.0, "us")], started_at=1002.0, finished_at=1003.0)
    ours = Recompute(1, "m", [Ask(1010.5, "us")], started_at=1011.0, finished_at=1014.0)

    found = run_of(EXECUTION, outcome(), checks, [earlier, ours], began=1000.0)

    assert found == Run(
        run_id="run-1",
        claimed_at=10.0,
        asked_at=10.5,
        started_at=11.0,
        finished_at=14.0,
        polls=(Poll(12.25, "recomputing"),),
        released_at=20.5,
        outcome="Recompute Completed",
        verdict="improved",
        why="it rose",
        before=None,
        after={"buckets_in_kb": 1},
    )


def test_a_run_that_failed_before_the_request_has_a_reason_and_no_verdict() -> None:
    failed = outcome()
    for name in ("verdict", "why", "after"):
        del failed["detail"][name]
    failed["detail"] |= {"reason": "Rejected", "detail": "404"}

    found = run_of(EXECUTION, failed | {"detail-type": "Recompute Failed"}, [], [], began=1000.0)

    assert (found.outcome, found.verdict, found.why, found.after) == (
        "Recompute Failed",
        None,
        "Rejected: 404",
        None,
    )
    assert (found.asked_at, found.started_at, found.finished_at, found.polls) == (None, None, None, ())
