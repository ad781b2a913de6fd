"""The demo and the local stack run from any shell. An interrupt leaves one line and no process."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.building import ARTIFACTS
from tests.support.deployment import ROOT
from tests.support.local_cloud.cloud import REGION
from tests.support.local_cloud.packaging import package
from tests.support.shell import CLEAN, SHELL
from tests.support.waiting import eventually

PATIENCE = 120


def processes() -> dict[int, int]:
    """The parent of each running process, by process id. Empty where there is no /proc."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(stat.parent.name)] = int(parent)
    return found


def descendants(pid: int) -> set[int]:
    """The children of a process, and their children."""
    found, parents = {pid}, processes()
    while new := {child for child, parent in parents.items() if parent in found} - found:
        found |= new
    return found - {pid}


@pytest.mark.parametrize(
    ("module", "name", "says"),
    [
        ("tests.tools.demo", "demo", "recompute requested"),
        ("tests.tools.local", "interrupted", "In another shell"),
    ],
)
def test_command_runs_from_any_shell_and_stops_at_once_on_interrupt(
    module: str, name: str, says: str
) -> None:
    # The build downloads packages, which the proxies of that shell would prevent.
    given = {"ArcannaBaseUrl": "https://arcanna.example"}
    package(ROOT / "template.yaml", given, REGION, ARTIFACTS)
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", module, name],
        cwd=ROOT,
        env={**CLEAN, **SHELL},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout
            assert any(says in line for line in process.stdout), process.communicate()[1]
            started = descendants(process.pid)
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "Stopped.\n")
    assert not (ROOT / "build" / f"{name}.env").exists()
    eventually("the end of all that it has started", lambda: not started & processes().keys())
