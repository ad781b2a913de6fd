"""Tables for terminals of 80 columns and more, with links where the terminal supports them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from arcanna_metrics.platform.model_metrics import OVERALL
from arcanna_metrics.runs.quality import in_words
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.entries import PastRun, Scores, Standing
from arcanna_metrics_cli.letters import Group
from arcanna_metrics_cli.words import score, span

_FRAME = 6
"""Characters between the columns of a table with three columns."""


def standings(rows: Iterable[Standing], now: float, width: int, runs: Mapping[str, str]) -> Table:
    """The state of each target. `runs` has the console's address of each run under way, by the run's id."""
    listed = list(rows)
    longest = max((len(name) for row in listed for name in (row.model or "", f"job {row.job}")), default=0)
    metrics = min(48, max(24, (width - _FRAME) * 32 // 100))
    last = min(48, max(24, (width - _FRAME) * 34 // 100))
    model = max(12, min(max(longest, 12), width - _FRAME - metrics - last))
    table = _table()
    for heading, most in (("Model", model), ("Metrics", metrics), ("Last run", last)):
        table.add_column(heading, width=most, overflow="fold")
    for row in listed:
        link = runs.get(row.entry.run_id or "", "")
        table.add_row(_Names(row), _freshness(row, now, link), _last(row, now))
    return table


def _table() -> Table:
    """A table without columns. Its columns must fold long words: an id or a key that is cut is of no use."""
    return Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)


class _Names:
    """The names of a row's model and job, as wide as their column is in the end."""

    def __init__(self, row: Standing) -> None:
        self._row = row

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> Iterator[Text]:
        row, width = self._row, options.max_width
        names = Text().append(_wrapped(row.model or "active model", width), "bold")
        if row.model_id is None and row.active:
            names.append("\n" + _wrapped("active model", width), "dim")
        yield names.append("\n" + _wrapped(f"job {row.job}", width), "dim")


def _wrapped(name: str, width: int) -> str:
    """The name in lines that end between its parts, because people read ids by them.

    A part that is longer than a line is left to rich, which breaks it.
    """
    lines = [""]
    for part in re.findall(r".*?[-_./ ]+|.+", name, re.DOTALL):
        if lines[-1] and cell_len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _freshness(row: Standing, now: float, link: str) -> Text:
    text = Text()
    age = "" if row.since is None else span(now - row.since)
    if row.fresh:
        text.append("fresh" + (f", {age} old" if age else ""), "green")
    else:
        text.append("stale" + (f" for {age}" if age else ""), "yellow")
    text.append(f"\n{row.why}", f"link {link}" if link else "dim")
    if row.running_since is not None:
        text.append(f"\nrunning for {span(now - row.running_since)}")
    for line in row.waiting:
        text.append(f"\n{line}")
    return text


def _last(row: Standing, now: float) -> Text:
    if row.last is None:
        return Text("none yet", style="dim")
    text = Text().append(row.last.in_words(), "green" if row.last.is_good else "red")
    if row.is_accepted:
        text.append("\naccepted since")
    if row.last.ended_at is not None:
        text.append(f"\n{span(now - row.last.ended_at)} ago", style="dim")
    if _has_any(row.scores):
        scores = (f"{OVERALL[name]} {score(row.scores.get(name))}" for name in list(OVERALL)[:2])
        text.append(f"\n{', '.join(scores)}")
    return text


def _has_any(scores: Scores) -> bool:
    return any(value is not None for value in scores.values())


def history(runs: Iterable[PastRun]) -> Table:
    """The last runs of a target, the newest first."""
    table = _table()
    for heading, width in (("Requested", 20), ("Cause", 9), ("Took", 11), ("Outcome", None)):
        table.add_column(heading, min_width=width or 0, overflow="fold")
    for run in sorted(runs, key=lambda run: -run.requested_at):
        outcome = Text().append(run.in_words(), "green" if run.is_good else "red")
        if run.detail:
            outcome.append(f"\n{run.detail}")
        if _has_any(run.scores):
            outcome.append(f"\n{in_words(run.scores)}", "dim")
        table.add_row(
            Text(f"{to_iso(run.requested_at)[:19]}Z"),
            Text(run.cause),
            "" if run.seconds is None else span(run.seconds),
            outcome,
        )
    return table


def dead_letters(groups: Iterable[Group], now: float) -> Table:
    """Dead letters by reason and detail. Each reason is named once."""
    table = _table()
    for heading in ("Reason", "Messages", "Age", "Detail"):
        table.add_column(heading, justify="right" if heading == "Messages" else "left", overflow="fold")
    named = None
    for group in groups:
        newest, oldest = span(now - group.newest_at), span(now - group.oldest_at)
        age = newest if newest == oldest else f"{newest} to {oldest}"
        reason = Text("" if group.reason == named else group.reason, style="red")
        table.add_row(reason, str(group.number), age, Text(group.detail))
        named = group.reason
    return table


class Figure(NamedTuple):
    """A figure of a model: its reference, and its value now. None if it is missing."""

    name: str
    before: float | None
    after: float | None

    @property
    def change(self) -> float | None:
        """`after` minus `before`; None if one is missing."""
        if self.before is None or self.after is None:
            return None
        return round(self.after - self.before, 9)


def figures(listed: Iterable[Figure]) -> Table:
    """Figures with their references and changes."""
    table = _table()
    for heading in ("Figure", "Reference", "Now", "Change"):
        table.add_column(heading, justify="left" if heading == "Figure" else "right", overflow="fold")
    for each in listed:
        worse = (each.change or 0.0) < 0
        change = "" if each.change is None else f"{each.change:+.3f}"
        table.add_row(
            Text(each.name), score(each.before), score(each.after), Text(change, "red" if worse else "")
        )
    return table
