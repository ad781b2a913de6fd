"""What a function needs and the layer lacks is missed here as it would be on AWS."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAMBDA_PYTHON = Path("build/lambda-env/bin/python")
FUNCTIONS = ("trigger_recompute", "check_status")


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both layers as `sam build` makes them, merged as Lambda merges them under /opt."""
    opt = tmp_path_factory.mktemp("opt")
    for folder, target in (("dependencies", "DependenciesLayer"), ("arcanna_metrics", "ArcannaMetricsLayer")):
        copy = tmp_path_factory.mktemp(folder)
        shutil.copytree(Path("layers") / folder, copy, dirs_exist_ok=True)
        command = ["make", f"build-{target}", f"ARTIFACTS_DIR={opt}"]
        subprocess.run(command, cwd=copy, check=True, capture_output=True)  # noqa: S603
    return opt


def imported(function: str, opt: Path) -> subprocess.CompletedProcess[str]:
    """Imports a handler and makes an HTTP client, in an environment with nothing but that and the layers."""
    return subprocess.run(  # noqa: S603
        [LAMBDA_PYTHON.absolute(), "-c", "import app, httpx; httpx.Client()"],
        cwd=Path("functions") / function,
        env={"PYTHONPATH": f"{opt}/python", "PATH": os.defpath, "POWERTOOLS_METRICS_NAMESPACE": "Test"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_layers_hold_everything_that_a_function_imports(function: str, layers: Path) -> None:
    found = imported(function, layers)

    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("package", ["httpx", "httpcore", "aws_lambda_powertools", "arcanna_metrics"])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_without_a_package_of_the_layers_fails_to_import(
    function: str, package: str, layers: Path, tmp_path: Path
) -> None:
    shutil.copytree(layers, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "python" / package)

    found = imported(function, tmp_path)

    assert "ModuleNotFoundError" in found.stderr
    assert package in found.stderr
