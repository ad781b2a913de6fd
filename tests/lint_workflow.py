"""Validates the workflow with npm's asl-validator, where Node is; `python -m tests.lint_workflow`."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

VALIDATOR = Path("build/node/node_modules/.bin/asl-validator")
DEFINITION = Path("functions/recompute_workflow.asl.yaml")


def substituted(text: str) -> str:
    """The definition as the deployment makes it: numbers where numbers belong, ARNs elsewhere."""
    text = re.sub(r"\$\{Retry\w+\}", "5", text)
    text = text.replace("${Partition}", "aws")
    text = text.replace("${CheckStatusFunction}", "arn:aws:lambda:eu-west-1:123456789012:function:check")
    return re.sub(r"\$\{(\w+)\}", r"\1", text)


def main() -> int:
    """The validator's exit status; 0 with a word where it is not installed."""
    if not VALIDATOR.exists() or not shutil.which("node"):
        print("asl-validator: not there, left out")
        return 0
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(yaml.safe_load(substituted(DEFINITION.read_text())), file)
        file.flush()
        return subprocess.run([VALIDATOR, "--json-path", file.name], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
