"""Records to test the page with: one of a real demo, and a hostile one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tests.support import fleet
from tests.support.fleet import EVIL, LONG
from tests.tools.demo.record import Model, Outage, Poll, Record, Run, Upload


def recorded() -> Record:
    """The record of a real demo."""
    text = Path(__file__).with_name("recorded.json").read_text(encoding="utf-8")
    return TypeAdapter(Record).validate_json(text)


def run(claimed: float, released: float, **changes: Any) -> Run:
    """A run. By default, it completed."""
    normal = Run(
        run_id="7822fca9",
        claimed_at=claimed,
        asked_at=claimed + 0.01,
        started_at=claimed + 0.02,
        finished_at=released - 0.02,
        polls=(Poll(released - 0.01, "recomputing"),),
        released_at=released,
        outcome="Recompute Completed",
        verdict="improved",
        why="overall_accuracy 0.5 -> 0.9",
    )
    return replace(normal, **changes)


def hostile() -> Record:
    """Names that are markup or too long, bursts, many short runs, failed runs and broken promises."""
    hasty = [run(n * 0.7, n * 0.7 + 0.4, verdict="regressed") for n in range(1, 8)]
    failed = run(
        2.0,
        30.0,
        started_at=None,
        finished_at=None,
        outcome="Recompute Failed",
        verdict=None,
        why=EVIL + LONG,
        polls=tuple(Poll(2.0 + n, EVIL) for n in range(25)),
    )
    return Record(
        facts=fleet.hostile(),
        models=(
            Model(EVIL, LONG, tuple(hasty)),
            Model(LONG, EVIL, (failed, run(31.0, 32.0, run_id=LONG))),
            Model("never asked", "idle", (run(1, 2, asked_at=None, outcome="Recompute Failed"),)),
            Model("", "untouched", ()),
        ),
        uploads=(
            *(Upload(n / 50, f"{EVIL}{n}", LONG, correction=n % 3 == 0) for n in range(60)),
            *(Upload(n * 1.1, LONG, EVIL, correction=n % 2 == 0) for n in range(31)),
            *(Upload(n * 4.0, LONG + EVIL, None) for n in range(8)),
        ),
        outage=Outage(3.0, 29.0, tuple(Poll(3.0 + n, EVIL + LONG) for n in range(20))),
        summary={"updates received": "45", LONG: "8.5 s", EVIL: EVIL, "": ""},
        promises={"this is kept": True, EVIL: False, LONG: False},
    )
