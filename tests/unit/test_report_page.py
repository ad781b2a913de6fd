"""The report shows all facts, input never becomes markup, and the page loads nothing."""

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arcanna_metrics_cli.entries import PastRun
from arcanna_metrics_cli.executions import Told
from arcanna_metrics_cli.letters import Group
from arcanna_metrics_cli.report.charts import EDGE, LINE, STRIP, apart, axis_of, round_ticks
from arcanna_metrics_cli.report.facts import Facts, Model
from arcanna_metrics_cli.report.markup import NO_CHARACTERS
from arcanna_metrics_cli.report.page import SCRIPT, STYLE, build
from arcanna_metrics_cli.report.words import change
from tests.support.fleet import NOW, fleet, hostile
from tests.support.html import Element, parse, vocabulary
from tests.tools.demo.page import STYLE as STORY_STYLE
from tests.unit.strategies import any_text, at_most

TIMES = "\N{MULTIPLICATION SIGN}"
MINUS = "\N{MINUS SIGN}"
WELL = "All metrics are fresh. Nothing got worse, nothing failed, nothing waits."

# --- Any facts ------------------------------------------------------------------------------------------

times = st.floats(NOW - 1e9, NOW + 1e6)
shares = st.none() | st.floats(0, 1) | st.floats(-1e9, 1e9)
scores = st.dictionaries(st.sampled_from(["overall_accuracy", "overall_recall"]), shares)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(-9, 9) | st.floats(allow_nan=False) | any_text,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(any_text, inside, max_size=3),
    max_leaves=9,
)
matrices = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 10**12), min_size=n, max_size=n), min_size=n, max_size=n)
)
figures = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "confusion_matrix": matrices | json_values,
        "metrics_per_decision": st.dictionaries(any_text, json_values, max_size=4) | json_values,
    },
)
runs = st.builds(
    PastRun,
    run_id=any_text,
    cause=any_text,
    requested_at=times,
    seconds=st.none() | st.floats(0, 1e8),
    polls=st.none() | st.integers(0, 99),
    outcome=st.sampled_from(["completed", "failed"]) | any_text,
    result=st.sampled_from(["improved", "regressed", "unchanged", "not_judged"]) | any_text,
    why=any_text,
    detail=any_text,
    scores=scores,
)
tolds = st.builds(Told, any_text, st.integers(1, 99), times, times, st.tuples(any_text), figures, figures)
models = st.builds(
    Model,
    job=any_text,
    model_id=st.none() | any_text,
    fresh=st.booleans(),
    why=any_text,
    since=st.none() | times,
    job_name=st.none() | any_text,
    active=st.none() | any_text,
    running_since=st.none() | times,
    waiting=st.lists(any_text, max_size=2).map(tuple),
    waits_since=st.none() | times,
    waiting_objects=st.lists(any_text, max_size=2).map(tuple),
    attempts=st.integers(0, 9),
    last_error=any_text,
    runs=st.lists(runs, max_size=4).map(tuple),
    told=st.none() | tolds,
    untold=any_text,
    accepted=any_text,
)
facts = st.builds(
    Facts,
    stack=any_text,
    region=any_text,
    at=st.just(NOW),
    models=st.lists(models, max_size=3, unique_by=lambda m: (m.job, m.model_id)).map(tuple),
    dead=st.none() | st.integers(0, 9),
    letters=st.lists(st.builds(Group, any_text, st.integers(1, 9), times, times, any_text), max_size=2).map(
        tuple
    ),
    queued=st.none() | st.integers(0, 9),
    objective=st.none() | st.floats(60, 1e6),
    notes=st.lists(any_text, max_size=2).map(tuple),
)


def parsed(what: Facts) -> Element:
    return parse(build(what))


KNOWN = vocabulary(parsed(fleet(12))) | vocabulary(parsed(fleet(1))) | vocabulary(parsed(hostile()))


@at_most(25)
@given(facts)
def test_nothing_from_outside_becomes_markup(what: Facts) -> None:
    page = build(what)

    assert vocabulary(parse(page)) <= KNOWN
    assert NO_CHARACTERS.search(page) is None
    page.encode()


@at_most(25)
@given(facts)
def test_known_values_are_shown_unchanged(what: Facts) -> None:
    document = parsed(what)

    known = [
        what.stack,
        *what.notes,
        *(part for group in what.letters for part in (group.reason, group.detail)),
    ]
    for model in what.models:
        known += [
            model.job_name or model.job,
            model.model_id or "active model",
            *model.waiting,
            *model.waiting_objects,
        ]
        known += [run.cause for run in model.runs]
        if not model.completed:
            continue
        known += [model.told.why, *model.told.objects] if model.told else [model.untold]
    text = document.text.replace("\r", "\n")
    for one in known:
        assert NO_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", one).replace("\r", "\n") in text


