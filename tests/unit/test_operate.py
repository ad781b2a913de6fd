"""What operators are told, by what AWS answers."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcanna_metrics.coverage import Entry
from arcanna_metrics.errors import NO_WAY, ConfigurationError
from arcanna_metrics.gathering import mark
from arcanna_metrics.intake.events import read_json
from arcanna_metrics.platform.key import NOT_ALLOWED
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from tests.operate import checks, letters, models, routing, view

NOW = 1_750_000_000.0
MARGIN = 5.0
SCORES = {"overall_accuracy": 0.9, "overall_f1_score": 0.8, "overall_recall": 0.7, "overall_precision": 0.6}


def past(requested_at: float, verdict: str = "improved") -> dict[str, Any]:
    return {
        "run_id": f"run-of-{requested_at}",
        "cause": "upload",
        "requested_at": to_iso(requested_at),
        "duration_seconds": 12.5,
        "polls": 3,
        "verdict": verdict,
        "scores": SCORES,
    }


def failure(requested_at: float) -> dict[str, Any]:
    return {
        "run_id": f"run-of-{requested_at}",
        "cause": "schedule",
        "requested_at": to_iso(requested_at),
        "ended_at": to_iso(requested_at + 60),
        "polls": Decimal(2),
        "status": "failed",
        "reason": "NoNewResult",
        "detail": "It ended and left the metrics as they were",
    }


def item(claimed_at: float = NOW - 500.5, **attributes: Any) -> dict[str, Any]:
    """A model's item of the ledger; times are given as epoch seconds."""
    written = {n: to_iso(value) if isinstance(value, float) else value for n, value in attributes.items()}
    key = {"job_id": "1234", "model_id": "m"}
    return {**key, "claimed_at": to_iso(claimed_at), **written}


def completed(**attributes: Any) -> dict[str, Any]:
    """The item after a run that was claimed 500.5 s ago and ended 400 s ago."""
    return item(
        covered_until=NOW - 500.5,
        last_run_id="one",
        last_outcome="completed",
        last_ended_at=NOW - 400,
        history=json.dumps([past(NOW - 500.5)]),
        **attributes,
    )


# --- How a model stands ----------------------------------------------------------------------------------


def test_after_a_completed_run_the_metrics_are_fresh_since_its_end() -> None:
    row = models.standing(completed(), NOW, MARGIN)
    assert (row.fresh, row.since) == (True, NOW - 400)
    assert (row.outcome, row.ended_at, row.scores) == ("completed\nimproved", NOW - 400, SCORES)
    assert (row.running_since, row.waiting, row.until) == (None, [], None)


def test_during_a_run_they_are_stale_since_its_first_update() -> None:
    held = completed(run_id="two", requested_at=NOW - 30, lease_expires_at=NOW + 100)
    held["claimed_at"] = held["requested_at"]
    row = models.standing(held, NOW, MARGIN, first_at=NOW - 60)
    assert (row.fresh, row.since, row.why) == (False, NOW - 60, "a run is under way")
    assert row.running_since == NOW - 30
    assert models.standing(held, NOW, MARGIN).since == NOW - 30


def test_a_claim_that_is_no_run_yet_is_told_as_such() -> None:
    row = models.standing(item(claimed_at=NOW - 3, run_id="two", lease_expires_at=NOW + 100.0), NOW, MARGIN)
    assert (row.fresh, row.since, row.why) == (False, NOW - 3, "a run is being started")
    assert row.running_since == NOW - 3


def test_an_update_that_waits_for_the_next_run_makes_them_stale() -> None:
    row = models.standing(completed(pending_at=NOW - 450), NOW, MARGIN)
    assert (row.fresh, row.since, row.waiting) == (False, NOW - 450, [NOW - 450])
    running = completed(pending_at=NOW - 5, run_id="two", requested_at=NOW - 30, lease_expires_at=NOW + 100.0)
    assert models.standing(running, NOW, MARGIN).waiting == [NOW - 5]


