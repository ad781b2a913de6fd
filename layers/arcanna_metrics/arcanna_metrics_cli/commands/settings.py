"""The command `arcanna-metrics settings` with its subcommands show, validate and put."""

import json
from dataclasses import asdict
from difflib import unified_diff
from pathlib import Path
from typing import Any

import click

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics.targets import Target, is_id
from arcanna_metrics_cli.command_line import JOB, TEXT, Answer, Given, Helpful, operations
from arcanna_metrics_cli.exits import Exit, Trouble
from arcanna_metrics_cli.output import Output
from arcanna_metrics_cli.words import did_you_mean

LARGEST = 8 * 1024
"""Bytes of UTF-8 that an SSM parameter holds."""


@click.group("settings", cls=Helpful, no_args_is_help=False)
def command() -> None:
    """Show, validate or replace the settings: routes, quality gate and pace, one JSON document.

    A change takes effect within a minute, without a deployment.
    """


@operations("show")
@click.option(
    "--job", type=JOB, help="Show the settings that apply to this job (id or name), defaults included."
)
def show(given: Given, job: str | None) -> Answer:
    """Show the deployed document. Exits with 1 if it is not valid."""
    from arcanna_metrics_cli import entries

    stack, out = given.deployed, given.out
    with out.doing("Reading the settings"):
        text = stack.settings()
    document = _document(text) | {"link": stack.links.parameter(stack.settings_parameter)}
    if job is None or not document["valid"]:
        out.show(_pretty(text))
        _tell(given, document)
        if not document["valid"]:
            out.say("The last valid version stays in force.", "yellow")
        return Answer(Exit.GOOD if document["valid"] else Exit.WRONG, document)
    job_id = stack.home(Target(job, None)).job_id
    if not is_id(job_id):
        hint = did_you_mean(job, entries.jobs(stack.hints()))
        said = f"The ledger does not know which id the job {job!r} has. {hint}".rstrip()
        raise Trouble(Exit.USAGE, said, "Name the job by its id")
    in_force = _in_force(text, float(stack.parameters.get("VisibilityLagSeconds", 35)), job_id)
    out.show(json.dumps(in_force, indent=2, ensure_ascii=False))
    return Answer(Exit.GOOD, document | {"job_id": job_id, "in_force": in_force})


@operations("validate")
@click.argument("file", type=TEXT)
def validate(given: Given, file: str) -> Answer:
    """Check the document in FILE, or in standard input if it is -.

    Shows every problem with its place. Needs no stack. Exits with 1 if the document is not valid.
    """
    text = read(file, given.out)
    document = _document(text)
    _tell(given, document)
    if document["valid"]:
        given.out.show(f"✓ {'The document' if file == '-' else file} is valid.", "green")
    return Answer(Exit.GOOD if document["valid"] else Exit.WRONG, document)


@operations("put")
@click.argument("file", type=TEXT)
@click.option("--yes", is_flag=True, help="Do not ask.")
def put(given: Given, file: str, yes: bool) -> Answer:
    """Replace the deployed document with the one in FILE, or in standard input if it is -.

    Shows what changes, and asks. Exits with 1, and changes nothing, if the document is not valid.
    """
    stack, out = given.deployed, given.out
    text = read(file, out)
    document = _document(text) | {"done": False}
    _tell(given, document)
    if not document["valid"]:
        return Answer(Exit.WRONG, document)
    with out.doing("Reading the settings"):
        before = stack.settings()
    if before == text:
        out.show("This document is already deployed.")
        return Answer(Exit.GOOD, document)
    for line in _difference(before, text):
        out.show(line, {"+": "green", "-": "red"}.get(line[:1], ""))
    given.confirm(document, "Store this document?", yes=yes, done="changed", todo="store it")
    with out.doing("Writing the settings"):
        stack.put_settings(text)
    out.show("✓ Stored. It takes effect within a minute; runs under way keep their settings.", "green")
    return Answer(Exit.GOOD, document | {"done": True})


for _subcommand in (show, validate, put):
    command.add_command(_subcommand)


def read(file: str, out: Output) -> str:
    """The text of a document, from standard input if the file is `-`. Raises OSError and Trouble."""
    with out.doing("Reading standard input" if file == "-" else f"Reading {file}"):
        data = click.get_binary_stream("stdin").read() if file == "-" else Path(file).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name = "Standard input" if file == "-" else file
        raise Trouble(Exit.WRONG, f"{name} is not UTF-8 text.", "Save it as UTF-8") from error


def _problems(text: str) -> list[str]:
    """The problems of a document, each with its place."""
    from arcanna_metrics.settings import parse_settings

    if (size := len(text.encode())) > LARGEST:
        return [f"the document has {size} bytes, and an SSM parameter holds at most {LARGEST}"]
    try:
        parse_settings(text)
    except ConfigurationError as error:
        return list(error.problems)
    return []


def _document(text: str) -> dict[str, Any]:
    """The fields for programs. `settings` is None if the text is not a JSON object."""
    from arcanna_metrics_cli import routing

    value, problems = _parsed(text), _problems(text)
    settings = value if isinstance(value, dict) else None
    warnings = [] if problems else routing.warnings(text)
    return {"settings": settings, "valid": not problems, "problems": problems, "warnings": warnings}


def _pretty(text: str) -> str:
    """The document with one field on each line; a text that is not JSON as it is stored."""
    value = _parsed(text)
    return text.rstrip() if value is None else json.dumps(value, indent=2, ensure_ascii=False)


def _parsed(text: str) -> Any:
    """The JSON value, or None if it is not JSON: `_problems` then says where."""
    from arcanna_metrics.documents import load

    try:
        return load(text)
    except ConfigurationError:
        return None


def _tell(given: Given, document: dict[str, Any]) -> None:
    for problem in document["problems"]:
        given.out.show(f"✗ {problem}", "red")
    for warning in document["warnings"]:
        given.out.say(f"! {warning}", "yellow")


def _in_force(text: str, visibility_lag: float, job: str) -> dict[str, Any]:
    """The settings that apply to a job, as a settings document has them."""
    from arcanna_metrics.settings import parse_settings

    pace, gate = parse_settings(text, visibility_lag).for_job(job)
    seconds = {f"{name}_seconds": int(value) for name, value in asdict(pace).items() if name != "slots"}
    return {"pace": seconds, "quality_gate": gate}


def _difference(before: str, after: str) -> list[str]:
    """The changed lines in unified diff format, with two lines of context."""
    lines = _pretty(before).splitlines(), _pretty(after).splitlines()
    return list(unified_diff(*lines, "deployed", "new", lineterm="", n=2))
