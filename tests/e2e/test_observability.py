"""What the dashboard, the alarms, the saved queries and the README name is what the functions emit.

One eventful day on the real template: everything goes well and wrong that has a metric of its own.
"""

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from arcanna_metrics.observability import metrics
from arcanna_metrics.runs.run import first_check
from tests.arcanna.alerts import labelled_alerts
from tests.arcanna.faults import Fault
from tests.arcanna.platform import FOR_EVER, SHORT, Behaviour
from tests.deployment import resource
from tests.e2e.alone import settle
from tests.e2e.conftest import JOB
from tests.e2e.test_main_job import (
    ACCURACY,
    alerts,
    asks,
    edited_routes,
    ended_runs,
    feedback_of,
    key_of,
    ledger_entry,
    send,
)
from tests.harness import Installation, wait_for
from tests.local_cloud import ApiFault
from tests.readme import section, table

pytestmark = pytest.mark.long

FUNCTIONS = ("TriggerRecomputeFunction", "CheckStatusFunction")
QUERIES = ("RunStoryQuery", "SlowestRunsQuery", "RejectedUpdatesQuery", "FailuresByReasonQuery")
OF_AWS = {
    "AWS/SQS": {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
    },
    "AWS/Lambda": {"Duration", "Errors", "Throttles"},
    "AWS/States": {"ExecutionsAborted", "ExecutionsFailed", "ExecutionsTimedOut"},
}
"""Metrics of AWS's own that may be named, as AWS documents them."""

DIMENSION_OF_AWS = {"AWS/SQS": "QueueName", "AWS/Lambda": "FunctionName", "AWS/States": "StateMachineArn"}
OF_THE_WORKFLOW_LOG = {"type", "execution_arn", "details.name", "details.error", "details.cause"}
"""Fields of Step Functions' log events, which the local cloud does not write."""


