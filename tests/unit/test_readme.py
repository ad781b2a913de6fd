"""What the README says of the template is what the template says."""

import re

import pytest

from tests.deployment import ROOT, template

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


def test_the_default_routes_are_the_ones_described() -> None:
    assert '"training-data/{job_id}/{model_id}/*"' in template()["Parameters"]["Routes"]["Default"]
    assert "`training-data/{job_id}/{model_id}/...`" in README


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z0-9]+)", README)) | set(
        re.findall(r"^make ([a-z0-9]+)", README, re.MULTILINE)
    )

    assert named - targets == set()