def test_after_a_failed_run_they_are_stale_and_the_scores_are_the_old_ones() -> None:
    failed = completed() | {
        "last_failure": failure(NOW - 100),
        "last_outcome": "failed: NoNewResult",
        "claimed_at": to_iso(NOW - 100),
    }
    row = models.standing(failed, NOW, MARGIN)
    assert (row.fresh, row.since, row.why) == (False, NOW - 100, "the last run failed: NoNewResult")
    assert (row.outcome, row.scores) == ("failed: NoNewResult", SCORES)


def test_a_failure_before_the_last_completed_run_is_history() -> None:
    assert models.standing(completed(last_failure=failure(NOW - 900)), NOW, MARGIN).fresh


@pytest.mark.parametrize(
    "attributes",
    [{"pending_at": NOW - 60}, {"run_id": "two", "lease_expires_at": NOW - 1}],
    ids=["given back", "died with it"],
)
def test_a_claim_that_came_to_nothing_makes_them_stale(attributes: dict[str, Any]) -> None:
    row = models.standing(completed() | item(claimed_at=NOW - 60, **attributes), NOW, MARGIN)
    assert (row.fresh, row.since) == (False, NOW - 60)
    assert "came to nothing" in row.why
    assert row.running_since is None


def test_updates_that_wait_to_be_enough_make_them_stale_and_what_is_covered_does_not() -> None:
    covered = mark(NOW - 510, 7, "an upload that came twice")
    assert models.standing(completed(gathered={covered}), NOW, MARGIN).fresh
    marks = {covered, mark(NOW - 60, 7, "a"), mark(NOW - 20, 7, "b")}
    row = models.standing(completed(gathered=marks, wake_at=NOW + 300), NOW, MARGIN)
    assert (row.fresh, row.since) == (False, NOW - 60)
    assert (row.waiting, row.until) == ([NOW - 60, NOW - 20], NOW + 300)


def test_a_model_of_which_updates_only_wait_is_not_fresh() -> None:
    known = {"job_id": "1234", "model_id": "m"}
    assert not models.standing(known, NOW, MARGIN).fresh
    assert not models.standing({**known, "gathered": {mark(NOW - 9, 0)}}, NOW, MARGIN).fresh


@given(run_id=st.none() | st.just("r"), lease=st.none() | st.integers(-5, 5))
def test_a_run_is_under_way_exactly_while_the_trigger_takes_the_model_to_be_held(
    run_id: str | None, lease: int | None
) -> None:
    expires_at = None if lease is None else NOW + lease
    known: dict[str, Any] = {"run_id": run_id, "lease_expires_at": expires_at}
    attributes = {name: value for name, value in known.items() if value is not None}
    held = Entry(run_id=run_id, lease_expires_at=expires_at).held(NOW)
    assert (models.running(item(**attributes), NOW) is not None) == held


def test_the_runs_are_told_in_order_with_the_failed_one_among_them() -> None:
    history = json.dumps([past(NOW - 300), past(NOW - 100, "regressed")])
    told = models.runs(item(history=history, last_failure=failure(NOW - 200)))
    assert [(run.outcome, run.result, run.seconds, run.polls) for run in told] == [
        ("completed", "improved", 12.5, 3),
        ("failed", "NoNewResult", 60.0, 2),
        ("completed", "regressed", 12.5, 3),
    ]
    assert [run.requested_at for run in told] == [NOW - 300, NOW - 200, NOW - 100]


def test_ids_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    row = models.standing({**completed(), "model_id": "x[/old]", "job_id": "[red]phishing"}, NOW, MARGIN)
    view.console.print(view.history(row, []))
    assert "Last runs of x[/old], job [red]phishing" in capsys.readouterr().out


