"""The deployed code is small, starts from bytecode, and loads only what it needs."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from arcanna_metrics.platform import tls
from tests.support.deployment import template
from tests.support.local_cloud.cloud import PROJECT
from tests.tools.benchmarks.artefacts import Artefact, built

RUNTIME = template()["Globals"]["Function"]["Runtime"]
TAG = f"cpython-{RUNTIME.removeprefix('python').replace('.', '')}"
UNCHECKED = b"\x01\x00\x00\x00"
"""The flags of a .pyc that is used without checking its source (PEP 552)."""
MEBIBYTE = 2**20


def has_runtime() -> bool:
    """Whether the build finds a Python of the Lambda runtime's version, as the layers' Makefiles test it."""
    version = {**os.environ, "PYENV_VERSION": RUNTIME.removeprefix("python")}
    asked = ["sh", "-c", f"{RUNTIME} -V"]  # pyenv's shim may exist without a Python to run
    return not subprocess.run(asked, env=version, capture_output=True).returncode  # noqa: S603


@pytest.fixture(scope="module")
def artefacts() -> Mapping[str, Artefact]:
    return built()


def test_deployed_code_has_at_most_4_mebibytes(artefacts: Mapping[str, Artefact]) -> None:
    assert sum(artefact.archive.stat().st_size for artefact in artefacts.values()) <= 4 * MEBIBYTE


@pytest.mark.skipif(not has_runtime(), reason=f"no {RUNTIME} here, so it is built without byte code")
def test_bytecode_is_for_the_runtime_and_names_no_local_path(
    artefacts: Mapping[str, Artefact],
) -> None:
    for artefact in artefacts.values():
        sources = list(artefact.folder.rglob("*.py"))
        assert sources
        for source in sources:
            compiled = (source.parent / "__pycache__" / f"{source.stem}.{TAG}.pyc").read_bytes()
            assert compiled[4:8] == UNCHECKED
            assert str(PROJECT).encode() not in compiled


def test_no_package_is_compiled_for_one_processor(artefacts: Mapping[str, Artefact]) -> None:
    assert not [path for artefact in artefacts.values() for path in artefact.folder.rglob("*.so")]


def test_every_package_has_its_licence(artefacts: Mapping[str, Artefact]) -> None:
    packages = list(artefacts["DependenciesLayer"].folder.glob("python/*.dist-info"))
    assert packages
    assert not [p.name for p in packages if not any(p.rglob("LICENSE*"))]


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here, so all CAs stay in one file")
def test_openssl_finds_every_public_ca_in_the_folder_made_of_them(artefacts: Mapping[str, Artefact]) -> None:
    certifi = artefacts["DependenciesLayer"].folder / "python" / "certifi"
    files = list((certifi / tls.HASHED).iterdir())
    assert len(files) == (certifi / "cacert.pem").read_text().count("BEGIN CERTIFICATE")
    verify = (
        "openssl",
        "verify",
        "-no_check_time",
        "-no-CAfile",
        "-no-CAstore",
        "-CApath",
        certifi / tls.HASHED,
    )
    said = subprocess.run([*verify, *files], capture_output=True, text=True)  # noqa: S603
    assert said.returncode == 0, said.stderr
    assert said.stdout.count(": OK") == len(files)


VARIABLES = {
    "POWERTOOLS_METRICS_NAMESPACE": "tests",
    "ARCANNA_BASE_URL": "https://arcanna.example",
    "ARCANNA_API_KEY_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:key",
    "URL_SUFFIX": "amazonaws.com",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "EVENT_BUS_NAME": "default",
    "LEDGER_TABLE": "ledger",
    "WORKFLOW_ARN": "arn:aws:states:eu-west-1:123456789012:stateMachine:recompute",
    "SETTINGS_PARAMETER": "settings",
    "VISIBILITY_LAG_SECONDS": "60",
    "UPDATES_QUEUE_URL": "https://sqs.example/updates",
    "DEAD_LETTER_QUEUE_URL": "https://sqs.example/letters",
}


@pytest.fixture
def start(artefacts: Mapping[str, Artefact], tmp_path: Path) -> Callable[[str, str], list[str]]:
    """Runs a program in the environment of a function as it is built. Returns the words that it prints."""

    def started(function: str, program: str) -> list[str]:
        layers = [artefacts[name].folder / "python" for name in ("DependenciesLayer", "ArcannaMetricsLayer")]
        path = os.pathsep.join(map(str, [artefacts[function].folder, *layers]))
        return subprocess.run(  # noqa: S603 - the function as it is built
            [PROJECT / "build/lambda-env/bin/python", "-c", program],
            env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **VARIABLES},
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()

    return started


def test_check_status_loads_neither_boto3_nor_settings(start: Callable[[str, str], list[str]]) -> None:
    loaded = start("CheckStatusFunction", "import sys, app; app.platform(); print(*sys.modules)")

    assert "httpx" in loaded
    assert not {"boto3", "botocore.session"} & set(loaded)  # Powertools looks for botocore, which is empty
    assert "arcanna_metrics.platform.connect" in loaded
    assert not [name for name in loaded if re.match(r"arcanna_metrics\.(settings|intake)", name)]


def test_trigger_loads_botocore_without_the_layer_around_it(start: Callable[[str, str], list[str]]) -> None:
    loaded = set(start("TriggerRecomputeFunction", "import sys, app; app.trigger(); print(*sys.modules)"))
    assert "botocore.session" in loaded
    assert "boto3" not in loaded


def test_trigger_searches_only_the_folders_of_its_services(start: Callable[[str, str], list[str]]) -> None:
    searched = start(
        "TriggerRecomputeFunction",
        "import sys; sys.addaudithook(lambda event, of: event == 'os.listdir' and print(of[0]));"
        "import app; app.trigger()",
    )

    services = {path.split("botocore/data/")[1] for path in searched if "botocore/data/" in path}
    assert services == {"dynamodb", "stepfunctions"}
