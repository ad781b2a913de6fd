"""The page of a demo: it is complete, input never becomes markup, and everything can be read."""

import re
from datetime import UTC, datetime
from itertools import combinations, pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.report.markup import NO_CHARACTERS
from tests.support import fleet
from tests.support.arcanna.platform import Ask, Recompute
from tests.support.html import Element, parse, vocabulary
from tests.tools.demo.gather import run_of
from tests.tools.demo.page import WIDTHS, page
from tests.tools.demo.record import Model, Outage, Poll, Record, Run, Upload
from tests.tools.demo.samples import hostile, recorded, run
from tests.tools.demo.timeline import Axis, Box, lane, piled
from tests.unit.strategies import any_text, at_most

# --- Any record ----------------------------------------------------------------------------------------

times = st.floats(0, 1e6)
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
)
names = st.sampled_from(["m1", "m2"])
records = st.builds(
    Record,
    facts=st.just(fleet.fleet(1)),
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


def parsed(record: Record) -> Element:
    return parse(page(record))


KNOWN = vocabulary(parsed(recorded())) | vocabulary(parsed(hostile()))


@at_most(40)
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


@at_most(40)
@given(records)
def test_input_never_becomes_markup(record: Record) -> None:
    assert vocabulary(parsed(record)) <= KNOWN


@at_most(40)
@given(records)
def test_input_is_shown_unchanged(record: Record) -> None:
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


def test_lane_has_a_description_in_words() -> None:
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


def test_broken_promises_are_counted_and_marked() -> None:
    document = parsed(hostile())

    assert "1 of 3 promises kept" in document.all("header")[0].text
    marks = [icon.attributes["aria-label"] for icon in document.all("ul", "promises")[0].all("svg")]
    assert marks == ["kept", "broken", "broken"]


def test_list_has_every_event_in_order() -> None:
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
def test_piled_marks_rest_on_each_other_and_never_overlap(boxes: list[Box]) -> None:
    heights = piled(boxes)

    placed = list(zip(boxes, heights, strict=True))
    for (a, y), (b, z) in combinations(placed, 2):
        assert a.right <= b.left or b.right <= a.left or y + a.height <= z or z + b.height <= y
    for box, y in placed:
        assert y == 0 or any(
            y == z + b.height and b.left < box.right and box.left < b.right for b, z in placed
        )


@given(st.floats(1, 1e6), st.sampled_from(list(WIDTHS.values())))
def test_ticks_do_not_overlap_and_stay_on_the_drawing(end: float, width: int) -> None:
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


# --- From an installation to the record -----------------------------------------------------------------

EXECUTION = {"name": "run-1", "stopDate": datetime.fromtimestamp(1020.5, UTC)}


def outcome(**changes: Any) -> dict[str, Any]:
    detail: dict[str, Any] = {"run_id": "run-1", "requested_at": to_iso(1010), "before": None, "after": {}}
    return {
        "detail-type": "Recompute Completed",
        "detail": detail | {"verdict": "improved", "why": "it rose"} | changes,
    }


def test_run_is_assembled_from_all_its_records() -> None:
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
    )


def test_run_that_failed_before_its_request_has_a_reason_and_no_verdict() -> None:
    failed = outcome()
    for name in ("verdict", "why", "after"):
        del failed["detail"][name]
    failed["detail"] |= {"reason": "Rejected", "detail": "404"}

    found = run_of(EXECUTION, failed | {"detail-type": "Recompute Failed"}, [], [], began=1000.0)

    assert (found.outcome, found.verdict, found.why) == ("Recompute Failed", None, "Rejected: 404")
    assert (found.asked_at, found.started_at, found.finished_at, found.polls) == (None, None, None, ())
