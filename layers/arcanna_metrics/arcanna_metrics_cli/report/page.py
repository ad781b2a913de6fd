"""Makes the report out of the facts: one self-contained HTML document."""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from arcanna_metrics.platform.model_metrics import OVERALL
from arcanna_metrics.runs.quality import as_count, as_number
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.entries import PastRun, Scores
from arcanna_metrics_cli.report import charts
from arcanna_metrics_cli.report.facts import Facts, Model
from arcanna_metrics_cli.report.markup import visible
from arcanna_metrics_cli.report.words import RESULTS, change, clock, ended_at, result_of, span
from arcanna_metrics_cli.words import counted, score, without_stop

_FOLDER = Path(__file__).parent
STYLE = (_FOLDER / "page.css").read_text(encoding="utf-8")
SCRIPT = (_FOLDER / "page.js").read_text(encoding="utf-8")

SHADES = (0.0, 0.1, 0.25, 0.5, 0.8)
"""The darkness of a cell is the number of these that its share of the row exceeds."""

MOST_DECISIONS = 12
"""A larger confusion matrix is left out, because it cannot be read."""

MOST_ITEMS = 2
"""Items of each kind that need attention. The table has the others."""

OPEN_UP_TO = 3
"""Up to this number of models, all details are open at first."""

_RANKS = ("worse", "failed", "waits", "stale")


class Item(NamedTuple):
    """Something that needs attention, with its row or else its `name`. `at` is in epoch seconds.

    `more` is how many of its kind are not listed.
    """

    kind: str
    what: str
    row: "Row | None"
    why: str
    at: float | None = None
    name: str = ""
    more: int = 0


class Cell(NamedTuple):
    """A cell of a confusion matrix: the number of alerts, their share of the row, and the colour's class."""

    alerts: int
    share: str
    shade: str


class Matrix(NamedTuple):
    """A confusion matrix: decisions, and a row of cells for each. `lack` says why it is empty."""

    title: str
    decisions: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    lack: str


class Compared(NamedTuple):
    """A figure before and after a run."""

    name: str
    before: float | None
    after: float | None


class Row:
    """A model as the page shows it."""

    def __init__(self, model: Model, facts: Facts, axis: charts.Axis) -> None:
        self.model = model
        self.id = (
            "m"
            + blake2b(f"{model.job}\0{model.model_id}".encode(errors="replace"), digest_size=6).hexdigest()
        )
        self.title = model.job_name or f"Job {model.job}"
        self.last = model.runs[-1] if model.runs else None
        self.result = result_of(self.last) if self.last else None
        self.ended = ended_at(self.last, facts.at) if self.last else None
        self.told = model.told if model.completed else None
        self.strip = charts.strip(model, axis)
        self.late = (
            facts.objective is not None
            and model.overdue_since is not None
            and facts.at - model.overdue_since > facts.objective
        )
        self.kinds = [
            kind
            for kind, holds in (
                ("worse", model.is_worse),
                ("failed", model.has_failed),
                ("waits", model.waits),
                ("stale", not model.fresh),
            )
            if holds
        ]
        self.rank = _RANKS.index(self.kinds[0]) if self.kinds else len(_RANKS)

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.model.model_id or "active model"

    @property
    def failure(self) -> str:
        """Why the last run failed; empty if it did not."""
        last = self.last
        return f"{last.result}: {last.detail}" if last and last.outcome != "completed" else ""

    @property
    def latest(self) -> Scores:
        """The scores after the last completed run."""
        return self.model.completed[-1].scores if self.model.completed else {}

    @property
    def past(self) -> list[tuple[PastRun, Scores]]:
        """The runs, the newest first, each with the scores of the completed run before it."""
        rows: list[tuple[PastRun, Scores]] = []
        before: Scores = {}
        for run in self.model.runs:
            rows.append((run, before))
            before = run.scores if run.outcome == "completed" else before
        return rows[::-1]

    @property
    def chart(self) -> Markup:
        """The scores over the completed runs."""
        return charts.over_time(self.model.completed)

    @property
    def matrices(self) -> list[Matrix]:
        """The confusion matrices before and after the last completed run."""
        told = self.told
        if told is None:
            return []
        return [
            matrix("Before the last completed run", told.before),
            matrix("After the last completed run", told.after),
        ]

    @property
    def compared(self) -> list[Compared]:
        """The recall of each decision before and after the last completed run: analysts look at it first."""
        told = self.told
        before, after = (_per_decision(told.before), _per_decision(told.after)) if told else ({}, {})
        return [
            Compared(decision, *(as_number(each.get(decision, {}).get("recall")) for each in (before, after)))
            for decision in list({**before, **after})[:MOST_DECISIONS]
        ]


def build(
    facts: Facts,
    *,
    refresh: float | None = None,
    heading: str = "Model metrics",
    lead: str = "",
    section: str = "",
    section_style: str = "",
) -> str:
    """The facts as an HTML document. `lead` is shown below the heading, and `section` as the last part.

    With `refresh`, the page loads itself again every `refresh` seconds.
    """
    axis = charts.axis_of(facts.models, facts.at)
    rows = sorted(
        (Row(model, facts, axis) for model in facts.models),
        key=lambda row: (row.rank, -(row.ended or 0), row.title, row.name),
    )
    style = STYLE + section_style
    return _template().render(
        facts=facts,
        rows=rows,
        counts={kind: sum(kind in row.kinds for row in rows) for kind in _RANKS},
        items=_items(facts, rows),
        open=len(rows) <= OPEN_UP_TO,
        scale=charts.scale(axis),
        title=f"{heading}: {facts.stack}",
        heading=heading,
        lead=lead,
        section=section,
        refresh=refresh,
        style=Markup(style),  # noqa: S704 - our own
        script=Markup(SCRIPT),  # noqa: S704
        policy=_policy(style, live=refresh is not None),
    )