def test_a_model_that_was_never_recomputed_has_no_runs_and_no_scores() -> None:
    assert models.runs(item()) == []
    assert models.standing(item(), NOW, MARGIN).scores == {}


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({}, None),
        ({"last_run_id": "one"}, None),
        ({"last_run_id": "two"}, "two"),
        ({"last_run_id": "one", "run_id": "two"}, "two"),
        # An aborted run still holds its model, and the one before it was the last that was released.
        ({"last_run_id": "zero", "run_id": "one"}, None),
    ],
)
def test_the_next_run_is_none_of_those_that_were_known(attributes: dict[str, Any], found: str | None) -> None:
    assert models.next_run(item(**attributes), after="one") == found


# --- What the workflow tells -----------------------------------------------------------------------------


def check_event(**check: object) -> dict[str, Any]:
    output = json.dumps({"check": check})
    return {
        "type": "TaskStateExited",
        "stateExitedEventDetails": {"name": "CheckStatus", "output": output},
    }


def test_each_check_is_a_line() -> None:
    running = check_event(status="running", polls=2, detail="recomputing", wait_seconds=9)
    assert models.told(running) == "check 2: recomputing, next look in 9 s"
    done = check_event(status="completed", polls=3, detail="The metrics are new", wait_seconds=9)
    assert models.told(done) == "check 3: The metrics are new"


def test_a_check_without_an_answer_is_a_line_and_other_states_are_none() -> None:
    failed = {"type": "LambdaFunctionFailed", "lambdaFunctionFailedEventDetails": {"error": "Unauthorised"}}
    assert models.told(failed) == "a check got no answer (Unauthorised) and is repeated"
    assert models.told({"type": "TaskStateExited", "stateExitedEventDetails": {"name": "HoldModel"}}) is None
    assert models.told({"type": "WaitStateEntered"}) is None


@pytest.mark.parametrize(
    ("execution", "said"),
    [
        ({"status": "FAILED", "error": "NeverStarted", "cause": "Idle"}, "failed: NeverStarted: Idle"),
        ({"status": "ABORTED"}, "aborted"),
        ({"status": "TIMED_OUT", "error": None}, "timed out"),
    ],
)
def test_a_run_without_a_result_says_why(execution: dict[str, Any], said: str) -> None:
    assert models.result(execution) == said


# --- Dead letters ----------------------------------------------------------------------------------------


def message(body: str, sent_at: float = NOW, source: str | None = None, **attributes: str) -> dict[str, Any]:
    return {
        "Body": body,
        "ReceiptHandle": "handle",
        "Attributes": {
            "SentTimestamp": str(int(sent_at * 1000)),
            **({"DeadLetterQueueSourceArn": source} if source else {}),
        },
        "MessageAttributes": {n: {"DataType": "String", "StringValue": v} for n, v in attributes.items()},
    }


def test_the_trigger_s_own_dead_letters_bring_their_reason() -> None:
    letter = letters.dead_letter(message("body", reason="Rejected", detail="404"))
    assert letter == ("Rejected", "404", NOW, "body", "handle")


def test_what_eventbridge_or_the_schedule_could_not_deliver_brings_their_error() -> None:
    given = message("body", ERROR_CODE="NO_PERMISSIONS", ERROR_MESSAGE="not allowed", RULE_ARN="arn")
    assert letters.dead_letter(given)[:2] == ("NO_PERMISSIONS", "not allowed")


def test_what_killed_the_trigger_has_no_reason() -> None:
    letter = letters.dead_letter(message("body", source="arn:aws:sqs:eu-west-1:123456789012:updates"))
    assert letter.reason == "none"
    assert "The trigger died" in letter.detail
    assert "Nothing is known" in letters.dead_letter(message("body")).detail


def test_the_record_of_a_failed_invocation_is_unwrapped_into_what_the_trigger_understands() -> None:
    request = {"job_id": 1234, "model_id": "m"}
    record = {
        "version": "1.0",
        "requestContext": {"condition": "RetriesExhausted", "approximateInvokeCount": 3},
        "requestPayload": request,
        "responsePayload": {"errorType": "AwsUnavailable", "errorMessage": "no ledger"},
    }
    letter = letters.dead_letter(message(json.dumps(record)))
    assert letter[:2] == ("AwsUnavailable", "no ledger")
    (update,) = read_json(letter.update, NOW)
    assert update == read_json(json.dumps(request), NOW)[0]


