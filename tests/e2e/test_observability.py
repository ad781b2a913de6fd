"""The dashboard, alarms, saved queries and documentation name exactly what the functions emit.

One eventful day on the real template: everything that has a metric happens.
"""

import json
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from arcanna_metrics.observability import metrics
from arcanna_metrics.protocol.entry import Claim
from arcanna_metrics.protocol.transitions import claim
from arcanna_metrics.runs.check import first_check
from arcanna_metrics.runs.run import Check, Run
from tests.e2e.scene import (
    CHECK,
    JOB,
    OTHER_JOB,
    OTHER_MODELS,
    TRIGGER,
    TRIGGER_ROLE,
    NewScene,
    Scene,
    alerts,
    edited_settings,
    send,
    settle,
    unreadable_entry,
)
from tests.e2e.steps import CLAIM, DENIED, KILLED_AFTER, SLOT, refused
from tests.support.arcanna.alerts import TYPICAL_ACCURACY, labelled_alerts
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import FOR_EVER, SHORT, Behaviour
from tests.support.deployment import resource
from tests.support.installation import Installation
from tests.support.local_cloud import ApiFault
from tests.support.readme import section, table
from tests.support.runs import a_new_run
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

FUNCTIONS = (TRIGGER, CHECK)
QUERIES = ("RunStoryQuery", "SlowestRunsQuery", "RejectedUpdatesQuery", "FailuresByReasonQuery")
OF_AWS = {
    "AWS/SQS": {
        "ApproximateAgeOfOldestMessage",
        "ApproximateNumberOfMessagesDelayed",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesVisible",
    },
    "AWS/Lambda": {"Duration", "Errors", "Invocations", "Throttles"},
    "AWS/States": {"ExecutionsAborted", "ExecutionsFailed", "ExecutionsTimedOut"},
}
"""Metrics of AWS that alarms and dashboard may use, from AWS's documentation."""

DIMENSION_OF_AWS = {"AWS/SQS": "QueueName", "AWS/Lambda": "FunctionName", "AWS/States": "StateMachineArn"}
OF_THE_WORKFLOW_LOG = {"type", "execution_arn", "details.name", "details.error", "details.cause"}
"""Fields of Step Functions' log events, which the local cloud does not write."""


class Metric(NamedTuple):
    """A metric, as a graph or an alarm names it."""

    namespace: str
    name: str
    dimensions: frozenset[tuple[str, str]]


class Emitted(NamedTuple):
    """What the functions have emitted: the unit of each metric, and their log lines."""

    units: dict[Metric, str]
    lines: list[dict[str, Any]]


@pytest.fixture(scope="module")
def emitted(here: Installation, new_scene: NewScene) -> Emitted:
    _let_a_claim_be_abandoned(new_scene())  # alone: a killed invocation loses its metrics
    _let_everything_go_wrong(here, new_scene)
    went_well = new_scene()
    went_well.upload(body=labelled_alerts(900, TYPICAL_ACCURACY, seed=1))
    (execution,) = went_well.ended(1)
    went_well.upload("more.csv")  # a second run, with something to compare it with
    went_well.ended(2)
    went_well.request(happened_at=execution["run"]["cause"]["first_at"])
    _let_routes_be_edited_badly(new_scene())
    settle(here)
    return _emitted(here)


