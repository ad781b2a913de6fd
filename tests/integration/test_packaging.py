"""What the local cloud builds is built once, however many test runs share it, and with what people add."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from recompute import tls
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
    shutil.copytree("layers/recompute", source)
    Path(source, "ca.pem").write_text(ca)
    command = ["make", "build-RecomputeLayer", f"ARTIFACTS_DIR={artifacts}"]
    made = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)  # noqa: S603
    return artifacts / "python" / "recompute" / tls.CA_FILE.name, made


def test_a_company_s_ca_goes_with_the_layer(tmp_path: Path) -> None:
    found, made = build(tmp_path, CA.pem)
    assert made.returncode == 0, made.stderr
    assert found.read_text() == CA.pem


def test_a_private_key_does_not(tmp_path: Path) -> None:
    found, made = build(tmp_path, f"{CA.pem}-----BEGIN EC PRIVATE KEY-----\nc2VjcmV0\n")
    assert made.returncode != 0
    assert "has a private key in it" in made.stderr
    assert not found.exists()
