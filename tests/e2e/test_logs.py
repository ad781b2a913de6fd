"""Whatever comes from outside is data in the logs: it makes no line of its own, and moves no terminal."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.arcanna.access import API_KEY
from tests.arcanna.faults import Fault
from tests.arcanna.platform import FOR_EVER
from tests.e2e.alone import settle
from tests.e2e.conftest import JOB
from tests.e2e.test_main_job import alerts, asks, ended_runs, key_of, send
from tests.harness import Installation, wait_for
from tests.local_cloud import FunctionError

FUNCTIONS = ("TriggerRecomputeFunction", "CheckStatusFunction")
MARK = "injected-7f3a"
FORGED = json.dumps({"level": "ERROR", "message": MARK, "forged": True})
HOSTILE = (
    f'{MARK}\n{FORGED}\r\n\x1b[2J\x1b[31m", "forged": true, "x": "\x00\x85\u2028{FORGED}\u2029\x9b31m\u202e'
)
"""Lines, a JSON fragment, ANSI escapes, the line ends and escapes of Unicode, and a change of direction."""

PRINTABLE = f'{MARK}", "forged": true, "x": "{FORGED}'
"""As far as ids may have it."""

CONTENT = "content-of-an-object-7f3a"


@pytest.fixture(scope="module")
def lines(here: Installation, fresh_model: Callable[[], str]) -> list[str]:
    """The log lines of both functions, after all of that came in every way there is."""
    model = fresh_model()
    here.upload(key_of(model), alerts())
    s3 = json.loads((here.samples / "s3-object-created.eventbridge.json").read_text())
    for key in (f"elsewhere/{HOSTILE}", f"training-data/{JOB}/{HOSTILE}/{HOSTILE}", key_of(model, HOSTILE)):
        s3["detail"]["object"] |= {"key": key, "version-id": HOSTILE}
        send(here, s3)
    send(here, HOSTILE)
    send(here, {"job_id": HOSTILE})
    send(here, {"job_id": PRINTABLE, "model_id": PRINTABLE, "cause": PRINTABLE})
    ended_runs(here, PRINTABLE, 1)
    ended_runs(here, model, 1)
    with pytest.raises(FunctionError):
        here.cloud.invoke("TriggerRecomputeFunction", {HOSTILE: HOSTILE})
    with pytest.raises(FunctionError):
        here.cloud.invoke("CheckStatusFunction", {"run": {HOSTILE: HOSTILE}, "check": HOSTILE})
    _answers(here, fresh_model())
    settle(here)
    return [line for name in FUNCTIONS for line in here.cloud.logs(name)]


def _answers(here: Installation, model: str) -> None:
    """The platform says it, and the key besides: to the trigger, and to status checks, the last for good."""
    here.arcanna.set_behaviour(FOR_EVER, model)

    def answer(status: int) -> None:
        body = f"{HOSTILE} {API_KEY}"
        here.arcanna.add_fault(Fault("metrics", model_id=model, status=status, body=body))

    answer(503)
    here.upload(key_of(model), alerts() + f"{CONTENT},Drop,Drop\n")
    wait_for("the recompute", lambda: asks(here, model))
    answer(503)
    answer(404)
    ended_runs(here, model, 1)


def test_what_comes_from_outside_is_in_records_of_ours(lines: list[str]) -> None:
    marked = [line for line in lines if MARK in line]
    messages = {record["message"] for record in map(_record, marked) if "message" in record}
    assert messages >= {
        "no route",
        "run started",
        "status check failed",
        "status checked",
        "unusable message",
        "updates put off",
    }


def test_no_line_is_made_by_what_comes_from_outside(lines: list[str]) -> None:
    records = [_record(line) for line in lines if MARK in line or "forged" in line]
    assert len(records) > 10
    assert [record for record in records if "forged" in record] == []


def test_no_character_moves_a_terminal(lines: list[str]) -> None:
    ours = [line for line in lines if '"message"' in line]
    assert [line for line in ours if not (line.isascii() and line.isprintable())] == []
    assert [line for line in lines if not line.isprintable()] == []


def test_keys_are_logged_as_they_are(lines: list[str]) -> None:
    keys = [record["key"] for record in map(_record, lines) if record.get("message") == "no route"]
    assert f"elsewhere/{HOSTILE}" in keys


def test_no_content_and_no_key_is_logged(lines: list[str]) -> None:
    assert [line for line in lines if CONTENT in line or API_KEY in line] == []
    assert any("[API key]" in line for line in lines)


def _record(line: str) -> dict[str, Any]:
    record = json.loads(line) if line.startswith("{") else {}
    assert record or MARK not in line, line
    return dict(record)
