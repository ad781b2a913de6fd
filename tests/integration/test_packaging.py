"""What the local cloud builds is built once, however many test runs share it, and with what people add."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from arcanna_metrics.platform import tls
from tests.certificates import Authority
from tests.local_cloud.packaging import merged, package

STACK = Path(__file__).parent / "local_cloud_stack" / "template.yaml"
RUNS = 8
CA = Authority()


def _built(cache: Path, _: int) -> tuple[frozenset[str], Path]:
    made = package(STACK, {"Greeting": "hi"}, "eu-west-1", cache)
    return frozenset(made.files), merged(list(made.folders.values()), cache)


def test_runs_that_begin_together_share_what_the_first_has_built(tmp_path: Path) -> None:
    with ThreadPoolExecutor(RUNS) as pool:
        assert len(set(pool.map(partial(_built, tmp_path / "artifacts"), range(RUNS)))) == 1


def build(folder: Path, ca: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The layer as `sam build` makes it with this ca.pem: where that would be, and what make says."""
    source, artifacts = folder / "source", folder / "artifacts"
    shutil.copytree("layers/arcanna_metrics", source)
    Path(source, "ca.pem").write_text(ca)
    command = ["make", "build-ArcannaMetricsLayer", f"ARTIFACTS_DIR={artifacts}"]
    made = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)  # noqa: S603
    return artifacts / "python" / "arcanna_metrics" / tls.CA_FILE.name, made


def test_a_company_s_ca_goes_with_the_layer(tmp_path: Path) -> None:
    found, made = build(tmp_path, CA.pem)
    assert made.returncode == 0, made.stderr
    assert found.read_text() == CA.pem


def test_a_private_key_does_not(tmp_path: Path) -> None:
    found, made = build(tmp_path, f"{CA.pem}-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n")
    assert made.returncode != 0
    assert "has a private key in it" in made.stderr
    assert not found.exists()


def test_the_pip_of_an_older_system_builds_the_dependencies(tmp_path: Path) -> None:
    """22.0.2 is that of Ubuntu 22.04, and knows fewer options than newer ones."""
    source, python, artifacts = tmp_path / "source", tmp_path / "venv", tmp_path / "artifacts"
    shutil.copytree("layers/dependencies", source)
    uv = f"{sys.prefix}/bin/uv"
    for command in (["venv", "--python", sys.executable, python], ["pip", "install", "pip==22.0.2"]):
        subprocess.run([uv, "-q", *command], env={**os.environ, "VIRTUAL_ENV": str(python)}, check=True)  # noqa: S603
    made = subprocess.run(  # noqa: S603
        ["make", "build-DependenciesLayer", f"ARTIFACTS_DIR={artifacts}"],  # noqa: S607
        cwd=source,
        env={**os.environ, "PATH": f"{python / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert Path(artifacts, "python", "httpx").is_dir()
