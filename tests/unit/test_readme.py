"""The documentation agrees with the template and the Makefile."""

import re
from pathlib import Path

import pytest
from samcli.cli.types import CfnParameterOverridesType  # type: ignore[import-untyped]

from tests.support.certificates import Authority
from tests.support.deployment import ROOT, actions_of
from tests.support.readme import anchor_of, section, table

README = (ROOT / "README.md").read_text()
PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "events/README.md",
        "functions/README.md",
        "functions/RUNBOOK.md",
        "layers/README.md",
        "tests/README.md",
    )
]


SERVICES = {
    "Secrets Manager": "secretsmanager",
    "SSM": "ssm",
    "SQS": "sqs",
    "DynamoDB": "dynamodb",
    "Step Functions": "states",
}


def test_services_listed_for_a_vpc_are_those_that_the_roles_allow() -> None:
    rows = dict(table(section("Networks"), "Function"))

    assert set(rows) == {"`trigger_recompute`", "`check_status`"}
    for name, function in (
        ("trigger_recompute", "TriggerRecomputeFunction"),
        ("check_status", "CheckStatusFunction"),
    ):
        *services, arcanna = rows[f"`{name}`"].split(", ")
        assert arcanna == "Arcanna"
        called = {action.partition(":")[0] for action in actions_of(function)}
        assert {SERVICES[service] for service in services} == called


def test_documented_sam_command_passes_the_ca_bundle_unchanged() -> None:
    pem = Authority().pem.rstrip("\n")  # as the shell's $(...) has it
    command = re.search(r'sam deploy .*--parameter-overrides "(CaBundle=.*)"\n', section("Networks"))
    assert command
    argument = command[1].replace('\\"', '"').replace("$(cat ca.pem)", pem)

    assert CfnParameterOverridesType().convert((argument,), None, None) == {"CaBundle": pem}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_and_link_in_a_page_exists(page: Path) -> None:
    text = page.read_text()
    targets = set(re.findall(r"^([a-z0-9]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z0-9]+)", text)) | set(
        re.findall(r"^make ([a-z0-9]+)", text, re.MULTILINE)
    )
    assert named - targets == set()
    links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    for path, _, anchor in links:
        linked = (page.parent / path) if path else page
        assert linked.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert anchor in map(anchor_of, headings), anchor


STACK_COMMANDS = r"(\S*)sam ((?:delete|logs|remote invoke|deploy (?=--(?!guided)))[^`\n]*)"
"""Commands of the SAM CLI to type that work on one stack. samconfig.yaml names only the default one."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sam_commands_to_type_name_the_programs_folder_and_the_stack(page: Path) -> None:
    for folder, command in re.findall(STACK_COMMANDS, page.read_text()):
        assert folder.lstrip("`(") == ".venv/bin/", command
        assert "--stack-name arcanna-metrics" in command
    assert not re.findall(r"^ *sam .*", page.read_text(), re.MULTILINE)


def test_every_sample_event_is_described() -> None:
    named = set(re.findall(r"`([\w.-]+\.json)`", section("What it understands")))
    assert {path.name for path in (ROOT / "events").glob("*.json")} <= named
