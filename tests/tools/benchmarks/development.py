"""How long a developer waits: for the demo's first completed run, and for all tests."""

import json
import os
import subprocess
import sys
import time

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
        for line in process.stdout:  # to the end, so that the demo ends by itself
            if completed is None and "Recompute Completed" in line:
                completed = time.monotonic() - began
    if completed is None or process.returncode:
        raise RuntimeError("the demo failed")
    return completed


def all_tests() -> float:
    """Seconds of `make test`."""
    began = time.monotonic()
    subprocess.run(["make", "test"], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)  # noqa: S607
    return time.monotonic() - began


def measure() -> dict[str, float]:
    """Both, in seconds."""
    first_completed_run()  # builds what is not built yet
    return {"demo": first_completed_run(), "test": all_tests()}


if __name__ == "__main__":
    print(json.dumps(measure(), indent=2))
