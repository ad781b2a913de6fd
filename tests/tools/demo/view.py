"""Prints the demo: a live table above a scrolling story, or plain lines without a terminal."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text


class View:
    """Prints the story with elapsed times and, on a terminal, the live state of each model."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
        self._start = time.monotonic()
        self._states: dict[str, str] = {}
        self._live = Live(
            console=self.console, auto_refresh=False, get_renderable=self._table, transient=True
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, what: str, text: str, style: str = "") -> None:
        """Prints one line of the story."""
        line = Text(f"{time.monotonic() - self._start:6.1f} s  ", style="dim")
        line.append(f"{what:<10}", style=style or "bold").append(text)
        self.console.print(line, soft_wrap=True)
        self._refresh()

    def state(self, model_id: str, text: str) -> None:
        """Sets the state of a model."""
        self._states[model_id] = text
        self._refresh()

    def _refresh(self) -> None:
        if self._live.is_started:
            self._live.refresh()

    def _table(self) -> Group:
        table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for model_id, state in self._states.items():
            table.add_row(Text(model_id, style="bold"), state)
        return Group("", table)


def metrics_table(before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]]) -> Table:
    """Scores of each model before the first upload and now, and the recall of each decision."""
    table = Table(title="Metrics before → after")
    for heading in ("Model", "Accuracy", "F1", "Recall", "Precision", "Recall of Escalate"):
        table.add_column(heading, justify="left" if heading == "Model" else "right")
    for model_id, now in after.items():
        then = before[model_id]
        cells = [
            f"{_figure(then, name)} → {_figure(now, name)}"
            for name in ("overall_accuracy", "overall_f1_score", "overall_recall", "overall_precision")
        ]
        escalate = " → ".join(_escalate(figures) for figures in (then, now))
        table.add_row(model_id, *cells, escalate)
    return table


def _figure(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    return "none" if value is None else f"{value:.3f}"


def _escalate(figures: Mapping[str, Any]) -> str:
    decisions = figures.get("metrics_per_decision") or {}
    return _figure(decisions.get("Escalate", {}), "recall")


def summary_table(rows: Mapping[str, str]) -> Table:
    """A table with a row for each name and value."""
    table = Table(title="Summary", show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table
