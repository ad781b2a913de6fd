"""Runs `arcanna-metrics` in this process, with its own standard streams. Several threads may run it."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from arcanna_metrics_cli.command_line import main
from arcanna_metrics_cli.output import Output
from tests.support.deployment import ROOT
from tests.support.outcome_events import validate

ERASE = "\r\x1b[K"
"""The control sequence that erases a terminal's line."""
SCHEMA: dict[str, Any] = json.loads((ROOT / "events/schemas/command.schema.json").read_text())


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError

    @property
    def last_line(self) -> str:
        """The text on the line of the cursor."""
        return self.getvalue().rpartition("\n")[2].rpartition(ERASE)[2]


@dataclass(frozen=True)
class Ended:
    """The exit status and the output of a command."""

    status: int
    stdout: str
    stderr: str

    @property
    def printed(self) -> str:
        """The text of both streams."""
        return self.stderr + self.stdout

    @property
    def document(self) -> dict[str, Any]:
        """The document on standard output. Raises if it is invalid or states another exit status."""
        found = document_of(self.stdout)
        assert found["exit_status"] == self.status
        return found


def document_of(stdout: str) -> dict[str, Any]:
    """The one document on standard output. Raises if it is invalid."""
    document: dict[str, Any] = json.loads(stdout)
    validate(document, strict(SCHEMA))
    return document


def strict(schema: Any) -> Any:
    """The schema, but closed to new fields. Programs must accept new fields; tests must not."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    made = {name: strict(each) for name, each in schema.items()}
    if "properties" in schema and "oneOf" not in schema:
        head = (
            SCHEMA["properties"]
            if "command" in schema["properties"] or "error" in schema["properties"]
            else {}
        )
        made["properties"] = {**dict.fromkeys(head, True), **made["properties"]}
        made["additionalProperties"] = False
    return made


def run(*arguments: str, typed: str = "", width: int = 80) -> Ended:
    """Runs a command. `typed` answers its questions."""
    stdout, stderr = io.StringIO(), io.StringIO()
    status = main(arguments, Output(stdout, stderr, io.StringIO(typed), width))
    return Ended(status, stdout.getvalue(), stderr.getvalue())
