"""Log lines and metrics."""

import json
import logging
import re
import time
from typing import Any

import pytest

from arcanna_metrics.errors import Unauthorised
from arcanna_metrics.observability import count, gauges, log_error, logger, metrics
from arcanna_metrics.runs import outcome
from arcanna_metrics.runs.check import first_check
from arcanna_metrics.runs.completion import Judgement
from arcanna_metrics.runs.outcome import Ending, NewMetrics, completed, failed
from arcanna_metrics.runs.quality import Assessment, Verdict
from arcanna_metrics.runs.run import Check, Outcome, Result
from arcanna_metrics.runs.telemetry import run_checked, run_ended
from arcanna_metrics.times import from_iso
from tests.support.doubles import Logs
from tests.support.runs import REQUESTED_AT, a_run, origin

RUN = a_run()
ENDED_AT = REQUESTED_AT + 200.0
RUNNING = first_check(RUN)
ENDING = Ending(polls=4, active_changed=False, shown={"overall_accuracy": 0.9, "overall_recall": None})


def judged(verdict: Verdict) -> Assessment:
    return {"verdict": verdict, "why": "Escalate.recall fell", "differences": []}


def ended(status: Any, told: Outcome) -> Check:
    return {**RUNNING, "status": status, "detail": "The detail", "polls": 4, "outcome": told}


def completed_check(verdict: Verdict) -> Check:
    new = NewMetrics(180.0, judged(verdict), {})
    return ended("completed", completed(RUN, ENDING, new, origin(200)))


COMPLETED = completed_check("regressed")


def result_of(check: Check) -> Result:
    assert check["outcome"]
    return check["outcome"]["result"]


def failed_because(reason: str) -> Check:
    return ended("failed", failed(RUN, ENDING, Judgement("failed", reason, "Look."), origin(200)))


FAILED = failed_because("NoNewResult")
TIMED_OUT = ended(
    "timed_out", failed(RUN, ENDING, Judgement("timed_out", "DeadlinePassed", "Late."), origin(200))
)
NOT_CHECKED = ended("failed", failed(RUN, ENDING, outcome.NOT_CHECKED, origin(200)))


@pytest.fixture(autouse=True)
def _no_metrics_of_other_tests() -> None:
    metrics.clear_metrics()


