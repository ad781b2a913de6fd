"""`make local` and its `arcanna` do what they say, or say in one line why they cannot."""

import fcntl
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from arcanna_metrics.errors import BadInput
from arcanna_metrics.intake.events import read_json
from tests.support.installation import alone
from tests.tools import arcanna, local


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens. It stays reserved during the test."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


class Aws:
    """Takes the calls of `arcanna` to AWS, and keeps what they send."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def describe_stacks(self, **_: Any) -> dict[str, Any]:
        return {"Stacks": [{"Outputs": [{"OutputKey": "UpdatesQueueUrl", "OutputValue": "the queue"}]}]}

    def put_object(self, **given: Any) -> None:
        self.sent.append(given)

    def send_message(self, **given: Any) -> None:
        self.sent.append(given)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """AWS, beside an Arcanna that listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(arcanna.ARCANNA, f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv(arcanna.BUCKET, "bucket")
        monkeypatch.setenv("STACK", "local")
        fake = Aws()
        monkeypatch.setattr(boto3, "client", lambda service: fake)
        yield fake


def test_upload_for_a_job_is_of_that_jobs_model(aws: Aws) -> None:
    arcanna.main(["upload", "77"])

    assert aws.sent[0]["Key"].startswith(f"training-data/77/{arcanna.JOBS[77].models[0]}/")


def test_upload_for_an_unknown_job_needs_a_model(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arcanna.main(["upload", "78"])
    assert "Arcanna has the jobs 1234, 77" in capsys.readouterr().err
    arcanna.main(["upload", "78", "any-model"])

    assert aws.sent[0]["Key"].startswith("training-data/78/any-model/")


def test_upload_with_an_empty_model_is_of_the_jobs_model(aws: Aws) -> None:
    arcanna.main(["upload", "77", ""])

    assert aws.sent[0]["Key"].startswith(f"training-data/77/{arcanna.JOBS[77].models[0]}/")


def test_empty_key_is_refused(aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arcanna.main(["secret", ""])
    assert "the key is empty" in capsys.readouterr().err
    assert aws.sent == []


def test_malformed_message_is_one_that_the_trigger_rejects(aws: Aws) -> None:
    arcanna.main(["malformed"])

    assert aws.sent[0]["QueueUrl"] == "the queue"
    with pytest.raises(BadInput):
        read_json(aws.sent[0]["MessageBody"], 0.0)


@pytest.mark.parametrize("arguments", [["slow"], ["upload"], ["secret", "key"], ["malformed"]])
def test_arcanna_without_make_local_says_so_in_one_line(
    arguments: list[str], closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(arcanna.ARCANNA, f"http://127.0.0.1:{closed_port}")
    with pytest.raises(SystemExit, match=r"^make local is not running\..*$"):
        arcanna.main(arguments)


def test_installation_runs_once_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with alone("demo", "busy"), pytest.raises(SystemExit, match="busy"), alone("demo", "busy"):
            pass


def test_second_make_local_says_at_once_that_one_is_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("build").mkdir()
    with Path("build", "twice.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SystemExit, match=r"^Another make local is running\. .*build/twice\.env"):
            local.main("twice")
