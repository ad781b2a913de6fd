"""Deployments: the result of `sam build`, a broken version, other parameters, two stacks at once."""

import filecmp
import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.alone import alone, own_installation
from tests.e2e.scene import (
    CHECK,
    JOB,
    JOB_NAME,
    MODELS,
    TRIGGER,
    VISIBILITY,
    Scene,
    alerts,
    dead_letters,
    settle,
)
from tests.support.arcanna.access import API_KEY
from tests.support.arcanna.alerts import InMemoryAlerts
from tests.support.arcanna.platform import SHORT, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.deployment import ROOT
from tests.support.installation import PARAMETERS, Installation
from tests.support.waiting import eventually

pytestmark = pytest.mark.long

ARCHITECTURES = {"arm64": "prod", "x86_64": "dev"}
"""Each is built with an environment of samconfig.yaml."""


def platform() -> ArcannaServer:
    return ArcannaServer({JOB: Job(JOB_NAME, MODELS[:3])}, InMemoryAlerts(), behaviour=SHORT)


# --- What `sam build` made -------------------------------------------------------------------------------


def sam_build(folder: Path, architecture: str) -> Path:
    """Runs `sam build` into the folder, as after a fresh clone. Returns the built template."""
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
    """The working directories of the functions' processes."""
    with platform() as arcanna, own_installation("sam-build", arcanna, {}, built=template) as here:
        scene = Scene(here, MODELS[0])
        scene.upload()
        (execution,) = scene.ended(1)
        assert execution["status"] == "SUCCEEDED"
        processes = [here.cloud.sandboxes(name)[0].pid for name in (TRIGGER, CHECK)]
        return [str(Path(f"/proc/{pid}/cwd").resolve()) for pid in processes]


def test_sam_build_output_recomputes_after_an_upload(built: Mapping[str, Path]) -> None:
    folder = built["arm64"].parent
    assert alone(partial(_run_built, built["arm64"])) == [str(folder / name) for name in (TRIGGER, CHECK)]


# --- A broken version ------------------------------------------------------------------------------------


def _run_a_broken_version(broken: Sequence[str]) -> None:
    """Uploads before, during and after a version in which these functions cannot be imported."""
    with (
        platform() as arcanna,
        own_installation("-".join(["broken", *broken]), arcanna, {}) as here,
        TemporaryDirectory() as folder,
    ):
        queue = here.cloud.outputs["UpdatesQueueUrl"]
        here.cloud.client("sqs").set_queue_attributes(
            QueueUrl=queue, Attributes={"VisibilityTimeout": VISIBILITY}
        )
        under_way, waiting, new = scenes = [Scene(here, model) for model in MODELS[:3]]
        under_way.long_under_way()
        waiting.long_under_way()
        waiting.request()
        waiting.until_waiting()

        Path(folder, "app.py").write_text("raise RuntimeError('this version is broken')\n")
        known = {name: len(_failed_to_start(here, name)) for name in broken}
        good = {name: here.cloud.update_code(name, Path(folder)) for name in broken}
        for scene in (under_way, waiting):
            scene.behaves(SHORT)
        under_way.upload("during.csv")
        new.upload()
        for name, failures in known.items():
            eventually(f"failures of {name}", partial(_has_failed, here, name, failures + 2))
        if CHECK in broken:
            eventually("that no run has an outcome", lambda: all(map(_has_given_up, scenes[:2])))
        if TRIGGER in broken:
            assert new.posts() == []
        for scene in scenes:
            scene.upload("last.csv", alerts(3))
        visible_at = new.updated_at + float(PARAMETERS["VisibilityLagSeconds"])
        # A run that begins earlier would not cover this data, and another run would follow.
        eventually("that the last data is visible", lambda: time.time() > visible_at)

        for name, code in good.items():
            here.cloud.update_code(name, code)
        for scene in scenes:
            scene.until_fresh()
        settle(here)
        assert dead_letters(here) == []
        for scene in scenes:  # each update by a run that people can see to have succeeded
            assert scene.executions()[-1]["status"] == "SUCCEEDED"
            entry = scene.entry()
            assert entry.failed_as_of < entry.fresh_as_of
        if TRIGGER in broken:
            assert len(new.posts()) == 1