def emitted(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The EMF documents printed so far: values, dimensions and units, without envelopes."""
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    shown = []
    for document in documents:
        (envelope,) = document.pop("_aws")["CloudWatchMetrics"]
        assert envelope["Namespace"] == "ArcannaMetrics"
        units = {metric["Name"]: metric["Unit"] for metric in envelope["Metrics"]}
        shown.append({**document, "dimensions": envelope["Dimensions"], "units": units})
    return shown


def test_count_has_only_the_service_as_dimension(capsys: pytest.CaptureFixture[str]) -> None:
    count("UpdatesReceived", 3)
    count("UpdatesReceived")
    metrics.flush_metrics()

    assert emitted(capsys) == [
        {
            "service": "tests",
            "UpdatesReceived": [3.0, 1.0],
            "dimensions": [["service"]],
            "units": {"UpdatesReceived": "Count"},
        }
    ]


def test_gauges_are_targets_due_slots_taken_and_oldest_update(capsys: pytest.CaptureFixture[str]) -> None:
    gauges(due=3, oldest=12.5, running=2)
    metrics.flush_metrics()
    assert emitted(capsys) == [
        {
            "service": "tests",
            "TargetsDue": [3.0],
            "SlotsTaken": [2.0],
            "OldestUpdateAge": [12.5],
            "dimensions": [["service"]],
            "units": {"TargetsDue": "Count", "SlotsTaken": "Count", "OldestUpdateAge": "Seconds"},
        }
    ]


def test_check_without_an_answer_is_counted_by_reason_and_logged(
    capsys: pytest.CaptureFixture[str], logs: Logs
) -> None:
    log_error("status check failed", Unauthorised("no"))
    metrics.flush_metrics()
    (shown,) = emitted(capsys)
    assert shown["units"] == {"Unauthorised": "Count"}
    (line,) = logs.lines
    assert (line["level"], line["reason"], line["detail"]) == ("WARNING", "Unauthorised", "no")


def test_check_of_a_running_recompute_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    run_checked(RUN, RUNNING, ENDED_AT)
    metrics.flush_metrics()
    (shown,) = emitted(capsys)

    assert shown["dimensions"] == [["service"]]
    assert shown["units"] == {"StatusChecks": "Count"}


def test_completed_run_emits_lag_duration_accuracy_and_verdict(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_ended(RUN, result_of(COMPLETED))
    (shown,) = emitted(capsys)
    assert shown == {
        "service": "tests",
        "job_id": "1234",
        "FreshnessLag": [240.0],
        "RunDuration": [180.0],
        "OverallAccuracy": [0.9],
        "QualityVerdict": [-1.0],
        "dimensions": [["job_id", "service"]],
        "units": {
            "FreshnessLag": "Seconds",
            "RunDuration": "Seconds",
            "OverallAccuracy": "None",
            "QualityVerdict": "None",
        },
    }


def test_failed_start_is_counted_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    run_ended(RUN, result_of(failed_because("NeverStarted")))
    (shown,) = emitted(capsys)
    assert shown == {
        "service": "tests",
        "reason": "NeverStarted",
        "RunsFailed": [1.0],
        "dimensions": [["reason", "service"]],
        "units": {"RunsFailed": "Count"},
    }


def test_dimension_is_printable_ascii_of_allowed_length(capsys: pytest.CaptureFixture[str]) -> None:
    named = a_run(job_id="Erkennung für 日本\n" + "é" * 240)
    run_ended(named, result_of(COMPLETED))
    run_ended(RUN, result_of(failed_because("Übel")))
    of_job, of_failure = emitted(capsys)
    assert of_job["job_id"].startswith("Erkennung f\\xfcr \\u65e5\\u672c\\n")
    for value in (of_job["job_id"], of_failure["reason"]):
        assert value.isascii()
        assert value.isprintable()
        assert len(value) <= 1024


@pytest.mark.parametrize(
    ("verdict", "figure"), [("improved", [1.0]), ("unchanged", [0.0]), ("regressed", [-1.0])]
)
def test_verdict_is_emitted_as_a_number(
    capsys: pytest.CaptureFixture[str], verdict: Verdict, figure: list[float]
) -> None:
    run_ended(RUN, result_of(completed_check(verdict)))
    (shown,) = emitted(capsys)
    assert shown["QualityVerdict"] == figure


def test_missing_verdict_is_not_emitted(capsys: pytest.CaptureFixture[str]) -> None:
    run_ended(RUN, result_of(completed_check("not_judged")))
    (shown,) = emitted(capsys)
    assert "QualityVerdict" not in shown


@pytest.mark.parametrize(
    ("check", "metric"),
    [
        (COMPLETED, "RecomputesCompleted"),
        (FAILED, "RecomputesFailed"),
        (TIMED_OUT, "RecomputesTimedOut"),
        (NOT_CHECKED, "RecomputesFailed"),
    ],
)
def test_end_of_a_run_is_counted_without_the_job_dimension(
    capsys: pytest.CaptureFixture[str], check: Check, metric: str
) -> None:
    run_ended(RUN, result_of(check))
    metrics.flush_metrics()
    shown = emitted(capsys)[-1]

    assert (shown[metric], shown["PollsPerRun"]) == ([1.0], [4.0])
    assert shown["dimensions"] == [["service"]]


@pytest.mark.parametrize(("check", "reason"), [(FAILED, "NoNewResult"), (TIMED_OUT, "DeadlinePassed")])
def test_failed_or_timed_out_run_is_counted_by_reason(
    capsys: pytest.CaptureFixture[str], check: Check, reason: str
) -> None:
    run_ended(RUN, result_of(check))
    (shown,) = emitted(capsys)
    assert (shown["reason"], shown["RunsFailed"]) == (reason, [1.0])


@pytest.mark.parametrize(
    ("check", "reason"), [(RUNNING, "running"), (COMPLETED, "completed"), (FAILED, "NoNewResult")]
)
def test_check_is_logged_with_status_and_reason(logs: Logs, check: Check, reason: str) -> None:
    run_checked(RUN, check, ENDED_AT)
    (line,) = logs.lines

    assert (line["message"], line["reason"], line["elapsed_seconds"]) == ("status checked", reason, 200.0)
    assert [line[name] for name in ("status", "detail", "polls", "wait_seconds")] == [
        check["status"],
        check["detail"],
        check["polls"],
        check["wait_seconds"],
    ]


def test_http_libraries_never_log_a_request_whatever_the_level() -> None:
    # Lambda sets the level of the root logger. httpcore's DEBUG lines quote the headers of responses.
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    try:
        assert not any(logging.getLogger(n).isEnabledFor(logging.INFO) for n in ("httpx", "httpcore.http11"))
    finally:
        logging.getLogger().setLevel(before)


def test_log_timestamp_is_in_the_format_lambda_reads(logs: Logs) -> None:
    """Lambda treats a JSON log line as level INFO if its timestamp does not follow RFC 3339."""
    before = time.time()
    logger.warning("the time")
    (line,) = logs.lines

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", line["timestamp"])
    assert from_iso(line["timestamp"]) == pytest.approx(before, abs=60)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("steers", ["", "\x1b[2J", "\x9b31m", "\u202e", "\x00", "\x7f", '", "forged": "'])
def test_control_characters_in_a_value_stay_inside_one_log_line(logs: Logs, end: str, steers: str) -> None:
    text = f'bär{steers}{end}{{"level": "ERROR", "message": "forged"}}'
    logger.info("no route", extra={"key": text})
    logger.warning("status check failed", extra={"detail": {text: [text]}})
    written = logs.stream.getvalue()
    assert written.count("\n") == 2
    assert written.isascii()
    assert written.replace("\n", "").isprintable()
    first, second = logs.lines
    assert (first["message"], first["key"]) == ("no route", text)
    assert (second["message"], second["detail"]) == ("status check failed", {text: [text]})
