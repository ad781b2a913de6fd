"""The ways to deploy that are not the default: what `sam build` made, gradually, several stacks at once."""

import filecmp
import json
import os
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.arcanna.access import API_KEY
from tests.arcanna.alerts import InMemoryAlerts
from tests.arcanna.platform import SHORT, Job
from tests.arcanna.server import ArcannaServer
from tests.deployment import ROOT
from tests.e2e.alone import alone, own_installation, settle
from tests.e2e.conftest import JOB, MODELS
from tests.e2e.test_main_job import alerts, asks, ended_runs, key_of
from tests.harness import Installation, wait_for

pytestmark = pytest.mark.long

MODEL = MODELS[0]
ARCHITECTURES = {"arm64": "prod", "x86_64": "dev"}
"""Each is built with an environment of samconfig.toml."""


def platform() -> ArcannaServer:
    jobs = {JOB: Job(name="security-alerts", models=(MODEL,))}
    return ArcannaServer(jobs, InMemoryAlerts(), behaviour=SHORT)


def upload_is_followed(here: Installation, name: str = "alerts.csv") -> None:
    """Raises TimeoutError or AssertionError unless an upload of the model leads to one run that completes."""
    before = len(asks(here, MODEL))
    here.upload(key_of(MODEL, name), alerts())
    runs = ended_runs(here, MODEL, before + 1)
    assert [run["status"] for run in runs] == ["SUCCEEDED"] * (before + 1)
    settle(here)
    assert len(asks(here, MODEL)) == before + 1


# --- What `sam build` made -------------------------------------------------------------------------------


def sam_build(folder: Path, architecture: str) -> Path:
    """Runs `sam build` into the folder, as after a fresh clone; the template that it has built."""
    settings = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTHON", "AWS_", "SAM_"))}
    built = subprocess.run(  # noqa: S603 - the project's own tools
        [
            *(ROOT / ".venv/bin/sam", "build", "--config-env", ARCHITECTURES[architecture]),
            *("--build-dir", folder / architecture / "build", "--cache-dir", folder / architecture / "cache"),
            *("--parameter-overrides", f"Architecture={architecture}"),
        ],
        cwd=ROOT,
        env={**settings, "SAM_CLI_TELEMETRY": "0", "AWS_DEFAULT_REGION": "eu-central-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / architecture / "build" / "template.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """The built templates, by architecture."""
    folder = tmp_path_factory.mktemp("sam-build")
    with ThreadPoolExecutor() as pool:
        templates = pool.map(partial(sam_build, folder), ARCHITECTURES)
        return dict(zip(ARCHITECTURES, templates, strict=True))


def test_both_architectures_get_the_same_files(built: Mapping[str, Path]) -> None:
    one, other = (template.parent for template in built.values())
    files = {path.relative_to(one) for path in one.rglob("*") if path.is_file()}
    assert files == {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    assert {path.parts[0] for path in files} == {
        *("template.yaml", "TriggerRecomputeFunction", "CheckStatusFunction"),
        *("DependenciesLayer", "ArcannaMetricsLayer"),
    }
    _, different, unread = filecmp.cmpfiles(one, other, map(str, files), shallow=False)
    assert (different, unread) == ([], [])


def _run_built(template: Path) -> list[str]:
    """Where the functions' processes ran."""
    with platform() as arcanna, own_installation("sam-build", arcanna, {}, built=template) as here:
        upload_is_followed(here)
        names = ("TriggerRecomputeFunction", "CheckStatusFunction")
        return [str(Path(f"/proc/{here.cloud.sandboxes(name)[0].pid}/cwd").resolve()) for name in names]


def test_what_sam_builds_does_the_main_job(built: Mapping[str, Path]) -> None:
    folder = built["arm64"].parent
    ran_in = alone(partial(_run_built, built["arm64"]))
    assert ran_in == [str(folder / name) for name in ("TriggerRecomputeFunction", "CheckStatusFunction")]


# --- Gradually, and with the other choices ---------------------------------------------------------------

CHOICES = {
    "DeploymentType": "Canary10Percent5Minutes",
    "Release": "2026-11-24",
    "ApiKeySecretField": "management-key",
    "SenderArns": "arn:aws:s3:::customer-*,arn:aws:sns:eu-west-1:123456789012:uploads",
}


def _run_with_choices() -> tuple[set[str], str, set[str]]:
    """As what functions were invoked and polled for, and who else than the rules may send to the queue."""
    with platform() as arcanna, own_installation("choices", arcanna, CHOICES) as here:
        client, outputs = here.cloud.client, here.cloud.outputs
        client("secretsmanager").put_secret_value(
            SecretId=outputs["ApiKeySecretArn"], SecretString=json.dumps({"management-key": API_KEY})
        )
        upload_is_followed(here)
        (mapping,) = client("lambda").list_event_source_mappings()["EventSourceMappings"]
        calls = [c for c in here.cloud.calls if c.operation == "Invoke"]
        invoked = {str(call.parameters["FunctionName"]).replace("%3A", ":") for call in calls}
        attributes = client("sqs").get_queue_attributes(
            QueueUrl=outputs["UpdatesQueueUrl"], AttributeNames=["Policy"]
        )["Attributes"]
        statements = json.loads(attributes["Policy"])["Statement"]
        admitted = [s["Condition"]["ArnLike"] for s in statements if "ArnLike" in s["Condition"]]
        senders = {arn for condition in admitted for arn in condition["aws:SourceArn"]}
        polled_for = mapping["FunctionArn"].rpartition(":")[2]
        return {function.rpartition(":")[2] for function in invoked}, polled_for, senders


def test_an_upload_is_followed_through_aliases_and_with_a_key_in_a_json_secret() -> None:
    invoked, polled_for, senders = alone(_run_with_choices)
    assert invoked == {"live"}
    assert polled_for == "1"  # moto names the version that the alias stands for
    assert senders == set(CHOICES["SenderArns"].split(","))


# --- Several stacks --------------------------------------------------------------------------------------


def _correct(here: Installation, bus: str) -> None:
    entry = {
        "Source": "arcanna.training-data",
        "DetailType": "Knowledge Base Corrected",
        "Detail": json.dumps({"job_id": JOB, "model_id": MODEL}),
        "EventBusName": bus,
    }
    here.cloud.client("events").put_events(Entries=[entry])


def _run_two_stacks() -> list[tuple[int, int]]:
    """How many recomputes each of two stacks had asked for: after an upload and an event to each in turn."""
    seen: list[tuple[int, int]] = []
    with platform() as first, platform() as second, own_installation("first", first, {}) as one:
        one.cloud.client("events").create_event_bus(Name="second")
        with own_installation("second", second, {"EventBusName": "second"}, beside=one.cloud) as other:

            def count() -> tuple[int, int]:
                return len(asks(one, MODEL)), len(asks(other, MODEL))

            def settled(expected: int) -> None:
                wait_for("the recompute", lambda: sum(count()) >= expected)
                settle(one)
                settle(other)
                seen.append(count())

            one.upload(key_of(MODEL), alerts())
            settled(1)
            other.upload(key_of(MODEL), alerts())
            settled(2)
            _correct(one, "default")
            settled(3)
            _correct(other, "second")
            settled(4)
    return seen


def test_of_two_stacks_each_follows_its_own_updates() -> None:
    assert alone(_run_two_stacks) == [(1, 0), (1, 1), (2, 1), (2, 2)]