def _has_failed(here: Installation, name: str, times: int) -> bool:
    return len(_failed_to_start(here, name)) >= times


def _has_given_up(scene: Scene) -> bool:
    """Whether the scene's first execution has ended because its check could not be called."""
    return bool(scene.executions()) and scene.executions()[0]["status"] == "FAILED"


def _failed_to_start(here: Installation, name: str) -> list[str]:
    return [line for line in here.cloud.logs(name) if "this version is broken" in line]


@pytest.mark.parametrize("broken", [(TRIGGER, CHECK), (TRIGGER,), (CHECK,)], ids="-".join)
def test_updates_during_a_broken_version_are_recomputed_by_the_next_good_one(
    broken: Sequence[str],
) -> None:
    alone(partial(_run_a_broken_version, broken))


# --- Other choices ---------------------------------------------------------------------------------------

CHOICES = {
    "ApiKeySecretField": "management-key",
    "SenderArns": (
        "arn:aws:s3:::customer-*,arn:aws:sns:eu-west-1:123456789012:uploads,"
        "arn:aws:events:eu-west-1:123456789012:rule/nightly"
    ),
    "VisibilityLagSeconds": "30",
}


def _run_with_choices() -> tuple[tuple[bool, bool], set[str]]:
    """Whether a request by hand and a reported update start runs at once, and the queue's allowed senders."""
    with platform() as arcanna, own_installation("choices", arcanna, CHOICES) as here:
        client, outputs = here.cloud.client, here.cloud.outputs
        client("secretsmanager").put_secret_value(
            SecretId=outputs["ApiKeySecretArn"], SecretString=json.dumps({"management-key": API_KEY})
        )
        by_hand, reported = Scene(here, MODELS[0]), Scene(here, MODELS[1])
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        at_once = (bool(by_hand.invoke()["run_id"]), bool(reported.invoke(happened_at=now)["run_id"]))
        by_hand.until_fresh()
        attributes = client("sqs").get_queue_attributes(
            QueueUrl=outputs["UpdatesQueueUrl"], AttributeNames=["Policy"]
        )["Attributes"]
        statements = json.loads(attributes["Policy"])["Statement"]
        conditions = [s["Condition"]["ArnLike"]["aws:SourceArn"] for s in statements if s["Sid"] in SENDERS]
        return at_once, {arn for condition in conditions for arn in condition}


SENDERS = ("Buckets", "TopicsAndRules")


def test_request_by_hand_starts_at_once_and_an_update_after_the_visibility_lag() -> None:
    (by_hand, reported), senders = alone(_run_with_choices)
    assert (by_hand, reported) == (True, False)
    assert senders == set(CHOICES["SenderArns"].split(","))


# --- Several stacks --------------------------------------------------------------------------------------


def _correct(here: Installation, bus: str) -> None:
    entry = {
        "Source": "arcanna.training-data",
        "DetailType": "Knowledge Base Corrected",
        "Detail": json.dumps({"job_id": JOB, "model_id": MODELS[0]}),
        "EventBusName": bus,
    }
    here.cloud.client("events").put_events(Entries=[entry])


def _run_two_stacks() -> list[tuple[int, int]]:
    """The number of recomputes of each of two stacks, after an upload and an event to each in turn."""
    seen: list[tuple[int, int]] = []
    with platform() as first, platform() as second, own_installation("first", first, {}) as one:
        one.cloud.client("events").create_event_bus(Name="second")
        with own_installation("second", second, {"EventBusName": "second"}, beside=one.cloud) as other:
            scenes = Scene(one, MODELS[0]), Scene(other, MODELS[0])

            def count() -> tuple[int, int]:
                return len(scenes[0].posts()), len(scenes[1].posts())

            def settled(expected: int) -> None:
                eventually("the recompute", lambda: sum(count()) >= expected)
                settle(one)
                settle(other)
                seen.append(count())

            scenes[0].upload()
            settled(1)
            scenes[1].upload()
            settled(2)
            _correct(one, "default")
            settled(3)
            _correct(other, "second")
            settled(4)
    return seen


def test_two_stacks_in_one_account_each_follow_their_own_updates() -> None:
    assert alone(_run_two_stacks) == [(1, 0), (1, 1), (2, 1), (2, 2)]