def test_an_invocation_that_was_never_made_has_its_condition_for_a_reason() -> None:
    # Lambda leaves the response out where there was none.
    record = {"requestContext": {"condition": "EventAgeExceeded"}, "requestPayload": {"job_id": 1}}
    assert letters.dead_letter(message(json.dumps(record))).reason == "EventAgeExceeded"


@given(st.text() | st.recursive(st.none() | st.text(), st.lists, max_leaves=3).map(json.dumps))
def test_any_other_body_is_sent_again_as_it_is(body: str) -> None:
    assert letters.dead_letter(message(body)).update == body


def test_dead_letters_are_grouped_by_reason_with_the_newest_detail() -> None:
    found = [
        letters.dead_letter(message("a", NOW - 30, reason="Rejected", detail="old")),
        letters.dead_letter(message("b", NOW - 10, reason="Rejected", detail="new")),
        letters.dead_letter(message("c", NOW - 20, reason="BadInput", detail="no JSON")),
    ]
    assert letters.groups(found) == [
        ("Rejected", 2, NOW - 30, NOW - 10, "new"),
        ("BadInput", 1, NOW - 20, NOW - 20, "no JSON"),
    ]


# --- Routes ----------------------------------------------------------------------------------------------

ROUTES = json.dumps(
    {
        "routes": [
            {"keys": ["a/*", "b/*"], "targets": [{"job_id": "first"}]},
            {"name": "nightly", "targets": [{"job_id": 77}]},
            {"name": "by-job", "keys": ["{job}.csv"], "targets": [{"job_id": "{job}"}, {"job_id": 1}]},
        ]
    }
)


def test_the_first_route_that_matches_is_named_with_its_targets() -> None:
    assert routing.lead(ROUTES, "b/x.csv") == ("1", [Target("first", None)], "", "")
    assert routing.lead(ROUTES, "seven.csv") == ("by-job", [Target("seven", None), Target("1", None)], "", "")


def test_how_much_is_significant_is_told() -> None:
    significant = {"objects": 100, "max_wait_seconds": 3600}
    route = {"keys": ["*"], "targets": [{"job_id": 1}], "significant": significant}
    found = routing.lead(json.dumps({"routes": [route]}), "a")
    assert found
    assert json.loads(found.significant) == significant


def test_a_key_that_no_route_knows_leads_nowhere_and_the_patterns_are_told() -> None:
    assert routing.lead(ROUTES, "c/x.txt") is None
    assert routing.patterns(ROUTES) == [("1", "a/*"), ("1", "b/*"), ("by-job", "{job}.csv")]


def test_a_key_that_yields_no_id_is_told_with_the_route_that_it_stops_at() -> None:
    found = routing.lead(ROUTES, " .csv")
    assert found
    assert (found.route, found.targets) == ("by-job", [])
    assert "job_id is empty" in found.problem


def test_broken_routes_name_the_route_by_its_place() -> None:
    with pytest.raises(ConfigurationError, match="route '2'"):
        routing.lead('{"routes": [{"targets": [{"job_id": 1}]}, {"targets": []}]}', "a")


# --- What is wrong ---------------------------------------------------------------------------------------

KNOWN = checks.Known("https://arcanna.example", "arn:of:the:secret", "", "the-routes", "the-bucket")


def found(check: str, reason: str | None, detail: str = "detail") -> checks.Check:
    answer = {"findings": [{"check": check, "reason": reason, "detail": detail}]}
    (line,) = checks.preflight(answer, False, KNOWN)
    return line


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE"])
def test_a_stack_that_is_complete_is_well(status: str) -> None:
    assert not checks.stack("s", status).remedy


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "CREATE_FAILED"])
def test_a_stack_whose_deployment_failed_is_to_be_deployed_again(status: str) -> None:
    assert "deploy again" in checks.stack("s", status).remedy


