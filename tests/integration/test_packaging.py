"""The local cloud builds everything once for all test runs, including files that users add."""

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from samcli.lib.providers.sam_function_provider import SamFunctionProvider  # type: ignore[import-untyped]
from samcli.lib.providers.sam_layer_provider import SamLayerProvider  # type: ignore[import-untyped]
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider  # type: ignore[import-untyped]

from arcanna_metrics.platform import tls
from tests.support import building
from tests.support.certificates import Authority
from tests.support.deployment import ROOT
from tests.support.local_cloud.packaging import merged, package
from tests.support.this_machine import proxies
from tests.support.waiting import eventually

STACK = Path(__file__).parent / "local_cloud_stack" / "template.yaml"
RUNS = 8
CA = Authority()


def _built(cache: Path, _: int) -> tuple[frozenset[str], Path]:
    made = package(STACK, {"Greeting": "hi"}, "eu-west-1", cache)
    return frozenset(made.files), merged(list(made.folders.values()), cache)


def test_concurrent_runs_share_the_first_build(tmp_path: Path) -> None:
    with ThreadPoolExecutor(RUNS) as pool:
        assert len(set(pool.map(partial(_built, tmp_path / "artifacts"), range(RUNS)))) == 1


def test_what_was_built_ahead_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    building.main()
    monkeypatch.setenv("PATH", "/no/make/here")
    given = {"ArcannaBaseUrl": "https://arcanna.example"}
    assert len(package(ROOT / "template.yaml", given, "eu-west-1", building.ARTIFACTS).folders) == 4


def test_interrupt_ends_the_build_that_a_shell_started_in_the_background() -> None:
    def interrupt_has_ended(process: subprocess.Popen[bytes]) -> bool:
        process.send_signal(signal.SIGINT)
        return process.poll() is not None

    with (
        building.alone_in(building.ARTIFACTS),  # so that the build waits
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.building"],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell does
        ) as process,
    ):
        eventually("the end of the build", lambda: interrupt_has_ended(process))
    assert process.returncode == -signal.SIGINT


def build(folder: Path, ca: str) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Builds the layer with this ca.pem. Returns the path of the packaged file and make's output."""
    source, artifacts = folder / "source", folder / "artifacts"
    shutil.copytree("layers/arcanna_metrics", source)
    Path(source, "ca.pem").write_text(ca)
    command = ["make", "build-ArcannaMetricsLayer", f"ARTIFACTS_DIR={artifacts}"]
    made = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)  # noqa: S603
    return artifacts / "python" / "arcanna_metrics" / tls.CA_FILE.name, made


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # SAM's own warning about itself
@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_only_the_functions_name_an_architecture(architecture: str) -> None:
    """Lambda refuses a layer's CompatibleArchitectures in a region without arm64, whatever they are."""
    given = {"Architecture": architecture}
    stacks, _ = SamLocalStackProvider.get_stacks(str(ROOT / "template.yaml"), parameter_overrides=given)
    layers, functions = list(SamLayerProvider(stacks).get_all()), list(SamFunctionProvider(stacks).get_all())

    assert [function.architecture for function in functions] == [architecture, architecture]
    assert [layer.compatible_architectures for layer in layers] == [None, None]
    assert [layer.build_architecture for layer in layers] == ["x86_64", "x86_64"]  # or SAM warns


def test_company_ca_is_packaged_with_the_layer(tmp_path: Path) -> None:
    found, made = build(tmp_path, CA.pem)
    assert made.returncode == 0, made.stderr
    assert found.read_text() == CA.pem


def test_private_key_is_not_packaged_with_the_layer(tmp_path: Path) -> None:
    found, made = build(tmp_path, f"{CA.pem}-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n")
    assert made.returncode != 0
    assert "has a private key in it" in made.stderr
    assert not found.exists()


def test_old_pip_builds_the_dependencies(tmp_path: Path) -> None:
    """The oldest that a supported Ubuntu has: 22.04's pip, which Python 3.12 cannot run, or 24.04's."""
    old = "22.0.2" if sys.version_info < (3, 12) else "24.0"
    source, python, artifacts = tmp_path / "source", tmp_path / "venv", tmp_path / "artifacts"
    shutil.copytree("layers/dependencies", source)
    uv = f"{sys.prefix}/bin/uv"
    online = {**os.environ, **proxies()}
    for command in (["venv", "--python", sys.executable, python], ["pip", "install", f"pip=={old}"]):
        with_uv = {**online, "VIRTUAL_ENV": str(python), "UV_SYSTEM_CERTS": "1"}  # as in the Makefile
        subprocess.run([uv, "-q", *command], env=with_uv, check=True)  # noqa: S603
    made = subprocess.run(  # noqa: S603
        ["make", "build-DependenciesLayer", f"ARTIFACTS_DIR={artifacts}"],  # noqa: S607
        cwd=source,
        env={**online, "PATH": f"{python / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert made.returncode == 0, made.stderr
    assert Path(artifacts, "python", "httpx").is_dir()
