"""Looks up every pinned package in PyPI's advisory database: `python -m tests.tools.audit`.

Exits with 0 if all were looked up and none has a known vulnerability, 1 if one has, 2 if any could
not be looked up. pip-audit itself calls that last case a success: it says "No known vulnerabilities found" of
packages that it has skipped.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
FILES = (
    "layers/dependencies/requirements.txt",
    "tests/support/local_cloud/requirements.txt",
    "tests/requirements.txt",
    "tests/bootstrap.txt",
    "tests/command.txt",
    "tests/audit.txt",
)
"""Of the functions, the local Lambda runtime, the tools, their installation, the command, and pip-audit."""
PYTHON = ROOT / "build" / "audit" / "bin" / "python"
"""`make audit` installs it."""


class Finding(NamedTuple):
    """The vulnerabilities of a package, or the reason why it was not looked up."""

    package: str
    vulnerabilities: tuple[str, ...] = ()
    unknown: str = ""


def findings(report: dict[str, Any]) -> list[Finding]:
    """The findings of a report, one for each package. `pip-audit --format json` writes it."""
    return [
        Finding(entry["name"], unknown=entry["skip_reason"])
        if "skip_reason" in entry
        else Finding(f"{entry['name']} {entry['version']}", tuple(_shown(v) for v in entry["vulns"]))
        for entry in report["dependencies"]
    ]


def _shown(vulnerability: dict[str, Any]) -> str:
    fixed = ", ".join(vulnerability["fix_versions"]) or "nowhere yet"
    return f"{vulnerability['id']} (fixed in {fixed})"


def audit(files: Sequence[str], look_up: Callable[[str], list[Finding]]) -> int:
    """Prints the findings of each file. Returns the exit status."""
    status = 0
    for name in files:
        found = look_up(name)
        unknown = [finding for finding in found if finding.unknown]
        vulnerable = [finding for finding in found if finding.vulnerabilities]
        for finding in vulnerable:
            print(f"{name}: VULNERABLE: {finding.package}: {'; '.join(finding.vulnerabilities)}")
        if unknown:
            print(f"{name}: NOT CHECKED: {len(unknown)} of {len(found)} packages; {unknown[0].unknown}")
        if not unknown and not vulnerable:
            print(f"{name}: all {len(found)} packages were looked up, none has a known vulnerability")
        status = 1 if vulnerable or status == 1 else 2 if unknown else status
        if len(unknown) == len(found):
            break  # the database cannot be reached
    return status


def pip_audit(name: str) -> list[Finding]:
    """The findings of a requirements file. A database that does not answer is also a finding."""
    command = [str(PYTHON), "-m", "pip_audit", "--requirement", str(ROOT / name)]
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)  # noqa: S603
    found = findings(json.loads(done.stdout)) if done.stdout.strip() else []
    lines = done.stderr.strip().splitlines() or [f"pip-audit ended with {done.returncode}"]
    return found or [Finding(name, unknown=lines[-1])]


if __name__ == "__main__":
    sys.exit(audit(FILES, pip_audit))
