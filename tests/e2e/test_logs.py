"""Input is data in the logs: it forges no line and controls no terminal."""

import json
from typing import Any

import pytest

from tests.e2e.scene import CHECK, JOB, TRIGGER, NewScene, Scene, alerts, send
from tests.support.arcanna.access import API_KEY
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import FOR_EVER
from tests.support.installation import Installation
from tests.support.local_cloud import FunctionError

MARK = "injected-7f3a"
FORGED = json.dumps({"level": "ERROR", "message": MARK, "forged": True})
HOSTILE = (
    f'{MARK}\n{FORGED}\r\n\x1b[2J\x1b[31m", "forged": true, "x": "\x00\x85\u2028{FORGED}\u2029\x9b31m\u202e'
)
"""Line ends, a JSON fragment, ANSI escapes, control characters, and a change of writing direction."""

PRINTABLE = f'{MARK}", "forged": true, "x": "{FORGED}'
"""The characters of HOSTILE that an id may have."""

CONTENT = "content-of-an-object-7f3a"


@pytest.fixture(scope="module")
def lines(here: Installation, new_scene: NewScene) -> list[str]:
    """The log lines of both functions after hostile input through every entrance."""
    scene, hostile = new_scene(), Scene(here, PRINTABLE, PRINTABLE)
    scene.upload()
    s3 = json.loads((here.samples / "s3-object-created.eventbridge.json").read_text())
    keys = (f"elsewhere/{HOSTILE}", f"training-data/{JOB}/{HOSTILE}/{HOSTILE}", scene.key(HOSTILE))
    for key in keys:
        s3["detail"]["object"] |= {"key": key, "version-id": HOSTILE}
        send(here, s3)
    send(here, HOSTILE)
    send(here, {"job_id": HOSTILE})
    hostile.request(cause=PRINTABLE)
    hostile.ended(1)
    scene.ended(1)
    with pytest.raises(FunctionError):
        here.cloud.invoke(TRIGGER, {HOSTILE: HOSTILE})
    with pytest.raises(FunctionError):
        here.cloud.invoke(CHECK, {"execution": HOSTILE, "run": {HOSTILE: HOSTILE}, "check": HOSTILE})
    answered = new_scene()
    _answers(answered)
    for each in (scene, hostile, answered):
        each.until_rest()
    return here.cloud.logs()


def _answers(scene: Scene) -> None:
    """Makes the platform answer with hostile text and the key, to the trigger and to status checks."""
    scene.behaves(FOR_EVER)

    hostile = f"{HOSTILE} {API_KEY}"
    scene.meets(Fault("metrics", status=503, body=hostile))
    scene.upload(body=alerts() + f"{CONTENT},Drop,Drop\n")
    scene.until_requested()
    scene.meets(Fault("metrics", status=503, body=hostile))
    scene.meets(Fault("metrics", status=404, body=json.dumps({"error": hostile})))
    scene.ended(1)


def test_input_is_logged_as_a_field_of_a_json_record(lines: list[str]) -> None:
    marked = [line for line in lines if MARK in line]
    messages = {record["message"] for record in map(_record, marked) if "message" in record}
    assert messages >= {
        "no route",
        "run started",
        "status check failed",
        "status checked",
        "unusable message",
        "attempt failed",
    }


def test_input_cannot_forge_a_log_line(lines: list[str]) -> None:
    records = [_record(line) for line in lines if MARK in line or "forged" in line]
    assert len(records) > 10
    assert [record for record in records if "forged" in record] == []


def test_no_control_character_reaches_the_log(lines: list[str]) -> None:
    ours = [line for line in lines if '"message"' in line]
    assert [line for line in ours if not (line.isascii() and line.isprintable())] == []
    assert [line for line in lines if not line.isprintable()] == []


def test_object_keys_are_logged_unchanged(lines: list[str]) -> None:
    keys = [record["key"] for record in map(_record, lines) if record.get("message") == "no route"]
    assert f"elsewhere/{HOSTILE}" in keys


def test_neither_message_content_nor_api_key_is_logged(lines: list[str]) -> None:
    assert [line for line in lines if CONTENT in line or API_KEY in line] == []
    assert any("[API key]" in line for line in lines)


def _record(line: str) -> dict[str, Any]:
    record = json.loads(line) if line.startswith("{") else {}
    assert record or MARK not in line, line
    return dict(record)