def _let_everything_go_wrong(here: Installation, new_scene: NewScene) -> None:
    send(here, {"not": "understood"})
    Scene(here, "no such model").request()
    here.upload("elsewhere/alerts.csv", "")
    for fault in (
        Fault("metrics", status=503),  # PlatformUnavailable
        Fault("metrics", fields={"is_recomputing_metrics": "no"}),  # UndocumentedAnswer
        *[Fault("metrics", status=401)] * 3,  # Unauthorised, ApiKeyUnavailable, ApiKeyMissing: see below
    ):
        scene = new_scene()
        scene.meets(fault)
        scene.request()
    empty = "Secrets Manager can't find the specified secret value for staging label: AWSCURRENT"
    for error, message in ((DENIED, "not allowed"), ("ResourceNotFoundException", empty)):
        role = here.cloud.physical_id(TRIGGER_ROLE)
        here.cloud.inject(
            ApiFault("secretsmanager", "GetSecretValue", error, 400, role=role, message=message)
        )
    scene = new_scene()
    CLAIM.meets(refused(), scene)  # AwsUnavailable
    scene.request()
    busy = new_scene()
    busy.behaves(Behaviour(looks=1))
    busy.recompute_by_somebody_else()
    busy.request()
    slow = new_scene()
    slow.long_under_way()
    slow.invoke()
    slow.until_waiting()
    slow.behaves(SHORT)
    edited = new_scene()
    with unreadable_entry(edited):  # UnexpectedErrors
        edited.try_to_invoke()
    _let_old_runs_be_checked(here, new_scene)
    _let_the_active_model_change(here)


def _let_the_active_model_change(here: Installation) -> None:
    """Causes ActiveModelChanged: the model has gone when its metrics are read."""
    before = Scene(here, "generic-1-77-model-3.hdf5", str(OTHER_JOB), active=True)
    here.arcanna.set_active_model(OTHER_JOB, before.model)
    before.meets(Fault("metrics", status=404, slow=2.0))
    before.request()
    eventually("its metrics to be read", lambda: before.requests("metrics"))
    here.arcanna.set_active_model(OTHER_JOB, OTHER_MODELS[-1])


def _let_a_claim_be_abandoned(scene: Scene) -> None:
    """Causes RunsTakenBack."""
    killed = SLOT.meets(KILLED_AFTER, scene)
    scene.try_to_invoke()
    eventually("the kill", lambda: killed.hits)
    scene.until("the claim", lambda entry: entry.run_id)
    scene.let_claim_expire()
    scene.until_fresh()


def _let_old_runs_be_checked(here: Installation, new_scene: NewScene) -> None:
    """Checks and releases a run whose recompute never started, and a run past its deadline."""
    never_started, late = new_scene(), new_scene()
    late.behaves(FOR_EVER)
    late.recompute_by_somebody_else()
    eventually("its start", lambda: late.served()["is_recomputing_metrics"])
    for scene in (never_started, late):
        run, check = _old_run(scene)
        execution = f"arn:aws:states:eu-west-1:123456789012:execution:old:{run['run_id']}"
        of_run = {"run": run, "number": 0}
        scene.ledger.apply(scene.target, claim, Claim(run["run_id"], time.time()))
        here.cloud.invoke(TRIGGER, {"hold": of_run})
        ended = here.cloud.invoke(CHECK, {"execution": execution, "run": run, "check": check})
        here.cloud.invoke(TRIGGER, {"release": {**of_run, "result": ended["outcome"]["result"]}})
    late.behaves(SHORT)


def _old_run(scene: Scene) -> tuple[Run, Check]:
    """A run of yesterday whose model has long been seen idle, and its last check."""
    then = time.time() - 86400
    run = a_new_run(
        scene.target,
        scene.model,
        run_id=str(uuid.uuid4()),
        requested_at=then,
        shortest_poll=1,
        longest_poll=1,
    )
    return run, {**first_check(run), "idle_since": run["requested_at"]}


def _let_routes_be_edited_badly(scene: Scene) -> None:
    """Sets a route without targets. The previous version, with a threshold, stays in force."""
    with edited_settings(scene.here, {"routes": [{"name": "broken"}]}):
        for number in range(5):
            assert scene.posts() == []
            scene.give_feedback(f"{number}.csv", alerts(number))
        (execution,) = scene.ended(1)
    assert execution["run"]["cause"]["updates"] == 5


def _emitted(here: Installation) -> Emitted:
    units: dict[Metric, str] = {}
    lines = []
    for record in here.cloud.log_records(*FUNCTIONS):  # the trigger starts a run
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


