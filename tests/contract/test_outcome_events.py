"""Outcome events match the published schemas and fit into AWS's limits."""

import json
import re
from typing import Any

import pytest

from arcanna_metrics.controller.start import new_run
from arcanna_metrics.protocol.entry import Claim, Entry, Waiting
from arcanna_metrics.protocol.transitions import HISTORY_LENGTH
from arcanna_metrics.runs.check import first_check
from arcanna_metrics.runs.completion import Judgement
from arcanna_metrics.runs.outcome import (
    LARGEST_METRICS,
    NOT_CHECKED,
    RUNBOOK,
    VERSION,
    Ending,
    NewMetrics,
    completed,
    console_link,
    failed,
    fitting,
)
from arcanna_metrics.runs.quality import Assessment, Difference, Rules, Verdict, assess, learned, measured
from arcanna_metrics.runs.run import Cause, Check, Object, Outcome, Run
from arcanna_metrics.settings import JobSettings
from arcanna_metrics.targets import ID_LENGTH, Example, Target
from arcanna_metrics_cli.commands.settings import LARGEST
from tests.support import doubles
from tests.support.deployment import ROOT, template
from tests.support.doubles import metrics_body
from tests.support.outcome_events import SCHEMAS, check_schema, validate_entry
from tests.support.readme import anchor_of, runbook
from tests.support.runs import BUS, EXECUTION, REQUESTED_AT, a_run, origin

MOST_DATA = 256 * 1024
"""The largest size of an execution's data, and of the entries of one PutEvents call, in bytes."""

RUN = a_run()
AFTER = metrics_body(last_recomputed_timestamp="2025-01-15T14:33:00Z", overall_accuracy=0.7)
REGRESSED: Assessment = {
    "verdict": "regressed",
    "why": "overall_accuracy 0.75 -> 0.7",
    "differences": [
        {"figure": "overall_accuracy", "before": 0.75, "after": 0.7, "change": -0.05, "samples": 4}
    ],
}
ENDING = Ending(polls=4, active_changed=False, shown=AFTER)
OUTCOMES: dict[str, Outcome] = {
    "completed": completed(
        RUN,
        ENDING,
        NewMetrics(180.0, REGRESSED | {"verdict": "unchanged"}, {}),
        origin(400),
    ),
    "regressed": completed(RUN, ENDING, NewMetrics(180.0, REGRESSED, {}), origin(400)),
    "failed": failed(RUN, ENDING, Judgement("failed", "NoNewResult", "Look for the error."), origin(400)),
    "timed_out": failed(RUN, ENDING, Judgement("timed_out", "DeadlinePassed", "Too long."), origin(400)),
    "not_checked": failed(RUN, Ending(4, {}), NOT_CHECKED, origin()),
}


def detail_of(schema: dict[str, Any]) -> dict[str, Any]:
    detail: dict[str, Any] = schema["properties"]["detail"]
    return detail


# --- The schemas -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_is_valid_json_schema(name: str) -> None:
    check_schema(SCHEMAS[name])


@pytest.mark.parametrize("name", SCHEMAS)
def test_published_schema_allows_new_fields_and_the_tests_do_not(name: str) -> None:
    published = (ROOT / "events/schemas" / f"{name}.json").read_text()
    assert "additionalProperties" not in published
    assert detail_of(SCHEMAS[name])["additionalProperties"] is False


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_requires_every_field_and_states_the_codes_version(name: str) -> None:
    detail = detail_of(SCHEMAS[name])
    assert set(detail["required"]) == set(detail["properties"])
    assert detail["properties"]["version"]["const"] == VERSION


def test_every_outcome_has_one_schema_and_vice_versa() -> None:
    titles = {name: schema["properties"]["detail-type"]["const"] for name, schema in SCHEMAS.items()}
    built = {entry["DetailType"] for outcome in OUTCOMES.values() for entry in outcome["events"]}

    assert set(titles.values()) == built
    assert all(name == title.lower().replace(" ", "-") for name, title in titles.items())