@at_most(25)
@given(facts)
def test_every_run_is_drawn_and_listed_or_counted_as_earlier(what: Facts) -> None:
    document = parsed(what)

    for strip, model in zip(document.all("svg", "strip"), in_order(document, what), strict=False):
        earlier = sum(int(text.text) for text in strip.all("text", "earlier"))
        assert len(strip.all("use", "mark")) + earlier == len(model.runs)
    rows = sum(len(table.all("tbody")[0].all("tr")) for table in document.all("table", "runs"))
    assert rows == sum(len(model.runs) for model in what.models)


def in_order(document: Element, what: Facts) -> list[Model]:
    """The models in the order of the page, identified by their number of runs."""
    listed = [len(body.all("table", "runs")[0].all("tbody")[0].all("tr")) if body.all("table", "runs") else 0
              for body in document.all("tbody") if "data-kinds" in body.attributes]  # fmt: skip
    left = list(what.models)
    found = []
    for count in listed:
        model = next(model for model in left if len(model.runs) == count)
        left.remove(model)
        found.append(model)
    return found


# --- Self-contained -------------------------------------------------------------------------------------

PAGES = pytest.mark.parametrize("what", [fleet(12), hostile()], ids=["fleet", "hostile"])


@PAGES
@pytest.mark.parametrize("refresh", [None, 5.0])
def test_page_runs_only_its_own_script_and_calls_only_its_server(what: Facts, refresh: float | None) -> None:
    document = parse(build(what, refresh=refresh))

    (style,), (script,) = document.all("style"), document.all("script")
    policy = next(
        meta.attributes["content"]
        for meta in document.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    hashes = [
        base64.b64encode(hashlib.sha256(each.text.encode()).digest()).decode() for each in (style, script)
    ]
    server = " connect-src 'self';" if refresh else ""
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}';{server}"
        " base-uri 'none'; form-action 'none'"
    )


@PAGES
def test_page_is_self_contained(what: Facts) -> None:
    document = parsed(what)

    assert {"link", "img", "iframe", "object", "embed", "image", "form", "base"}.isdisjoint(
        element.tag for element in document.all()
    )
    links = [
        e.attributes[name] or "" for e in document.all() for name in ("src", "href") if name in e.attributes
    ]
    assert all(link.startswith("#") for link in links)
    handlers = {
        name for e in document.all() for name in e.attributes if name.startswith("on") or name == "style"
    }
    assert handlers == set()
    assert not re.search(r"url\(|@import|@font-face|https?:", STYLE + STORY_STYLE)
    assert not re.search(r"\beval\b|innerHTML\s*=|insertAdjacentHTML|document\.write|https?:", SCRIPT)


@PAGES
def test_page_says_the_same_to_screen_readers(what: Facts) -> None:
    document = parsed(what)

    assert document.all("html")[0].attributes["lang"] == "en"
    assert len(document.all("h1")) == 1
    assert all(th.attributes["scope"] in {"row", "col"} for th in document.all("th"))
    assert all(table.all("thead") for table in document.all("table"))
    for drawing in document.all("svg"):
        assert (drawing.attributes.get("role") == "img" and drawing.attributes["aria-label"]) or (
            drawing.attributes.get("aria-hidden") == "true"
        )
    ids = Counter(e.attributes["id"] for e in document.all() if "id" in e.attributes)
    assert set(ids.values()) == {1}
    for element in document.all():
        for name in ("aria-controls", "aria-labelledby", "for"):
            assert element.attributes.get(name) in {None, *ids}
    targets = {(a.attributes["href"] or "")[1:] for a in document.all("a")}
    assert targets <= set(ids)


# --- What is seen first ---------------------------------------------------------------------------------


def run(at: float, result: str = "unchanged", accuracy: float = 0.9, **changes: Any) -> PastRun:
    normal = PastRun(
        f"run-{at:g}",
        "upload",
        NOW - at,
        30.0,
        3,
        "completed",
        result,
        "",
        {"overall_accuracy": accuracy},
    )
    return normal._replace(**changes)


def failed(at: float) -> PastRun:
    return run(at, outcome="failed", result="NoNewResult", detail="It left them as they were", scores={})


def stack(*its_models: Model, **changes: Any) -> Facts:
    return replace(Facts("the-stack", "eu-west-1", NOW, its_models), **changes)


def model(name: str, **changes: Any) -> Model:
    return replace(Model("1234", name, fresh=True, why="up to date"), **changes)


