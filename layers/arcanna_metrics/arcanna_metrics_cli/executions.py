"""Reads runs out of the workflow's executions and their events."""

import json
from collections.abc import Mapping
from typing import Any

from arcanna_metrics.runs.quality import in_words, scores
from arcanna_metrics.runs.run import Run
from arcanna_metrics.times import from_iso
from arcanna_metrics_cli.entries import UnderWay


def under_way(execution: Mapping[str, Any]) -> UnderWay:
    """The run in an execution's input."""
    run: Run = json.loads(execution["input"])["run"]
    return UnderWay(run["model_id"], from_iso(run["cause"]["first_at"]), run["cause"]["updates"])


def told(event: Mapping[str, Any]) -> str | None:
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


def judgement(execution: Mapping[str, Any]) -> str:
    """Why a completed run has its verdict, and its scores if it has any; empty if no outcome was told."""
    if execution["status"] != "SUCCEEDED":
        return ""
    events = json.loads(execution["output"])["check"]["outcome"]["events"]
    detail = json.loads(events[0]["Detail"])
    told = detail["before"], detail["after"]
    known = any(value is not None for metrics in told for value in scores(metrics).values())
    return f"{detail['why']} ({in_words(*told)})" if known else str(detail["why"])
