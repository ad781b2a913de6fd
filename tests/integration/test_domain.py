"""The two functions, called as Lambda calls them, on moto and the Arcanna reference server."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.times import to_iso
from tests.integration.functions import Functions
from tests.support.arcanna import API_KEY, ArcannaServer, Behaviour, Fault, KeyInfo
from tests.support.doubles import MODEL, TARGET, Logs, Stack
from tests.support.waiting import eventually

BY_PATH = {
    "routes": [
        {
            "name": "by-path",
            "keys": ["training-data/{job_id}/{model_id}/*"],
            "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
        }
    ]
}


ASKS_FOR_NOTHING = {
    "s3-test-event.json",
    "run-ended.json",
    "schedule.json",
    "scheduled-event.json",
    "sweep.json",
}
"""Samples that start no run if the ledger is empty."""


def details(event: dict[str, Any]) -> dict[str, Any]:
    """The detail of an outcome event."""
    return dict(json.loads(event["Detail"]))


def request(age: float = 60.0, **fields: object) -> dict[str, Any]:
    return {**MODEL._asdict(), "happened_at": to_iso(time.time() - age), **fields}


def only_execution(stack: Stack) -> dict[str, Any]:
    (data,) = stack.executions().values()
    return data


def follow(functions: Functions, data: dict[str, Any]) -> dict[str, Any]:
    """Checks the run until it has ended, sooner than the workflow would. Returns the workflow's data."""

    def ended() -> bool:
        nonlocal data
        data = functions.check(data)
        return bool(data["check"]["status"] != "running")

    eventually("the run's end", ended)
    return data


def test_update_is_followed_to_its_proven_end(
    functions: Functions, stack: Stack, platform: ArcannaServer
) -> None:
    (recorded,) = functions.trigger(request())["recorded"]
    data = only_execution(stack)
    assert (recorded["run_id"], recorded["updates"]) == (data["run"]["run_id"], 1)
    assert functions.hold(data)
    data = follow(functions, data)
    ended = data["check"]
    assert ended["status"] == "completed"
    recompute = platform.recomputes(MODEL.model_id)[-1]
    assert recompute.state == "completed"
    told = details(ended["outcome"]["events"][0])
    before, after = told["before"], told["after"]
    assert before["last_recomputed_timestamp"] != after["last_recomputed_timestamp"]
    assert 0 < after["overall_accuracy"] <= 1
    assert functions.release(data)
    entry = stack.entry()
    assert (entry.run_id, entry.due_at) == (None, None)
    assert to_iso(entry.fresh_as_of) == data["run"]["requested_at"]
    assert entry.history[-1]["run_id"] == data["run"]["run_id"]


@pytest.mark.parametrize("name", sorted(path.name for path in Path("events").glob("*.json")))
def test_sample_event_can_be_sent_unchanged(
    functions: Functions, stack: Stack, platform: ArcannaServer, name: str
) -> None:
    """`sam local invoke -e` and `sam remote invoke --event-file` send the file as the function's event."""
    stack.write_settings(BY_PATH)
    answer = functions.trigger(json.loads(Path("events", name).read_text()))
    runs = [data["run"]["model_id"] for data in stack.executions().values()]
    if name == "sqs-batch.json":
        assert answer == {"batchItemFailures": []}
        assert [reason for _, reason, _ in stack.dead_letters()] == ["BadInput"]
    else:
        assert [bool(recorded["run_id"]) for recorded in answer["recorded"]] == [True] * len(runs)

    assert runs == ([] if name in ASKS_FOR_NOTHING else [MODEL.model_id])


def test_second_recompute_has_the_first_as_its_baseline(
    functions: Functions, stack: Stack, platform: ArcannaServer
) -> None:
    functions.trigger(request())
    first = only_execution(stack)
    assert functions.hold(first)
    first = follow(functions, first)
    assert functions.release(first)
    functions.trigger(request(0))
    second = next(data for data in stack.executions().values() if data["run"] != first["run"])
    assert second["run"]["baseline"] == details(first["check"]["outcome"]["events"][0])["after"]
    assert follow(functions, second)["check"]["status"] == "completed"


@pytest.mark.parametrize("behaviour", [Behaviour(timestamp_lag=0.2), Behaviour(flag_lag=0.2)])
def test_run_completes_although_flag_and_timestamp_change_apart(
    functions: Functions, stack: Stack, platform: ArcannaServer, behaviour: Behaviour
) -> None:
    platform.set_behaviour(behaviour)
    functions.trigger(request())
    assert follow(functions, only_execution(stack))["check"]["status"] == "completed"


def test_check_without_an_answer_is_repeated_at_the_usual_pace(
    functions: Functions, stack: Stack, platform: ArcannaServer
) -> None:
    functions.trigger(request())
    data = only_execution(stack)
    platform.add_fault(Fault(endpoint="metrics", drop="reset"))
    assert functions.check(data)["check"]["status"] == "running"
    platform.add_fault(Fault(endpoint="metrics", status=401, body={"error": "Unauthorized"}))
    assert functions.check(data)["check"]["status"] == "running"

    assert follow(functions, data)["check"]["status"] == "completed"


def test_rotated_key_is_read_again_by_running_functions(
    functions: Functions, stack: Stack, platform: ArcannaServer
) -> None:
    functions.trigger(request())
    platform.set_api_keys({"rotated-key": KeyInfo()})
    stack.secrets.put_secret_value(SecretId=stack.secret_arn, SecretString="rotated-key")

    assert follow(functions, only_execution(stack))["check"]["status"] == "completed"


def test_key_in_a_json_secret_is_used_and_rotated(
    functions: Functions, stack: Stack, platform: ArcannaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCANNA_API_KEY_SECRET_FIELD", "management-key")

    def rotate(key: str) -> None:
        platform.set_api_keys({key: KeyInfo()})
        document = json.dumps({"owner": "soc", "management-key": key})
        stack.secrets.put_secret_value(SecretId=stack.secret_arn, SecretString=document)

    rotate("first-key")
    functions.trigger(request())
    data = functions.check(only_execution(stack))
    rotate("rotated-key")
    assert follow(functions, data)["check"]["status"] == "completed"


def test_api_key_is_in_no_log_message_or_workflow_data(
    functions: Functions,
    stack: Stack,
    platform: ArcannaServer,
    logs: Logs,
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo = {"error": "bad key", "details": f"your key {API_KEY} is bad"}
    functions.trigger(request())
    data = follow(functions, only_execution(stack))
    for status in (401, 404, 503):
        platform.add_fault(Fault(endpoint="metrics", status=status, body=echo))
        stack.put(Entry(TARGET))
        functions.trigger(request(30))
    platform.add_fault(Fault(endpoint="metrics", status=500, body=echo))
    put_off = functions.check(data)["check"]["detail"]
    written = [logs.stream.getvalue(), capsys.readouterr().out, put_off]
    kept = [stack.executions(), stack.entry().last_failure, stack.dead_letters(), data]

    assert "your key [API key] is bad" in written[0]
    assert API_KEY not in "".join(written) + json.dumps(kept)


def test_every_log_line_of_a_check_names_its_run(functions: Functions, stack: Stack, logs: Logs) -> None:
    functions.trigger(request())
    data = {**only_execution(stack), "execution": "arn:execution"}
    written = len(logs.lines)
    functions.check(data)
    of_the_check = logs.lines[written:]
    assert of_the_check
    for line in of_the_check:
        assert (line["run_id"], line["job_id"], line["model_id"]) == (data["run"]["run_id"], *MODEL)
        assert (line["cause"], line["execution"]) == ("manual", "arn:execution")