def tiles(document: Element) -> dict[str, int]:
    return {
        tile.all("span")[0].text: int(tile.all("b")[0].text.replace(",", ""))
        for tile in document.all(class_="tile")
    }


def order(document: Element) -> list[str]:
    return [cell.all("bdi", "id")[0].text for cell in document.all("th", "c-model") if cell.all("bdi", "id")]


def test_problems_are_counted_and_listed_first() -> None:
    document = parsed(
        stack(
            model("well", runs=(run(50),)),
            model("waits", fresh=False, waiting=("1 update waits",), waits_since=NOW - 60),
            model("broken", fresh=False, runs=(run(80), failed(40))),
            model("worse", runs=(run(90), run(30, "regressed", why="Escalate.recall 0.8 -> 0.6"))),
            dead=2,
            letters=(Group("BadInput", 2, NOW - 90, NOW - 60, "no job_id"),),
        )
    )

    assert tiles(document) == {
        "models": 4,
        "stale": 2,
        "got worse": 1,
        "failed": 1,
        "waiting": 1,
        "dead letters": 2,
    }
    items = [item.text.split() for item in document.all("ul", "items")[0].all("li")]
    assert [" ".join(item) for item in items] == [
        "Got worse Job 1234 worse Escalate.recall 0.8 -> 0.6 0 s ago",
        "Failed Job 1234 broken NoNewResult: It left them as they were 10 s ago",
        f"Dead letters 2 {TIMES} BadInput no job_id 60 s ago",
    ]
    assert order(document) == ["worse", "broken", "waits", "well"]


def test_healthy_stack_says_so() -> None:
    document = parsed(stack(model("well", runs=(run(50),))))

    assert [e.text for e in document.all("p", "well")] == [WELL]
    assert document.all("ul", "items") == []


def test_stack_that_could_not_be_read_in_full_is_not_called_healthy() -> None:
    document = parsed(stack(model("well", runs=(run(50),)), notes=("A run under way could not be read",)))

    assert document.all("p", "well") == []
    assert document.all("p", "note")[0].text == "A run under way could not be read"


def test_counts_that_could_not_be_read_are_not_shown_as_zero() -> None:
    document = parsed(stack(model("well", runs=(run(50),)), dead=None, queued=None))

    (tile,) = document.all("a", "letters")
    assert (tile.text.split(), "none" in tile.classes) == (["?", "dead", "letters"], False)
    assert "They could not be read." in document.all("section", "card")[0].text
    assert "The updates queue could not be read." in document.all("footer")[0].text


def test_recovered_model_is_neither_worse_nor_failed() -> None:
    document = parsed(stack(model("well", runs=(run(90, "regressed"), failed(60), run(30)))))

    assert (tiles(document)["got worse"], tiles(document)["failed"]) == (0, 0)


def test_update_waiting_longer_than_the_objective_is_late() -> None:
    waits = model(
        "waits", fresh=False, why="updates wait", waiting=("1 update waits",), overdue_since=NOW - 61
    )

    late = parsed(stack(waits, objective=60.0))
    in_time = parsed(stack(waits, objective=62.0))

    assert late.all("ul", "items")[0].all("b")[0].text == "Late"
    assert in_time.all("ul", "items") == []
    assert "no update is late" in in_time.text


def test_each_kind_of_problem_lists_only_a_few() -> None:
    many = [model(f"worse {n}", runs=(run(30 + n, "regressed"),)) for n in range(9)]
    document = parsed(stack(*many, model("broken", fresh=False, runs=(failed(40),))))

    assert [item.all("b")[0].text for item in document.all("ul", "items")[0].all("li")] == [
        "Got worse",
        "Got worse",
        "Failed",
    ]
    (more,) = document.all("ul", "items")[0].all("button")
    assert (more.text, more.attributes["data-only"]) == ("+7 more", "worse")


def test_empty_ledger_is_reported_as_empty() -> None:
    assert "The ledger is empty" in parsed(stack()).text


# --- One model ------------------------------------------------------------------------------------------


def rows_of(table: Element) -> list[list[str]]:
    return [
        [" ".join(cell.text.split()) for cell in row.children if isinstance(cell, Element)]
        for row in table.all("tbody")[0].all("tr")
    ]


def told(before: dict[str, Any] | None, after: dict[str, Any]) -> Told:
    return Told("it rose", 3, NOW - 90, NOW - 80, ("s3://bucket/key",), before, after)


def counted(matrix: object, **recall: float) -> dict[str, Any]:
    return {"confusion_matrix": matrix, "metrics_per_decision": {n: {"recall": r} for n, r in recall.items()}}


