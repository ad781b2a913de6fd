"""Reads runs out of the workflow's executions and their events."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arcanna_metrics.runs.quality import in_words, scores
from arcanna_metrics.runs.run import Run
from arcanna_metrics.times import from_iso
from arcanna_metrics_cli.entries import UnderWay


@dataclass(frozen=True, slots=True)
class Told:
    """What the outcome event of a completed run has beyond the ledger.

    `updates` is the number of updates that the run was for, between `first_at` and `last_at` (epoch seconds).
    `objects` are a few of their objects. `before` and `after` are Arcanna's metrics, as in the event.
    """

    why: str
    updates: int
    first_at: float
    last_at: float
    objects: tuple[str, ...]
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None

    @property
    def verdict(self) -> str:
        """Why the run has its verdict, with its scores if it has any."""
        shown = self.before, self.after
        known = any(value is not None for metrics in shown for value in scores(metrics).values())
        return f"{self.why} ({in_words(*shown)})" if known else self.why


def under_way(execution: Mapping[str, Any]) -> UnderWay:
    """The run in an execution's input."""
    run: Run = json.loads(execution["input"])["run"]
    return UnderWay(run["model_id"], from_iso(run["cause"]["first_at"]), run["cause"]["updates"])


def news(event: Mapping[str, Any]) -> str | None:
    """A line about the recompute from an event of an execution; None if the event has nothing to say."""
    match event:
        case {"type": "TaskStateExited", "stateExitedEventDetails": {"name": "CheckStatus", "output": out}}:
            check = json.loads(out)["check"]
            line = f"check {check['polls']}: {check['detail']}"
            return (
                f"{line}, next check in {check['wait_seconds']} s" if check["status"] == "running" else line
            )
        case {"type": "LambdaFunctionFailed", "lambdaFunctionFailedEventDetails": {"error": error}}:
            return f"a call failed ({error}) and is retried"
    return None


def told(execution: Mapping[str, Any]) -> Told | None:
    """What an execution has told of a completed run; None if it has not, such as one that ended at Hold."""
    if execution["status"] != "SUCCEEDED":
        return None
    try:
        ended = json.loads(execution["output"])
        cause = ended["run"]["cause"]
        detail = json.loads(ended["check"]["outcome"]["events"][0]["Detail"])
        return Told(
            why=detail["why"],
            updates=cause["updates"],
            first_at=from_iso(cause["first_at"]),
            last_at=from_iso(cause["last_at"]),
            objects=tuple(address(example["bucket"], example["key"]) for example in cause["examples"]),
            before=detail["before"],
            after=detail["after"],
        )
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def address(bucket: str, key: str) -> str:
    """The address of an object in S3."""
    return f"s3://{bucket}/{key}"