def test_a_stack_that_is_being_made_is_to_be_waited_for() -> None:
    assert checks.stack("s", "UPDATE_IN_PROGRESS").remedy == "Wait for its end"


@pytest.mark.parametrize(
    ("check", "reason", "names"),
    [
        ("key", "ApiKeyUnavailable", "arn:of:the:secret"),
        ("key", "Unauthorised", "arn:of:the:secret"),
        ("scopes", "ScopesMissing", "arn:of:the:secret"),
        ("platform", "PlatformUnavailable", "https://arcanna.example"),
        ("platform", "UndocumentedAnswer", "https://arcanna.example"),
        ("platform", "Rejected", "https://arcanna.example"),
        ("routes", "ConfigurationError", "the-routes"),
        ("routes", "AwsUnavailable", "ssm:GetParameter"),
        ("targets", "Rejected", "the-routes"),
        ("targets", "PlatformUnavailable", "https://arcanna.example"),
        ("targets", "OutOfTime", "slowly"),
        ("targets", "Unauthorised", "arn:of:the:secret"),
    ],
)
def test_every_finding_has_a_remedy_that_names_what_to_mend(check: str, reason: str, names: str) -> None:
    assert names in found(check, reason).remedy


def test_a_key_in_a_field_of_the_secret_is_not_to_be_put_there_as_plain_text() -> None:
    answer = {"findings": [{"check": "key", "reason": "ApiKeyUnavailable", "detail": "detail"}]}
    known = checks.Known("https://arcanna.example", "arn:of:the:secret", "arcanna_key", "r", "b")
    (line,) = checks.preflight(answer, False, known)
    assert "the field arcanna_key of arn:of:the:secret" in line.remedy
    assert "put-secret-value" not in line.remedy


def test_a_certificate_is_told_from_a_way_that_is_closed() -> None:
    detail = "ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] unable to get local issuer certificate"
    assert "certificate" in found("platform", "PlatformUnavailable", detail).remedy


@pytest.mark.parametrize(("check", "reason"), [("key", "ApiKeyUnavailable"), ("routes", "AwsUnavailable")])
def test_a_service_that_cannot_be_reached_needs_a_way_there(check: str, reason: str) -> None:
    assert "VPC endpoint" in found(check, reason, f"ConnectTimeout. {NO_WAY}").remedy


def test_a_key_that_may_not_be_read_is_told_from_one_that_is_not_there() -> None:
    remedy = found("key", "ApiKeyUnavailable", f"Access to KMS is not allowed. {NOT_ALLOWED}").remedy
    assert "kms:Decrypt" in remedy
    assert "put-secret-value" not in remedy


def test_what_is_well_needs_nothing() -> None:
    assert found("key", None) == ("key", "detail", "")


def test_functions_that_fail_or_are_older_say_so() -> None:
    error = {"errorType": "ConfigurationError", "errorMessage": "URL_SUFFIX is not set"}
    (failed,) = checks.preflight(error, True, KNOWN)
    assert "URL_SUFFIX is not set" in failed.said
    assert failed.remedy
    (older,) = checks.preflight({"results": []}, False, KNOWN)
    assert older.remedy == "Deploy this version"


QUEUE = "arn:aws:sqs:eu-west-1:123456789012:updates"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:uploads"
TRIGGER = "arn:aws:lambda:eu-west-1:123456789012:function:trigger"
CREATED = {"Events": ["s3:ObjectCreated:Put"]}
BY_QUEUE = {"QueueConfigurations": [{"QueueArn": QUEUE, **CREATED}]}
BY_TOPIC = {"TopicConfigurations": [{"TopicArn": TOPIC, **CREATED}]}


def bucket(notifications: dict[str, Any], *senders: str) -> checks.Check:
    return checks.bucket("b", notifications, checks.WayIn(QUEUE, senders, "trigger"))


