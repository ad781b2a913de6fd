"""Measures a developer's waits: the demo's first completed run, the tests, and the installation."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.local_cloud.cloud import PROJECT


def first_completed_run() -> float:
    """Seconds from the start of `make demo`, with everything installed and built, to its first outcome."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.tools.demo"],
        cwd=PROJECT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    completed = None
    with process:
        assert process.stdout
        for line in process.stdout:  # read to the end, so that the demo can finish
            if completed is None and "Recompute Completed" in line:
                completed = time.monotonic() - began
    if completed is None or process.returncode:
        raise RuntimeError("the demo failed")
    return completed


def make(target: str, project: Path = PROJECT) -> float:
    """The duration of a target of the Makefile, in seconds."""
    began = time.monotonic()
    subprocess.run(["make", target], cwd=project, check=True, stdout=subprocess.DEVNULL)  # noqa: S603, S607
    return time.monotonic() - began


def installation() -> dict[str, Any]:
    """The installation of a new checkout: seconds, MiB, and the largest packages with their MiB."""
    with TemporaryDirectory() as scratch:
        project = Path(scratch, "project")
        ignored = shutil.ignore_patterns(".git", ".venv", "build", ".*_cache", ".hypothesis", "__pycache__")
        shutil.copytree(PROJECT, project, ignore=ignored)
        seconds = make("install", project)
        whole = size(project / ".venv", project / "build")
        parts = [*project.glob(".venv/lib/python3*/site-packages/*"), *project.glob(".venv/bin/*")]
        largest = sorted(((size(part), part.name) for part in parts), reverse=True)[:12]
    return {"seconds": seconds, "mebibytes": whole, "largest": {n: s for s, n in largest}}


def size(*paths: Path) -> int:
    """The size of files, or of all files in folders, in MiB. A file that uv has linked twice counts once."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    found = [file.lstat() for file in files if file.is_file()]
    return round(sum({(each.st_dev, each.st_ino): each.st_size for each in found}.values()) / 2**20)


def measure() -> dict[str, Any]:
    """Seconds of each, and the size of the installation."""
    first_completed_run()  # builds what is missing
    return {
        "demo": first_completed_run(),
        "check": make("check"),
        "test": make("test"),
        "installation": installation(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
