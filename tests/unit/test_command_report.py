"""`arcanna-metrics report`: what it writes, what it tells, and what it refuses."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from arcanna_metrics.protocol.entry import NEVER, Entry
from arcanna_metrics.protocol.ledger import to_item
from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.report import watch
from tests.support.doubles import TARGET, Stack
from tests.support.html import parse
from tests.unit.deployed_stack import deployed, fill, run

AT = 1_795_910_400.0
ENTRY = Entry(
    TARGET,
    fresh_as_of=AT,
    history=(
        {
            "run_id": "run-1",
            "model_id": TARGET.model_id,
            "cause": "upload",
            "requested_at": to_iso(AT),
            "duration_seconds": 60.0,
            "polls": 2,
            "verdict": "regressed",
            "scores": {"overall_accuracy": 0.8},
            "why": "Escalate.recall 0.8 -> 0.6",
        },
    ),
)


def put(stack: Stack, entry: Entry) -> None:
    stack.dynamodb.put_item(TableName=stack.ledger_table, Item=to_item(entry, 1))


def test_report_writes_the_page_of_the_stack(stack: Stack, tmp_path: Path) -> None:
    deployed(stack)
    put(stack, ENTRY)
    fill(stack, 3)
    file = tmp_path / "report.html"

    ended = run("report", "-o", str(file), "--json")

    assert ended.status == 0
    document = ended.document
    assert document["file"] == str(file)
    counts = {name: document[name] for name in ("models", "stale", "regressed", "failed", "dead_letters")}
    assert counts == {"models": 1, "stale": 0, "regressed": 1, "failed": 0, "dead_letters": 3}
    page = parse(file.read_text(encoding="utf-8"))
    assert str(TARGET.model_id) in page.text
    assert "Escalate.recall 0.8 -> 0.6" in page.all("ul", "items")[0].text
    assert "PlatformUnavailable" in page.all("section", "card")[0].text
    assert "data-refresh" not in page.all("html")[0].attributes


def test_report_prints_the_written_file_and_the_problems(stack: Stack, tmp_path: Path) -> None:
    deployed(stack)
    put(stack, replace(ENTRY, failed_as_of=NEVER))

    ended = run("report", "-o", str(tmp_path / "r.html"))

    assert ended.status == 0
    assert (
        "r.html (models: 1, stale: 0, got worse: 1, failed: 0, waiting: 0, dead letters: 0)." in ended.stdout
    )


def test_report_without_access_to_the_queues_does_not_count_them_as_empty(
    stack: Stack, tmp_path: Path
) -> None:
    deployed(stack, DeadLetterQueueUrl=stack.dead_letter_url + "-gone")
    put(stack, ENTRY)

    assert "dead letters: unknown)" in run("report", "-o", str(tmp_path / "r.html")).stdout
    document = run("report", "-o", str(tmp_path / "r.html"), "--json").document

    assert document["dead_letters"] is None
    assert document["notes"][0].startswith("The dead letters could not be read: ")


def test_report_to_a_dash_is_the_page_on_standard_output_and_no_file(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    deployed(stack)
    put(stack, ENTRY)
    monkeypatch.chdir(tmp_path)

    ended = run("report", "-o", "-")

    assert (ended.status, ended.stdout) == (0, "")
    assert "Wrote the page (models: 1" in ended.stderr
    assert str(TARGET.model_id) in parse(capfdbinary.readouterr().out.decode("utf-8")).text
    assert list(tmp_path.iterdir()) == []


def test_report_that_cannot_be_written_exits_with_an_explanation(stack: Stack, tmp_path: Path) -> None:
    deployed(stack)

    ended = run("report", "-o", str(tmp_path / "nowhere" / "report.html"), "--json")

    assert ended.status != 0
    assert "nowhere" in ended.document["error"]["message"]


def test_report_that_cannot_be_written_leaves_the_old_page(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(stack)
    file = tmp_path / "report.html"
    file.write_text("the old page")

    def half(path: Path, text: str, **_: object) -> None:
        path.write_bytes(text[: len(text) // 2].encode())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", half)
    ended = run("report", "-o", str(file), "--json")

    assert ended.status == 2
    assert ended.document["error"]["message"] == f"{file}: No space left on device."
    assert (file.read_text(), list(tmp_path.iterdir())) == ("the old page", [file])


def test_report_replaces_the_page_behind_a_link_and_keeps_its_permissions(
    stack: Stack, tmp_path: Path
) -> None:
    deployed(stack)
    page, link = tmp_path / "pages" / "report.html", tmp_path / "report.html"
    page.parent.mkdir()
    page.touch(0o600)
    link.symlink_to(page)

    assert run("report", "-o", str(link)).status == 0

    assert link.is_symlink()
    assert "The ledger is empty" in page.read_text(encoding="utf-8")
    assert page.stat().st_mode & 0o777 == 0o600


def test_report_is_not_written_through_a_link_in_the_place_of_its_new_page(
    stack: Stack, tmp_path: Path
) -> None:
    deployed(stack)
    other, page = tmp_path / "other", tmp_path / "report.html"
    other.write_text("something else")
    (tmp_path / f".report.html.{os.getpid()}").symlink_to(other)

    assert run("report", "-o", str(page)).status == 2

    assert other.read_text() == "something else"


def test_report_is_written_into_a_pipe(stack: Stack, tmp_path: Path) -> None:
    deployed(stack)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        page = pool.submit(pipe.read_text, encoding="utf-8")
        assert run("report", "-o", str(pipe)).status == 0

    assert "The ledger is empty" in page.result()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize(
    "options",
    [
        ["--watch", "-o", "a.html"],
        ["--watch", "--json"],
        ["-o", "-", "--json"],
        ["-o", "-", "--open"],
        ["--port", "80"],
        ["--refresh", "5"],
        ["--refresh", "0"],
    ],
)
def test_contradictory_options_exit_with_2(options: list[str]) -> None:
    assert run("report", *options).status == 2


def test_port_in_use_exits_with_2_and_says_what_to_do(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(stack)

    def taken(*_: object, **__: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr("arcanna_metrics_cli.report.watch.Watch", taken)

    ended = run("report", "--watch", "--port", "8765")

    assert ended.status == 2
    assert "✗ Port 8765 cannot be used: Address already in use.\n  To do: leave out --port" in ended.stderr


@pytest.mark.parametrize(("port", "is_served"), [(80, True), (8080, False)])
def test_host_without_a_port_is_served_on_port_80_only(
    monkeypatch: pytest.MonkeyPatch, port: int, is_served: bool
) -> None:
    def unbound(server: ThreadingHTTPServer, address: tuple[str, int], _: object) -> None:
        server.server_port = address[1]

    monkeypatch.setattr(ThreadingHTTPServer, "__init__", unbound)

    hosts = watch.Watch(lambda: "", 10.0, port).hosts

    assert {f"127.0.0.1:{port}", f"localhost:{port}"} <= hosts
    assert ({"127.0.0.1", "localhost"} <= hosts) is is_served