def _policy(style: str, *, live: bool) -> str:
    """The page's Content-Security-Policy: only its own style and script, and no network but to itself."""
    connect = " connect-src 'self';" if live else ""
    return (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(SCRIPT)};{connect}"
        " base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    """https://www.w3.org/TR/CSP3/#grammardef-hash-source"""
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# --- What needs attention --------------------------------------------------------------------------------


def _items(facts: Facts, rows: Sequence[Row]) -> list[Item]:
    """The first few items of each kind, the most serious kind first."""
    worse = [
        Item("worse", "Got worse", row, _why_worse(row), ended_at(row.model.completed[-1], facts.at))
        for row in rows
        if row.model.is_worse
    ]
    failed = [Item("failed", "Failed", row, row.failure, row.ended) for row in rows if row.failure]
    stuck = [
        Item("failed", "Failed to start", row, _why_stuck(row), row.model.waits_since)
        for row in rows
        if row.model.attempts
    ]
    letters = [
        Item(
            "letters",
            "Dead letters",
            None,
            group.detail,
            group.newest_at,
            f"{group.number:,} \N{MULTIPLICATION SIGN} {group.reason}",
        )
        for group in facts.letters
    ]
    if facts.dead and not letters:
        letters = [Item("letters", "Dead letters", None, "", None, counted(facts.dead, "message"))]
    late = [
        Item("waits", "Late", row, row.model.why, row.model.overdue_since)
        for row in sorted(rows, key=lambda row: row.model.overdue_since or 0)
        if row.late and not row.model.attempts
    ]
    return [item for kind in (worse, failed, stuck, letters, late) for item in _first(kind)]


def _first(items: Sequence[Item]) -> list[Item]:
    """The first items of a kind. The last one of them has the number of the others."""
    listed = list(items[:MOST_ITEMS])
    if len(items) > MOST_ITEMS:
        listed[-1] = listed[-1]._replace(more=len(items) - MOST_ITEMS)
    return listed


def _why_stuck(row: Row) -> str:
    why = f": {without_stop(row.model.last_error)}" if row.model.last_error else ""
    return f"{counted(row.model.attempts, 'attempt')} to start a run failed{why}; the next one is automatic"


def _why_worse(row: Row) -> str:
    return row.told.why if row.told else row.model.completed[-1].why or row.model.untold


# --- Figures ---------------------------------------------------------------------------------------------


def matrix(title: str, figures: Mapping[str, Any] | None) -> Matrix:
    """A confusion matrix, with one colour for right decisions and one for wrong ones."""
    shown = (figures or {}).get("confusion_matrix")
    if not shown:
        return Matrix(
            title, (), (), "No metrics yet" if not figures else "The event does not contain the matrix"
        )
    counts = _counts(shown)
    if counts is None:
        return Matrix(title, (), (), "Arcanna's matrix cannot be read")
    if len(counts) > MOST_DECISIONS:
        return Matrix(title, (), (), f"{len(counts)} decisions are too many to show")
    rows = [
        [_cell(count, sum(row), right=place == column) for column, count in enumerate(row)]
        for place, row in enumerate(counts)
    ]
    return Matrix(title, _decisions(figures, counts), rows, "")


def _decisions(figures: Mapping[str, Any] | None, counts: Sequence[Sequence[int]]) -> list[str]:
    """The names of the matrix's decisions, or their numbers if the names do not fit it.

    Arcanna names them only in a JSON object, whose members have no order.
    """
    named = _per_decision(figures)
    right = [as_count(each.get("true_positives")) for each in named.values()]
    if len(right) == len(counts) and all(n in (None, counts[at][at]) for at, n in enumerate(right)):
        return list(named)
    return [f"Decision {number}" for number in range(1, len(counts) + 1)]


def _counts(shown: object) -> list[list[int]] | None:
    """The numbers of alerts in a square matrix, as the quality gate reads them; None if it is not one."""
    if not isinstance(shown, list):
        return None
    counts = []
    for row in shown:
        read = [as_count(cell) for cell in row] if isinstance(row, list) else []
        known = [count for count in read if count is not None]
        if not len(known) == len(read) == len(shown):
            return None
        counts.append(known)
    return counts


def _cell(count: int, total: int, *, right: bool) -> Cell:
    share = count / total if total else 0.0
    shade = sum(share > limit for limit in SHADES)
    return Cell(count, f"{share:.0%}", f"{'right' if right else 'wrong'}-{shade}" if shade else "none")


def _per_decision(figures: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """The figures of each decision. Those that cannot be read are empty."""
    found = (figures or {}).get("metrics_per_decision")
    listed = found.items() if isinstance(found, dict) else ()
    return {decision: each if isinstance(each, dict) else {} for decision, each in listed}


# --- The template ----------------------------------------------------------------------------------------


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": clock,
        "iso": to_iso,
        "span": span,
        "score": score,
        "counted": counted,
    }
    environment.globals |= {
        "change": change,
        "result_of": result_of,
        "RESULTS": RESULTS,
        "MARKS": charts.MARKS,
        "OVERALL": OVERALL,
    }
    return environment.get_template("page.html")