class Metric(NamedTuple):
    """A metric as a graph or an alarm names it."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]


class Emitted(NamedTuple):
    """What the functions have emitted: the unit of each metric, and their log lines."""

    units: dict[Metric, str]
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def emitted(here: Installation, fresh_model: Callable[[], str]) -> Emitted:
    role = here.cloud.physical_id("TriggerRecomputeFunctionRole")
    _let_everything_go_wrong(here, fresh_model, role)
    went_well = fresh_model()
    here.upload(key_of(went_well), labelled_alerts(900, ACCURACY, seed=1))
    (run,) = ended_runs(here, went_well, 1)
    here.upload(key_of(went_well, "more.csv"), alerts())  # a second run, with something to compare it with
    ended_runs(here, went_well, 2)
    send(here, {"job_id": JOB, "model_id": went_well, "happened_at": run["run"]["cause"]["first_at"]})
    send(here, {"job_id": JOB, "model_id": went_well, "older_than_seconds": 3600})  # UpdatesFresh
    _let_routes_be_edited_badly(here, fresh_model())
    settle(here)
    return _emitted(here)


def _let_everything_go_wrong(here: Installation, fresh_model: Callable[[], str], role: str) -> None:
    send(here, {"not": "understood"})
    send(here, {"job_id": "no such job"})
    send(here, {"job_id": JOB, "model_id": "no such model"})
    here.upload("elsewhere/alerts.csv", "")
    for fault in (
        Fault("metrics", status=503),  # PlatformUnavailable
        Fault("recompute", fields={"status": "splendid"}),  # UndocumentedAnswer
        Fault("metrics", status=401),  # Unauthorised
        Fault("metrics", status=401),  # ApiKeyUnavailable: the secret cannot be read again, for once
    ):
        model = fresh_model()
        here.arcanna.add_fault(Fault(**{**vars(fault), "model_id": model}))
        send(here, {"job_id": JOB, "model_id": model})
    here.cloud.inject(
        ApiFault("secretsmanager", "GetSecretValue", "AccessDeniedException", status=400, role=role)
    )
    model = fresh_model()
    here.cloud.inject(
        ApiFault(
            "dynamodb",
            "UpdateItem",
            "AccessDeniedException",
            status=400,
            role=role,
            where=lambda call: model in json.dumps(call.parameters),
        )
    )
    send(here, {"job_id": JOB, "model_id": model})
    busy = fresh_model()
    here.arcanna.set_behaviour(Behaviour(looks=1), busy)
    here.arcanna.external_recompute(JOB, busy)
    send(here, {"job_id": JOB, "model_id": busy})
    slow = fresh_model()
    here.arcanna.set_behaviour(FOR_EVER, slow)
    here.upload(key_of(slow), alerts())
    wait_for("the recompute", lambda: asks(here, slow))
    here.upload(key_of(slow, "correction.csv"), alerts(2))
    wait_for("the correction's mark", lambda: "pending_at" in ledger_entry(here, slow))
    here.arcanna.set_behaviour(SHORT, slow)
    sample = json.loads((here.samples / "run-ended.json").read_text())["detail"]
    old = json.loads(sample["input"])["run"]
    for seen in (False, True):  # never started; not finished by its deadline
        here.cloud.invoke(
            "CheckStatusFunction",
            {
                "execution": sample["executionArn"],
                "run": old | {"run_id": str(uuid.uuid4()), "model_id": fresh_model()},
                "check": {**first_check([], 1), "seen_recomputing": seen},
            },
        )


def _let_routes_be_edited_badly(here: Installation, model: str) -> None:
    """A route without targets: the version before it stays in force, by which two uploads wait for more."""
    with edited_routes(here, {"routes": [{"name": "broken"}]}):
        here.upload(feedback_of(model, "1.csv"), alerts())
        wait_for("the first upload's mark", lambda: "gathered" in ledger_entry(here, model))
        here.upload(feedback_of(model, "2.csv"), alerts(2))  # UpdatesGathered
        (run,) = ended_runs(here, model, 1)
    assert run["run"]["cause"]["updates"] == 2


def _emitted(here: Installation) -> Emitted:
    units: dict[Metric, str] = {}
    lines = []
    for record in (record for name in FUNCTIONS for record in here.cloud.log_records(name)):
        if "_aws" not in record:
            lines.append(record)
            continue
        for directive in record["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = frozenset((name, record[name]) for name in names)
                for metric in directive["Metrics"]:
                    units[Metric(directive["Namespace"], metric["Name"], dimensions)] = metric["Unit"]
    return Emitted(units, lines)


# --- Metrics ---------------------------------------------------------------------------------------------


def test_every_metric_of_an_alarm_is_emitted(here: Installation, emitted: Emitted) -> None:
    named = list(_of_alarms(here))
    assert len(named) >= 6
    assert [metric for metric in named if not _is_emitted(metric, here, emitted)] == []


def test_every_metric_of_the_dashboard_is_emitted(here: Installation, emitted: Emitted) -> None:
    named = list(_of_dashboard(here))
    assert len(named) >= 30
    assert [metric for metric in named if not _is_emitted(metric, here, emitted)] == []


def test_the_readme_documents_what_is_emitted_and_nothing_else(emitted: Emitted) -> None:
    found: dict[str, str] = defaultdict(str)
    for metric, unit in emitted.units.items():
        by = "".join(f", by {n.removesuffix('_id')}" for n, _ in metric.dimensions if n != "service")
        found[metric.name] = max(found[metric.name], unit + by, key=len)
    documented = {
        name: unit
        for names, unit, _ in table(section("What it emits"), "Metric")
        for name in re.findall(r"`(\w+)`", names)
    }
    assert documented == dict(found)


def test_the_readme_counts_what_is_billed(emitted: Emitted) -> None:
    by_job = {m.name for m in emitted.units if "job_id" in dict(m.dimensions)}
    of_all = {m.name for m in emitted.units if len(m.dimensions) == 1}
    found = re.search(r"That is (\d+) metrics, .*and (\d+) more for each job", section("What it emits"))
    assert found
    assert (int(found[1]), int(found[2])) == (len(of_all), len(by_job))


def test_no_metric_has_the_model_as_a_dimension(here: Installation, emitted: Emitted) -> None:
    assert {frozenset(dict(m.dimensions)) for m in emitted.units} == {
        frozenset({"service"}),
        frozenset({"service", "job_id"}),
        frozenset({"service", "reason"}),
    }
    assert {m.namespace for m in emitted.units} == {metrics.namespace}


def _of_alarms(here: Installation) -> Iterator[Metric]:
    for alarm in here.cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]:
        single = [alarm] if "MetricName" in alarm else []
        for metric in [*single, *(m["MetricStat"]["Metric"] for m in alarm["Metrics"] if "MetricStat" in m)]:
            dimensions = frozenset((d["Name"], d["Value"]) for d in metric["Dimensions"])
            yield Metric(metric["Namespace"], metric["MetricName"], dimensions)


def _of_dashboard(here: Installation) -> Iterator[Metric]:
    for widget in _widgets(here):
        for entry in widget["properties"].get("metrics", ()):
            match entry:
                case [{"expression": str(expression)}]:
                    yield _searched(expression)
                case [namespace, name, *pairs]:
                    named = [p for p in pairs if isinstance(p, str)]
                    yield Metric(namespace, name, frozenset(zip(named[::2], named[1::2], strict=True)))


def _widgets(here: Installation) -> list[dict[str, Any]]:
    name = here.cloud.physical_id("Dashboard")
    body = here.cloud.client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]
    return list(json.loads(body)["widgets"])


def _searched(expression: str) -> Metric:
    """A metric that a SEARCH finds, for the job of these tests and a reason where it leaves these open."""
    found = re.match(r"SEARCH\('\{([\w,]+)\} service=\"(.+)\" MetricName=\"(\w+)\"'", expression)
    assert found, expression
    namespace, *names = found[1].split(",")
    values = {"service": found[2], "job_id": str(JOB), "reason": "Rejected"}
    return Metric(namespace, found[3], frozenset((name, values[name]) for name in names))


def _is_emitted(metric: Metric, here: Installation, emitted: Emitted) -> bool:
    if metric.namespace not in OF_AWS:
        return metric in emitted.units
    ((dimension, value),) = metric.dimensions
    deployed = {here.cloud.physical_id(n) for n in (*FUNCTIONS, "RecomputeWorkflow")}
    deployed |= {here.cloud.physical_id(n).rpartition("/")[2] for n in ("UpdatesQueue", "DeadLetterQueue")}
    return (
        metric.name in OF_AWS[metric.namespace]
        and dimension == DIMENSION_OF_AWS[metric.namespace]
        and value in deployed
    )


# --- Logs ------------------------------------------------------------------------------------------------


def test_every_line_of_a_run_names_run_job_model_cause_and_execution(
    here: Installation, emitted: Emitted
) -> None:
    stories = _stories(emitted)
    assert len(stories) > 5
    for run_id, lines in stories.items():
        assert len({(line["job_id"], line["model_id"], line["cause"]) for line in lines}) == 1
        assert [line for line in lines if run_id not in line["execution"]] == []


def test_a_run_s_lines_tell_what_caused_it_and_how_it_ended(emitted: Emitted) -> None:
    story = next(lines for lines in _stories(emitted).values() if lines[-1].get("verdict"))
    assert story[0]["message"] == "run started"
    assert story[0]["updates"]["updates"] >= 1
    assert story[-1]["message"] == "model judged"


def _stories(emitted: Emitted) -> dict[str, list[dict[str, Any]]]:
    """The lines of each run that an update started: other tests start executions by themselves."""
    stories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in emitted.lines:
        if "run_id" in line:
            stories[line["run_id"]].append(line)
    return {run: lines for run, lines in stories.items() if lines[0]["message"] == "run started"}


def test_every_line_of_a_check_is_of_a_run(here: Installation) -> None:
    records = [r for r in here.cloud.log_records("CheckStatusFunction") if "message" in r]
    assert records
    assert [r for r in records if "run_id" not in r or "execution" not in r] == []


@pytest.mark.parametrize("name", QUERIES)
def test_a_saved_query_names_what_is_in_the_logs(emitted: Emitted, name: str) -> None:
    _assert_in_the_logs(resource(name)["QueryString"], emitted)


def test_the_queries_of_the_dashboard_name_what_is_in_the_logs(here: Installation, emitted: Emitted) -> None:
    queries = [w["properties"]["query"] for w in _widgets(here) if w["type"] == "log"]
    assert queries
    for query in queries:
        _assert_in_the_logs(query, emitted)


WORDS = {
    *("fields", "filter", "sort", "limit", "stats", "by", "as", "or", "and", "in", "like", "asc", "desc"),
    *("coalesce", "count", "max", "SOURCE"),
}
"""Of the query language."""


def _fields(line: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of a line's fields as Logs Insights finds them, those within others after a dot."""
    for name, value in line.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{name}.")


def _assert_in_the_logs(query: str, emitted: Emitted) -> None:
    """Every field is one of a log line's, and what it is compared with is one of its values."""
    query = re.sub(r"^#.*$|'[^']*'", "", query, flags=re.MULTILINE)
    compared = re.findall(r"([\w.]+) (?:=|in) (\"[^\"]*\"|\[[^\]]*\])", query)
    aliases = set(re.findall(r" as (\w+)", query))
    without_values = re.sub(r'"[^"]*"', "", query)
    names = set(re.findall(r"(?<!@)\b[A-Za-z_][\w.]*", without_values)) - WORDS - aliases
    seen = {field for line in emitted.lines for field in _fields(line)}
    assert names - seen - OF_THE_WORKFLOW_LOG == set()
    for field, values in compared:
        for value in re.findall(r'"([^"]*)"', values):
            known = field in OF_THE_WORKFLOW_LOG or value == "RUN_ID"
            assert known or any(line.get(field) == value for line in emitted.lines), (field, value)