def test_documented_metrics_are_exactly_the_emitted_ones(emitted: Emitted) -> None:
    dimensions: dict[str, set[str]] = defaultdict(set)
    for metric in emitted.units:
        dimensions[metric.name] |= {f"by {name.removesuffix('_id')}" for name, _ in metric.dimensions}
    documented = {
        name: re.findall(r"^by \w+", meaning)
        for names, meaning in table(section("What it emits"), "metric")
        for name in re.findall(r"`(\w+)`", names)
    }

    assert documented == {name: sorted(by - {"by service"}) for name, by in dimensions.items()}


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
        above: list[str] = []
        for entry in widget["properties"].get("metrics", ()):
            if "expression" in (options := entry[-1]):
                yield _searched(options["expression"])
                continue
            given = [part for part in entry if isinstance(part, str)]
            above = [above[n] if part == "." else part for n, part in enumerate(given)]
            namespace, name, *pairs = above
            yield Metric(namespace, name, frozenset(zip(pairs[::2], pairs[1::2], strict=True)))


def _widgets(here: Installation) -> list[dict[str, Any]]:
    name = here.cloud.physical_id("Dashboard")
    body = here.cloud.client("cloudwatch").get_dashboard(DashboardName=name)["DashboardBody"]
    return list(json.loads(body)["widgets"])


def _searched(expression: str) -> Metric:
    """The metric that a SEARCH expression finds for the job of these tests."""
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


SEEN_FROM_THE_LEDGER = ("run resumed", "run taken back")
"""Lines with the cause of the latest update, because the ledger does not keep the run's."""


def test_every_log_line_of_a_run_names_run_job_model_cause_and_execution(
    here: Installation, emitted: Emitted
) -> None:
    stories = _stories(emitted)
    assert len(stories) > 5
    for run_id, lines in stories.items():
        assert len({(line["job_id"], line["model_id"]) for line in lines}) == 1
        assert len({line["cause"] for line in lines if line["message"] not in SEEN_FROM_THE_LEDGER}) == 1
        assert [line for line in lines if run_id not in line["execution"]] == []


def test_log_of_a_run_states_its_cause_and_outcome(emitted: Emitted) -> None:
    story = next(lines for lines in _stories(emitted).values() if any(line.get("verdict") for line in lines))
    assert story[0]["message"] == "run started"
    assert story[0]["updates"]["updates"] >= 1
    assert {line["message"] for line in story} >= {"status checked", "model judged"}


def _stories(emitted: Emitted) -> dict[str, list[dict[str, Any]]]:
    """The log lines of each run that an update started. Other tests start executions directly."""
    stories: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in emitted.lines:
        if "run_id" in line and "cause" in line:
            stories[line["run_id"]].append(line)
    return {run: lines for run, lines in stories.items() if lines[0]["message"] == "run started"}


def test_every_log_line_of_a_check_names_its_run(here: Installation) -> None:
    records = [r for r in here.cloud.log_records("CheckStatusFunction") if "message" in r]
    assert records
    assert [r for r in records if "run_id" not in r or "execution" not in r] == []


@pytest.mark.parametrize("name", QUERIES)
def test_saved_query_uses_only_fields_that_are_logged(emitted: Emitted, name: str) -> None:
    _assert_in_the_logs(resource(name)["QueryString"], emitted)


def test_dashboard_queries_use_only_fields_that_are_logged(here: Installation, emitted: Emitted) -> None:
    queries = [w["properties"]["query"] for w in _widgets(here) if w["type"] == "log"]
    assert queries
    for query in queries:
        _assert_in_the_logs(query, emitted)


WORDS = {
    *("fields", "filter", "sort", "limit", "stats", "by", "as", "or", "and", "in", "like", "asc", "desc"),
    *("coalesce", "count", "max", "SOURCE"),
}
"""Words of the query language."""


def _fields(line: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The names of a line's fields as Logs Insights shows them, nested ones with a dot."""
    for name, value in line.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _fields(value, f"{prefix}{name}.")


def _assert_in_the_logs(query: str, emitted: Emitted) -> None:
    """Asserts that log lines have every field of the query, with the values it compares them with."""
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
