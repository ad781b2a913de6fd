"""What the commands print: tables and lines, with colours where there is a terminal."""

import os
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from arcanna_metrics.runs.quality import OVERALL
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.checks import Check
from arcanna_metrics_cli.entries import PastRun, Standing, span
from arcanna_metrics_cli.letters import Group

_WIDTH = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120
console = Console(highlight=False, width=_WIDTH)


def say(text: str, style: str = "") -> None:
    """One line, as long as it is."""
    console.print(Text(text, style=style), soft_wrap=True)


def standings(rows: Iterable[Standing], now: float) -> Table:
    """How each target stands."""
    table = Table(show_lines=True)
    # Narrow enough to leave room for the platform's long ids.
    for heading, width in (
        ("Model", None),
        ("Metrics", 24),
        ("Under way", 24),
        ("Last outcome", 20),
        ("Scores", None),
    ):
        table.add_column(heading, overflow="fold", max_width=width)
    for row in rows:
        age = "" if row.since is None else f" for {span(now - row.since)}"
        metrics = Text(f"{'fresh' if row.fresh else 'stale'}{age}", style="green" if row.fresh else "yellow")
        run = [] if row.running_since is None else [f"a run, for {span(now - row.running_since)}"]
        ended = "" if row.ended_at is None else f"\n{span(now - row.ended_at)} ago"
        scores = [f"{word} {_score(row.scores.get(name))}" for name, word in OVERALL.items()]
        table.add_row(
            Text(f"{_model(row)}\njob {row.job}"),
            metrics.append(f"\n{row.why}", style="dim"),
            Text("\n".join([*run, *row.waiting])),
            _outcome(row.outcome).append(ended),
            Text("\n".join(scores) if row.scores else ""),
        )
    return table


def _model(row: Standing) -> str:
    if row.model_id is not None:
        return row.model_id
    return f"active model\n({row.active})" if row.active else "active model"


def history(row: Standing, runs: Iterable[PastRun]) -> Table:
    """The last runs of a target, the oldest first, and under a failed one why."""
    title = Text(f"Last runs of {row.model_id or 'the active model'}, job {row.job}", style="table.title")
    table = Table(title=title, title_justify="left")
    for heading in ("Requested", "Cause", "Took", "Polls", "Outcome", *OVERALL.values()):
        right = heading in ("Took", "Polls", *OVERALL.values())
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    for run in runs:
        table.add_row(
            Text(to_iso(run.requested_at)[:19] + "Z"),
            Text(run.cause),
            "" if run.seconds is None else span(run.seconds),
            "" if run.polls is None else str(run.polls),
            _outcome(f"{run.outcome}, {run.result}").append(
                f"\n{run.detail}" if run.detail else "", style="dim"
            ),
            *(_score(run.scores.get(name)) if run.scores else "" for name in OVERALL),
        )
    return table


def dead_letters(groups: Iterable[Group], now: float) -> Table:
    """By reason, with the detail of the newest."""
    table = Table(title="Dead letters", title_justify="left", show_lines=True)
    for heading in ("Reason", "Count", "Oldest", "Newest", "Detail of the newest"):
        table.add_column(heading, justify="right" if heading == "Count" else "left", overflow="fold")
    for group in groups:
        ages = (f"{span(now - at)} ago" for at in (group.oldest_at, group.newest_at))
        table.add_row(Text(group.reason, style="red"), str(group.number), *ages, Text(group.detail))
    return table


def checks(found: Iterable[Check]) -> None:
    """One line each, with what to do where something is wrong."""
    for check in found:
        mark = ("✗", "red") if check.remedy else ("✓", "green")
        line = Text.assemble("  ", mark, " ", (f"{check.what:<13}", "bold"), check.said.rstrip(".") + ".")
        if check.remedy:
            line.append(f" To do: {check.remedy}.", style="yellow")
        console.print(line, soft_wrap=True)


def _outcome(text: str) -> Text:
    good = text.startswith("completed") and "regressed" not in text
    return Text(text, style="" if not text else "green" if good else "red")


def _score(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