def test_runs_are_listed_newest_first_with_cause_outcome_and_change() -> None:
    document = parsed(
        stack(model("m", runs=(run(90, "not_judged", 0.9), failed(60), run(30, "regressed", 0.85))))
    )

    assert rows_of(document.all("table", "runs")[0]) == [
        ["28 Nov, 23:59:30", "upload", "30 s", "3", "Got worse", f"0.850 {MINUS}0.050", "none"],
        ["28 Nov, 23:59:00", "upload", "30 s", "3", "Failed NoNewResult", "", ""],
        ["28 Nov, 23:58:30", "upload", "30 s", "3", "Not judged", "0.900", "none"],
    ]


def test_confusion_matrix_is_a_heat_table_of_shares_of_the_row() -> None:
    after = counted([[0, 10], [10, 990]], Drop=0.0, Escalate=0.99)
    document = parsed(stack(model("m", runs=(run(30),), told=told(None, after))))

    (table,) = document.all("table", "confusion")
    assert table.all("caption")[0].text == "After the last completed run"
    assert rows_of(table) == [["Drop", "00%", "10100%"], ["Escalate", "101%", "99099%"]]
    assert [cell.classes for cell in table.all("tbody")[0].all("td")] == [
        ["none"],
        ["wrong-5"],
        ["wrong-1"],
        ["right-5"],
    ]
    assert [e.text for e in document.all("div", "empty")] == ["Before the last completed runNo metrics yet"]


@pytest.mark.parametrize("matrix", [[[95.0, 5.0], [0.0, 100.0]], [["95", "5"], ["0", "100.0"]]])
def test_confusion_matrix_of_numbers_with_a_point_or_as_text_is_shown(matrix: object) -> None:
    document = parsed(
        stack(model("m", runs=(run(30),), told=told(None, counted(matrix, Drop=0.95, Escalate=1.0))))
    )

    (table,) = document.all("table", "confusion")
    assert rows_of(table) == [["Drop", "9595%", "55%"], ["Escalate", "00%", "100100%"]]


@pytest.mark.parametrize(
    ("right", "headings"),
    [
        ({"Drop": 95.0, "Escalate": "60"}, ["Drop", "Escalate"]),
        ({"Escalate": 60, "Drop": 95}, ["Decision 1", "Decision 2"]),
        ({"Escalate": 60, "Drop": "many"}, ["Decision 1", "Decision 2"]),
        ({"Drop": "many", "Escalate": None}, ["Drop", "Escalate"]),
        ({"Drop": 95}, ["Decision 1", "Decision 2"]),
    ],
    ids=["same order", "other order", "other order, one unreadable", "unreadable", "one missing"],
)
def test_confusion_matrix_has_the_names_of_decisions_only_if_they_fit(
    right: dict[str, Any], headings: list[str]
) -> None:
    after = {
        "confusion_matrix": [[95, 5], [40, 60]],
        "metrics_per_decision": {decision: {"true_positives": n} for decision, n in right.items()},
    }
    document = parsed(stack(model("m", runs=(run(30),), told=told(None, after))))

    (table,) = document.all("table", "confusion")
    assert [row[0] for row in rows_of(table)] == headings


@pytest.mark.parametrize(
    ("recall", "shown"),
    [(0.95, "0.950"), ("0.95", "0.950"), (1, "1.000"), (95.0, "none"), (True, "none"), ("", "none")],
)
def test_recall_is_shown_as_the_quality_gate_reads_it(recall: Any, shown: str) -> None:
    document = parsed(stack(model("m", runs=(run(30),), told=told(None, counted([[1]], Drop=recall)))))

    assert rows_of(document.all("table", "scores")[0]) == [["Drop", "none", shown, ""]]


def test_recall_of_each_decision_is_compared() -> None:
    before, after = counted([[1]], Drop=0.9, Gone=0.5), counted([[1]], Drop=0.85, New=1.0)
    document = parsed(stack(model("m", runs=(run(30),), told=told(before, after))))

    assert rows_of(document.all("table", "scores")[0]) == [
        ["Drop", "0.900", "0.850", f"{MINUS}0.050"],
        ["Gone", "0.500", "none", ""],
        ["New", "none", "1.000", ""],
    ]


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        ("none", "Arcanna's matrix cannot be read"),
        ([[1, 2]], "Arcanna's matrix cannot be read"),
        ([[-1]], "Arcanna's matrix cannot be read"),
        ([[1.5]], "Arcanna's matrix cannot be read"),
        ([[True]], "Arcanna's matrix cannot be read"),
        ([[1, None]], "Arcanna's matrix cannot be read"),
        ([[1] * 13] * 13, "13 decisions are too many to show"),
        (None, "The event does not contain the matrix"),
    ],
)
def test_matrix_that_cannot_be_shown_says_why(matrix: object, said: str) -> None:
    document = parsed(stack(model("m", runs=(run(30),), told=told(None, counted(matrix, Drop=1.0)))))

    assert [e.text for e in document.all("div", "empty")][1] == f"After the last completed run{said}"


