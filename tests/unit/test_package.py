"""The package and the deployment have one version, and neither contains what only the other needs."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from arcanna_metrics_cli.command_line import COMMANDS, cli
from tests.support.deployment import ROOT, template

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = template()["Metadata"]["AWS::ServerlessRepo::Application"]["SemanticVersion"]


def test_command_is_left_out_of_what_is_deployed(tmp_path: Path) -> None:
    source, artifacts = tmp_path / "source", tmp_path / "artifacts"
    shutil.copytree(ROOT / "layers/arcanna_metrics", source, ignore=shutil.ignore_patterns("__pycache__"))
    command = ["make", "build-ArcannaMetricsLayer", f"ARTIFACTS_DIR={artifacts}"]
    subprocess.run(command, cwd=source, capture_output=True, check=True)  # noqa: S603
    built = {path.relative_to(artifacts / "python").parts[0] for path in artifacts.rglob("*.py")}
    assert built == {"arcanna_metrics"}


@pytest.mark.parametrize("folder", ["functions", "layers/arcanna_metrics", "layers/dependencies"])
def test_make_in_a_folder_that_sam_builds_writes_nothing(folder: str) -> None:
    """Without ARTIFACTS_DIR, its paths would begin at the root. The shell refuses the first use of it."""
    planned = subprocess.run(
        ["make", "-n"],  # noqa: S607
        cwd=ROOT / folder,
        env={name: value for name, value in os.environ.items() if name != "ARTIFACTS_DIR"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    first, *others = [line for line in planned.splitlines() if "ARTIFACTS_DIR" in line]
    assert '"${ARTIFACTS_DIR:?is set by sam build. Type make in the folder of the project}' in first
    assert others
    assert '"/' not in planned


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that `pip install .` installs."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)  # noqa: S603
    (made,) = folder.iterdir()
    return zipfile.ZipFile(made)


def test_wheel_has_the_command_and_what_it_shares_with_the_functions(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.partition("/")[0] for name in names if name.endswith(".py")} == {
        "arcanna_metrics",
        "arcanna_metrics_cli",
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pem")]
    for command in COMMANDS:
        assert f"arcanna_metrics_cli/commands/{command}.py" in names
    assert {f"arcanna_metrics_cli/report/page.{kind}" for kind in ("html", "css", "js")} <= set(names)


def test_wheel_has_the_version_of_the_template_and_the_licence(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    assert f"\nVersion: {VERSION}\n" in wheel.read(metadata).decode()
    assert any("LICENSE" in name for name in wheel.namelist())


def test_version_is_written_only_in_the_template() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "template.yaml"
    found = re.findall(PROJECT["tool"]["hatch"]["version"]["pattern"], (ROOT / "template.yaml").read_text())
    assert found == [VERSION]


def test_newest_release_of_the_changelog_is_the_version_of_the_template() -> None:
    released = re.findall(r"^## \[(\d\S*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == VERSION
    order = [tuple(map(int, version.split("."))) for version in released]
    assert order == sorted(order, reverse=True)


def test_command_needs_boto3_click_jinja2_and_rich_only() -> None:
    names = {re.split(r"[<>=~!]", each)[0] for each in PROJECT["project"]["dependencies"]}
    assert names == {"boto3", "click", "jinja2", "rich"}


@pytest.mark.parametrize("name", COMMANDS)
def test_list_of_commands_repeats_their_own_help_and_loads_neither_boto3_nor_rich(
    name: str,
) -> None:
    command = cli.get_command(None, name)  # type: ignore[arg-type]  # it is not used
    assert command is not None
    assert command.help
    first = (
        "import sys\n"
        "from arcanna_metrics_cli.command_line import main\n"
        f"main(['{name}', '--help'])\n"
        "sys.exit(sum(module in sys.modules for module in ('boto3', 'botocore', 'rich', 'httpx')))"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", first],
        env={"PYTHONPATH": str(ROOT / "layers/arcanna_metrics")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--stack" in done.stdout or name == "settings"