@pytest.mark.parametrize(
    ("notifications", "sender"),
    [
        ({"EventBridgeConfiguration": {}}, ""),
        ({"LambdaFunctionConfigurations": [{"LambdaFunctionArn": TRIGGER, **CREATED}]}, ""),
        ({"LambdaFunctionConfigurations": [{"LambdaFunctionArn": f"{TRIGGER}:live", **CREATED}]}, ""),
        (BY_QUEUE, "arn:aws:s3:::b"),
        (BY_QUEUE, "arn:aws:s3:::*"),
        (BY_QUEUE, "*"),
        (BY_TOPIC, TOPIC),
        (BY_TOPIC, "arn:aws:sns:*:123456789012:upload?"),
    ],
)
def test_a_bucket_is_well_if_its_new_objects_reach_the_trigger(
    notifications: dict[str, Any], sender: str
) -> None:
    check = bucket(notifications, sender)
    assert not check.remedy, check


@pytest.mark.parametrize(
    ("notifications", "sender", "needed"),
    [
        (BY_QUEUE, "", "arn:aws:s3:::b"),
        (BY_QUEUE, "arn:aws:s3:::another", "arn:aws:s3:::b"),
        (BY_QUEUE, "arn:aws:s3:*:b", "arn:aws:s3:::b"),  # a part of another number
        (BY_TOPIC, "arn:aws:s3:::b", TOPIC),
    ],
)
def test_a_bucket_that_the_queue_does_not_admit_is_to_be_named(
    notifications: dict[str, Any], sender: str, needed: str
) -> None:
    assert f"Add {needed} to the parameter SenderArns" in bucket(notifications, sender).remedy


@pytest.mark.parametrize(
    "notifications",
    [
        {},
        {"QueueConfigurations": [{"QueueArn": f"{QUEUE}-of-another", **CREATED}]},
        {"QueueConfigurations": [{"QueueArn": QUEUE, "Events": ["s3:ObjectRemoved:*"]}]},
        {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": f"{TRIGGER}-2", **CREATED}]},
    ],
)
def test_a_bucket_that_tells_nobody_of_new_objects_is_to_be_connected(notifications: dict[str, Any]) -> None:
    assert "EventBridge" in bucket(notifications, "*").remedy


@pytest.mark.parametrize("states", [[], ["Disabled"], ["Enabling"]])
def test_a_queue_that_invokes_nothing_is_told(states: list[str]) -> None:
    assert checks.queue(states).remedy
    assert not checks.queue(["Enabled"]).remedy


def test_a_schedule_is_well_if_it_is_as_it_was_deployed() -> None:
    assert not checks.schedule("ENABLED", "ENABLED").remedy
    assert not checks.schedule("DISABLED", "DISABLED").remedy
    assert "DISABLED, not ENABLED" in checks.schedule("DISABLED", "ENABLED").said


GONE = {"Endpoint": "soc@example.com", "SubscriptionArn": "Deleted"}
PENDING = {"Endpoint": "soc@example.com", "SubscriptionArn": "PendingConfirmation"}
CONFIRMED = {"Endpoint": "soc@example.com", "SubscriptionArn": "arn:aws:sns:eu-west-1:1:topic:7"}


@pytest.mark.parametrize("subscriptions", [[PENDING], [], [GONE]])
def test_an_address_that_nobody_confirmed_is_told(subscriptions: list[dict[str, str]]) -> None:
    assert checks.email("soc@example.com", subscriptions).remedy


@pytest.mark.parametrize(
    ("address", "listed"), [("soc@example.com", [CONFIRMED]), ("", [CONFIRMED]), ("", [])]
)
def test_notices_are_well_where_they_go_to_whom_they_should(
    address: str, listed: list[dict[str, str]]
) -> None:
    assert not checks.email(address, listed).remedy


def test_dead_letters_are_wrong_also_while_somebody_looks_at_them() -> None:
    assert checks.dead_letters({"visible": 0, "put off": 0, "in work": 2}).remedy
    assert not checks.dead_letters({"visible": 0, "put off": 0, "in work": 0}).remedy


def test_what_may_not_be_looked_at_is_no_all_clear() -> None:
    assert checks.unseen("bucket", PermissionError("AccessDenied")).remedy