def test_run_without_its_execution_says_so() -> None:
    document = parsed(stack(model("m", runs=(run(30, "regressed"),), untold="Step Functions forgot it")))

    assert "Step Functions forgot it" in document.all("ul", "items")[0].text
    assert "Step Functions forgot it" in document.all("div", "details")[0].text


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (0.5, 0.6, "+0.100"),
        (0.6, 0.5, f"{MINUS}0.100"),
        (0.5004, 0.4996, "±0"),
        (None, 1.0, ""),
        (1.0, None, ""),
    ],
)
def test_change_is_the_difference_of_the_shown_values(
    before: float | None, after: float | None, shown: str
) -> None:
    assert change(before, after) == shown


# --- The drawings ---------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1e9), max_size=30))
@example([60.0, 86400.0])
def test_axis_shows_most_runs_and_keeps_all_on_the_drawing(ages: list[float]) -> None:
    axis = axis_of([model("m", runs=tuple(run(age) for age in ages))], NOW)

    shown = [age for age in ages if NOW - age >= axis.start]
    assert len(shown) >= 0.9 * len(ages)
    assert all(EDGE <= axis.x(NOW - age) <= STRIP - EDGE for age in ages)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.85, 0.93, [0.85, 0.90, 0.95]),
        (0.2, 0.95, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.9, 0.9, [0.86, 0.88, 0.90, 0.92, 0.94]),
        (1.0, 1.0, [0.97, 0.98, 0.99, 1.0]),
        (93.0, 95.0, [90.0, 92.0, 94.0, 96.0, 98.0]),
    ],
)
def test_scores_axis_has_round_steps(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


@given(st.floats(-10, 100), st.floats(-10, 100))
def test_scores_axis_encloses_all_scores_with_few_steps(one: float, other: float) -> None:
    ticks = round_ticks(min(one, other), max(one, other))
    assert ticks[0] <= min(one, other) + 1e-6
    assert ticks[-1] >= max(one, other) - 1e-6
    assert 3 <= len(ticks) <= 6


@given(
    st.dictionaries(st.integers(), st.floats(20, 180), min_size=1, max_size=4).map(
        lambda d: {str(k): v for k, v in d.items()}
    )
)
def test_line_labels_do_not_overlap_and_keep_their_order(places: dict[str, float]) -> None:
    moved = apart(places, 10, 190)

    at = [moved[name] for name in sorted(places, key=lambda name: places[name])]
    assert all(b - a >= LINE - 1e-6 for a, b in pairwise(at))
    assert all(10 - 1e-6 <= place <= 190 + 1e-6 for place in at)


# --- The palette ----------------------------------------------------------------------------------------


def palettes() -> dict[str, dict[str, str]]:
    """The colours of the styles by scheme, by their variables' names."""
    found: dict[str, dict[str, str]] = {"light": {}, "dark": {}}
    for style in (STYLE, STORY_STYLE):
        light, dark, *_ = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
        for scheme, text in (("light", light), ("dark", dark)):
            found[scheme] |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", text))
    return found


def contrast(one: str, other: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio"""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """https://www.w3.org/TR/WCAG22/#dfn-relative-luminance"""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


INKS = ("text", "muted", "good", "bad", "worse", "late", "accent", "s0", "s1", "s2", "s3")
TEXTS = [
    *((ink, ground) for ink in INKS for ground in ("ground", "surface", "hover")),
    *((ink, f"{ink}-tint") for ink in ("good", "bad", "late")),
    *(
        ("on-deep" if n == 5 else "on-pale", f"{kind}-{n}")
        for kind in ("right", "wrong")
        for n in range(1, 6)
    ),
]
MARKS = ("edge", "upload", "correction", "poll", "work")


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_have_enough_contrast(scheme: str) -> None:
    colours = palettes()[scheme]

    faint = {pair: found for pair in TEXTS if (found := contrast(*(colours[name] for name in pair))) < 4.5}
    unseen = {mark: found for mark in MARKS if (found := contrast(colours[mark], colours["surface"])) < 3}
    assert (faint, unseen) == ({}, {})


def test_both_schemes_name_the_same_colours() -> None:
    found = palettes()

    assert found["light"].keys() == found["dark"].keys()
