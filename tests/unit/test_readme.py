"""What the README says of the template is what the template says."""

import re

import pytest
from samcli.cli.types import CfnParameterOverridesType  # type: ignore[import-untyped]

from tests.certificates import Authority
from tests.deployment import ROOT, actions_of, template
from tests.readme import section, table

README = (ROOT / "README.md").read_text()


def parameter_row(name: str) -> str:
    parameter = template()["Parameters"][name]
    default = parameter.get("Default")
    shown = "required" if default is None else "(empty)" if default == "" else f"`{default}`"
    if len(shown) > 40:
        shown = "see below"
    return f"| `{name}` | {shown} | {parameter['Description']} |"


@pytest.mark.parametrize("name", template()["Parameters"])
def test_every_parameter_is_described_as_in_the_template(name: str) -> None:
    assert parameter_row(name) in README.splitlines()


def test_no_other_parameter_is_described() -> None:
    table = README[README.index("### Parameters") : README.index("### Routes")]

    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(template()["Parameters"])


SERVICES = {
    "Secrets Manager": "secretsmanager",
    "SSM": "ssm",
    "SQS": "sqs",
    "DynamoDB": "dynamodb",
    "Step Functions": "states",
}


def test_the_services_that_a_function_in_a_vpc_must_reach_are_those_that_it_may_call() -> None:
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


def test_the_command_that_gives_a_ca_hands_it_over_as_it_is() -> None:
    pem = Authority().pem.rstrip("\n")  # as the shell's $(...) has it
    command = re.search(r'sam deploy --parameter-overrides "(CaBundle=.*)"\n', section("Networks"))
    assert command
    argument = command[1].replace('\\"', '"').replace("$(cat ca.pem)", pem)

    assert CfnParameterOverridesType().convert((argument,), None, None) == {"CaBundle": pem}


def test_the_default_routes_are_the_ones_described() -> None:
    assert '"training-data/{job_id}/{model_id}/*"' in template()["Parameters"]["Routes"]["Default"]
    assert "`training-data/{job_id}/{model_id}/...`" in README


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z0-9]+)", README)) | set(
        re.findall(r"^make ([a-z0-9]+)", README, re.MULTILINE)
    )

    assert named - targets == set()
