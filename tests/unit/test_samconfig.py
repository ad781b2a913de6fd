"""The environments in samconfig.yaml fit the template."""

from typing import Any

import pytest
import yaml
from samcli.cli.types import CfnParameterOverridesType  # type: ignore[import-untyped]

from tests.support.deployment import ROOT, template
from tests.support.parameters import parameter_values

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "samconfig.yaml").read_text())
ENVIRONMENTS = {name: value for name, value in CONFIG.items() if name != "version"}


def deploy(environment: str) -> dict[str, Any]:
    settings: dict[str, Any] = ENVIRONMENTS[environment]["deploy"]["parameters"]
    return settings


def parameters(environment: str) -> dict[str, str]:
    """The template's parameters that an environment sets."""
    overrides = tuple(deploy(environment).get("parameter_overrides", []))
    return dict(CfnParameterOverridesType().convert(overrides, None, None))


def test_default_dev_and_prod_have_stacks_of_their_own() -> None:
    assert set(ENVIRONMENTS) == {"default", "dev", "prod"}
    stacks = {settings["global"]["parameters"]["stack_name"] for settings in ENVIRONMENTS.values()}
    assert len(stacks) == len(ENVIRONMENTS)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_stack_has_artifacts_of_its_own_so_that_its_removal_leaves_those_of_others(name: str) -> None:
    assert deploy(name)["s3_prefix"] == ENVIRONMENTS[name]["global"]["parameters"]["stack_name"]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_sets_only_parameters_of_the_template(name: str) -> None:
    given = {"ArcannaBaseUrl": "https://arcanna.example.com", **parameters(name)}
    values = parameter_values(template()["Parameters"], given)
    assert values.items() >= given.items()
    assert "ArcannaBaseUrl" not in parameters(name)
