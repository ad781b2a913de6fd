"""Validates the workflow with npm's asl-validator: `python -m tests.tools.lint_workflow`."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.deployment import workflow

VALIDATOR = Path("build/node/node_modules/.bin/asl-validator")


def main() -> int:
    """The validator's exit status. 0, with a message, if it is not installed."""
    if not VALIDATOR.exists() or not shutil.which("node"):
        print("asl-validator: not there, left out")
        return 0
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(workflow(), file)
        file.flush()
        return subprocess.run([VALIDATOR, "--json-path", file.name], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