def test_schema_verdicts_are_those_of_the_code() -> None:
    words = detail_of(SCHEMAS["recompute-completed"])["properties"]["verdict"]["enum"]
    assert tuple(words) == Verdict.__args__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("part", "typed"), [("cause", Cause), ("object", Object), ("difference", Difference)]
)
def test_schema_parts_have_the_fields_of_the_code(part: str, typed: Any) -> None:
    parts = [schema["$defs"][part] for schema in SCHEMAS.values() if part in schema["$defs"]]

    assert parts
    for each in parts:
        assert set(each["required"]) == set(typed.__annotations__)


# --- What is built ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "detail_types"),
    [
        ("completed", ["Recompute Completed"]),
        ("regressed", ["Recompute Completed", "Model Metrics Regressed"]),
        ("failed", ["Recompute Failed"]),
        ("timed_out", ["Recompute Failed"]),
        ("not_checked", ["Recompute Failed"]),
    ],
)
def test_every_outcome_event_matches_its_schema(ending: str, detail_types: list[str]) -> None:
    entries = OUTCOMES[ending]["events"]
    assert [entry["DetailType"] for entry in entries] == detail_types
    for entry in entries:
        assert entry["EventBusName"] == BUS
        detail = validate_entry(entry)
        assert (detail["run_id"], detail["execution"]) == ("run-1", EXECUTION)
        assert detail["cause"] == RUN["cause"]


@pytest.mark.parametrize("ending", OUTCOMES)
def test_outcome_is_notified_unless_it_is_good(ending: str) -> None:
    notification = OUTCOMES[ending]["notification"]
    assert (notification is None) == (ending == "completed")
    if notification:
        assert "What to do: " in notification["message"]
        assert f"Execution: {console_link(EXECUTION)}" in notification["message"]


@pytest.mark.parametrize(
    ("partition", "region", "host"),
    [
        ("aws", "eu-central-1", "eu-central-1.console.aws.amazon.com"),
        ("aws-cn", "cn-north-1", "cn-north-1.console.amazonaws.cn"),
        ("aws-us-gov", "us-gov-west-1", "us-gov-west-1.console.amazonaws-us-gov.com"),
    ],
)
def test_execution_is_linked_to_the_console_of_its_partition(partition: str, region: str, host: str) -> None:
    arn = f"arn:{partition}:states:{region}:123456789012:execution:workflow:run-1"
    link = f"https://{host}/states/home?region={region}#/v2/executions/details/{arn}"
    assert console_link(arn) == link


def test_notifications_and_outputs_link_to_the_same_consoles() -> None:
    for partition, console in template()["Mappings"]["Console"].items():
        link = console_link(f"arn:{partition}:states:r:123456789012:execution:workflow:run-1")
        assert link.startswith(f"https://r.{console['Domain']}/")


@pytest.mark.parametrize("ending", OUTCOMES)
def test_result_for_the_ledger_states_the_outcome(ending: str) -> None:
    result = OUTCOMES[ending]["result"]
    assert result["outcome"] == ("completed" if ending == "regressed" else ending)
    ended = ending in ("completed", "regressed")
    assert (result["past_run"] is not None) == (result["failure"] is None) == ended


@pytest.mark.parametrize("model_id", ["m", "мodel\n" * 40, "m" * 300, None, "\u2028" * 120])
def test_notification_subject_is_one_short_ascii_line(model_id: str | None) -> None:
    """SNS takes less than 100 characters. https://docs.aws.amazon.com/sns/latest/api/API_Publish.html"""
    for outcome in (
        completed(a_run(model_id=model_id), ENDING, NewMetrics(1.0, REGRESSED, {}), origin()),
        failed(a_run(model_id=model_id), Ending(4, {}), NOT_CHECKED, origin()),
    ):
        assert outcome["notification"] is not None
        subject = outcome["notification"]["subject"]
        assert subject.isascii()
        assert subject.isprintable()
        assert len(subject) < 100


@pytest.mark.parametrize("ending", OUTCOMES)
def test_notification_names_an_existing_runbook_section(ending: str) -> None:
    notification = OUTCOMES[ending]["notification"]
    if notification:
        ((page, anchor),) = re.findall(r"^Runbook: (\S+)#(\S+)$", notification["message"], re.MULTILINE)
        assert page == RUNBOOK == template()["Mappings"]["Documentation"]["Runbook"]["Address"]
        assert anchor in map(anchor_of, runbook())


