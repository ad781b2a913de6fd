"""What the commands print: tables and lines, with colours where there is a terminal."""

import os
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recompute.quality import OVERALL
from recompute.timestamps import to_iso
from tests.operate.checks import Check
from tests.operate.letters import Group
from tests.operate.models import PastRun, Standing

_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 110
console = Console(highlight=False, width=_WIDTH)


def say(text: str, style: str = "") -> None:
    """One line, as long as it is."""
    console.print(Text(text, style=style), soft_wrap=True)


def standings(rows: Iterable[Standing], now: float) -> Table:
    """How each model stands, two lines each."""
    table = Table(show_lines=True)
    for heading in ("Model", "Metrics", "Run", "Waiting", "Last outcome", "Scores"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        since = "" if row.since is None else f" since {_ago(now - row.since)}"
        table.add_row(
            Text(f"{row.model_id}\njob {row.job_id}"),
            Text(
                f"{'fresh' if row.fresh else 'stale'}{since}\n", style="green" if row.fresh else "yellow"
            ).append(row.why, style="dim"),
            Text("" if row.running_since is None else f"for {_ago(now - row.running_since)}"),
            Text("" if row.waiting_since is None else f"an update, {_ago(now - row.waiting_since)} old"),
            _outcome(row.outcome).append("" if row.ended_at is None else f"\n{_ago(now - row.ended_at)} ago"),
            Text(_scores(row.scores)),
        )
    return table


def history(row: Standing, runs: Iterable[PastRun]) -> Table:
    """The last runs of a model, the oldest first, and under a failed one why."""
    table = Table(title=f"Last runs of {row.model_id}, job {row.job_id}", title_justify="left")
    for heading in ("Requested", "Cause", "Took", "Polls", "Outcome", *OVERALL.values()):
        right = heading in ("Took", "Polls", *OVERALL.values())
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for run in runs:
        table.add_row(
            Text(to_iso(run.requested_at)[:19] + "Z"),
            Text(run.cause),
            _ago(run.seconds),
            str(run.polls),
            _outcome(f"{run.outcome}, {run.result}").append(
                f"\n{run.detail}" if run.detail else "", style="dim"
            ),
            *(_score(run.scores.get(name)) for name in OVERALL),
        )
    return table


def dead_letters(groups: Iterable[Group], now: float) -> Table:
    """By reason, with the detail of the newest."""
    table = Table(title="Dead letters", title_justify="left", show_lines=True)
    for heading in ("Reason", "Count", "Oldest", "Newest", "Detail of the newest"):
        table.add_column(heading, justify="right" if heading == "Count" else "left", overflow="fold")
    for group in groups:
        ages = (f"{_ago(now - at)} ago" for at in (group.oldest_at, group.newest_at))
        table.add_row(Text(group.reason, style="red"), str(group.number), *ages, Text(group.detail))
    return table


def checks(found: Iterable[Check]) -> None:
    """One line each, with what to do where something is wrong."""
    for check in found:
        mark = ("✗", "red") if check.remedy else ("✓", "green")
        line = Text.assemble("  ", mark, " ", (f"{check.what:<13}", "bold"), check.said)
        if check.remedy:
            line.append(f". To do: {check.remedy}", style="yellow")
        console.print(line, soft_wrap=True)


def _outcome(text: str) -> Text:
    good = text.startswith("completed") and "regressed" not in text
    return Text(text, style="" if not text else "green" if good else "red")


def _scores(scores: Mapping[str, float | None]) -> str:
    shown = [f"{word} {_score(scores.get(name))}" for name, word in OVERALL.items()] if scores else []
    return "\n".join("  ".join(shown[n : n + 2]) for n in range(0, len(shown), 2))


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _ago(seconds: float) -> str:
    """A span of time in its largest unit, cut."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"