# --- What is too large -----------------------------------------------------------------------------------


def test_metrics_that_fit_are_unchanged() -> None:
    assert fitting(AFTER) == AFTER


def test_metrics_that_do_not_fit_keep_the_overall_scores() -> None:
    large = {**AFTER, "buckets_in_kb": "b" * LARGEST_METRICS}
    kept = fitting(large)
    assert kept["overall_accuracy"] == 0.7
    assert kept["last_recomputed_timestamp"] == "2025-01-15T14:33:00Z"
    assert kept["metrics_per_decision"] is None
    assert kept.keys() == AFTER.keys()


def large_metrics(name: str, number: int, score: float) -> dict[str, Any]:
    counts = {"true_positives": 1000, "false_positives": 10, "false_negatives": 10}
    scores = {"recall": score, "precision": score, "f1_score": score}
    decisions = {f"{name}{number:03}": scores | counts for number in range(number)}
    return metrics_body(overall_accuracy=score, metrics_per_decision=decisions)


@pytest.mark.parametrize(
    ("name", "decisions"),
    [
        ("Decision ", 290),
        ("判定" * 20, 190),
        ('"' * 10, 270),
        ("\\" * 50, 180),
        ("d" * 5000, 8),
        ("\x01" * 20, 160),
    ],
)
def test_largest_run_fits_into_an_execution_and_one_put_events_call(name: str, decisions: int) -> None:
    """Each part of the data at the end of the execution is as large as it can be."""
    before = large_metrics(name, decisions, 0.9)
    assert 0.8 * LARGEST_METRICS < len(json.dumps(before, ensure_ascii=False).encode()) <= LARGEST_METRICS
    run, ended = follow(before, large_metrics(name, decisions, 0.5))
    data = {"run": run, "check": ended, "number": 3, "hold": {"held": True}}
    assert len(json.dumps(data, ensure_ascii=False).encode()) < 0.95 * MOST_DATA
    assert ended["outcome"] is not None
    entries = ended["outcome"]["events"]
    assert len(entries) == 2
    assert sum(len(entry["Detail"].encode()) for entry in entries) < MOST_DATA
    for entry in entries:
        validate_entry(entry)
    after = validate_entry(entries[0])["after"]
    assert name.startswith(('"', "\\")) or after["metrics_per_decision"] is not None
    assert len(json.dumps({"run": run, "check": first_check(run)}).encode()) < 200 * 1024


def follow(before: dict[str, Any], after: dict[str, Any]) -> tuple[Run, Check]:
    """The data of a run with the longest ids, causes, references and rules, after its last check."""
    examples = [Example("b" * 63, "\x01" * 800, "v" * 1024)] * 5
    # As much as settings of 8 KB hold, of characters that need most room as JSON.
    drops = {f"{chr(0x1F600) * 25}{number}.recall": 0.02 for number in range(60)}
    gate: dict[str, Any] = {
        "largest_drop": {**drops, "*.recall": 0.02},
        "floor": {},
        "minimum_samples": 1,
    }
    assert LARGEST - 1024 < len(json.dumps({"quality_gate": gate}, ensure_ascii=False).encode()) < LARGEST
    rules = Rules(**gate)
    longest = "д" * ID_LENGTH
    claimed = Entry(
        Target(longest, None),
        waiting=Waiting(cause="к" * ID_LENGTH, updates=10**6, examples=tuple(examples)),
        history=({"duration_seconds": 1234.567},) * HISTORY_LENGTH,  # type: ignore[arg-type]  # all that counts
    )
    reference = learned(None, measured(before, rules), rules)
    run = new_run(claimed, Claim("r" * 80, REQUESTED_AT), JobSettings(doubles.PACE, gate))
    run = {**run, "model_id": longest, "baseline": fitting(before), "reference": reference}
    quality = assess(before, after, rules, reference, cut_short=False)
    assert quality["verdict"] == "regressed"
    ending = Ending(2000, active_changed=False, shown=after)
    outcome = completed(
        run, ending, NewMetrics(3600.0, quality, learned({}, measured(after, rules), rules)), origin(400)
    )
    check = first_check(run)
    return run, {**check, "status": "completed", "detail": "The metrics are new", "outcome": outcome}
