"""`make deploy`, with the real SAM CLI: packages, uploads, change sets and stacks on the local cloud."""

import os
import pty
import re
import select
import shutil
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import boto3
import pytest
import yaml

from tests.e2e.alone import BUILD, alone
from tests.e2e.scene import JOB, JOB_NAME, MODELS, TRIGGER, VISIBILITY, Scene, alerts, dead_letters
from tests.support.arcanna.access import API_KEY
from tests.support.arcanna.platform import SHORT, Job
from tests.support.arcanna.server import ArcannaServer
from tests.support.deployment import ROOT, template
from tests.support.installation import Installation, LaterAlerts
from tests.support.local_cloud import ApiFault, LocalCloud
from tests.support.local_cloud.cloud import OPERATOR, REGION
from tests.support.waiting import PATIENCE, eventually
from tests.tools.deploy.__main__ import WORDS
from tests.tools.deploy.account import LOOPBACK_CLOUD

pytestmark = pytest.mark.long

PACE = "VisibilityLagSeconds=1"
WRONG = 2
"""The exit status for a wrong argument."""


class Place(NamedTuple):
    """A platform, a cloud without a stack, and a folder for files."""

    arcanna: ArcannaServer
    cloud: LocalCloud
    folder: Path

    def shell(self, **variables: str) -> dict[str, str]:
        """The environment for a deployment there. An empty variable counts as unset."""
        others = ("AWS_", "SAM_", "MAKE", "MFLAGS", "PYTHON")
        mine = {k: v for k, v in os.environ.items() if not k.startswith(others) and k not in WORDS}
        credentials = {"AWS_ACCESS_KEY_ID": OPERATOR, "AWS_SECRET_ACCESS_KEY": "local"}
        nobody = str(self.folder / "nobody")
        files = {"AWS_CONFIG_FILE": nobody, "AWS_SHARED_CREDENTIALS_FILE": nobody}
        there = {"AWS_ENDPOINT_URL": self.cloud.url, "AWS_DEFAULT_REGION": REGION, LOOPBACK_CLOUD: "1"}
        set_ = {**mine, **there, **credentials, **files, "AWS_EC2_METADATA_DISABLED": "true", **variables}
        return {name: value for name, value in set_.items() if value}

    def make_deploy(self, shell: Mapping[str, str] | None = None, **words: str) -> tuple[int, str]:
        """Runs `make deploy` without a terminal. Returns its exit status and output."""
        done = subprocess.run(  # noqa: S603 - the project's own make
            ["make", "deploy", *(f"{word}={value}" for word, value in words.items())],  # noqa: S607
            cwd=ROOT,
            env=self.shell(**(shell or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        # make has its own exit status, and prints the command's.
        told = re.search(r"^make: \*\*\* .* Error (\d+)$", done.stdout, re.MULTILINE)
        return (int(told[1]) if told else done.returncode), done.stdout

    def artifacts(self) -> list[str]:
        """The keys in SAM's bucket."""
        s3 = self.cloud.client("s3")
        buckets = [each["Name"] for each in s3.list_buckets()["Buckets"] if "sam-cli" in each["Name"]]
        listed = [s3.list_objects_v2(Bucket=name)["Contents"] for name in buckets]
        return [item["Key"] for contents in listed for item in contents]

    def operations(self, *names: str) -> list[str]:
        """The API calls so far with one of these names."""
        return [call.operation for call in self.cloud.calls if call.operation in names]

    def parameters(self, stack: str = "arcanna-metrics") -> dict[str, str]:
        (found,) = self.cloud.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {p["ParameterKey"]: p["ParameterValue"] for p in found["Parameters"]}


CHANGES = ("CreateChangeSet", "ExecuteChangeSet", "PutSecretValue", "CreateBucket")


@contextmanager
def place(name: str) -> Iterator[Place]:
    jobs = {JOB: Job(JOB_NAME, MODELS[:3])}
    with (
        ArcannaServer(jobs, LaterAlerts(), behaviour=SHORT) as arcanna,
        LocalCloud({}, BUILD / name, is_empty=True) as cloud,
        TemporaryDirectory() as folder,
    ):
        Path(folder, "key.txt").write_text(f"{API_KEY}\n")
        yield Place(arcanna, cloud, Path(folder))


# --- From nothing to a run, and on ----------------------------------------------------------------------


def _run_first_deployment_and_updates() -> None:
    with place("deploy") as here:
        url, key_file = here.arcanna.url, str(here.folder / "key.txt")
        status, said = here.make_deploy(URL=url, KEY_FILE=key_file, ARGS=PACE)
        assert status == 0, said
        assert API_KEY not in said
        build, deploy = re.findall(r"^\$ (.+)$", said, re.MULTILINE)
        assert build == ".venv/bin/sam build"
        assert deploy == (
            ".venv/bin/sam deploy --config-file samconfig.yaml --stack-name arcanna-metrics"
            f" --s3-prefix arcanna-metrics --region {REGION}"
            " --no-confirm-changeset --no-fail-on-empty-changeset"
            f" --parameter-overrides ArcannaBaseUrl={url} {PACE}"
        )
        assert "✗" not in said
        for check in ("platform", "key", "scopes", "queue"):
            assert re.search(rf"✓ {check} ", said), said
        outputs = here.cloud.outputs
        links = {value for name, value in outputs.items() if name.endswith("Link")}
        assert links
        assert all(f"\n    {link}\n" in said for link in links)
        # Only in this call; neither in the template nor in a parameter.
        holding = [call.operation for call in here.cloud.calls if API_KEY in str(call.parameters)]
        assert holding == ["PutSecretValue"]
        assert here.parameters()["ArcannaBaseUrl"] == url

        assert {key.partition("/")[0] for key in here.artifacts()} == {"arcanna-metrics"}

        first_upload = re.findall(r"^  aws s3 cp alerts\.csv s3://([^/]+)/training-data/1234/$", said, re.M)
        assert first_upload == [outputs["TrainingDataBucket"]]
        scene = Scene(Installation(here.cloud, here.arcanna, first_upload[0]), MODELS[0])
        scene.upload(body=alerts())
        scene.ended(1)

        before = here.operations(*CHANGES)
        status, said = here.make_deploy()
        assert status == 0, said
        assert "No changes to deploy" in said
        assert here.operations(*CHANGES)[len(before) :] == ["CreateChangeSet"]

        kept = here.parameters()
        status, said = here.make_deploy(EMAIL="soc@example.com", ARGS="FreshnessObjectiveSeconds=600")
        assert status == 0, said
        now = here.parameters()
        changed = {"NotificationEmail": "soc@example.com", "FreshnessObjectiveSeconds": "600"}
        assert now == {**kept, **changed}
        assert here.operations("PutSecretValue") == ["PutSecretValue"]

        status, said = here.make_deploy(KEY_FILE=key_file)
        assert status == 0, said
        assert here.operations("PutSecretValue") == ["PutSecretValue"] * 2
        assert here.parameters() == now
        scene.upload(body=alerts(2))
        scene.ended(2)


def test_make_deploy_creates_a_working_stack_and_later_updates_only_what_changed() -> None:
    alone(_run_first_deployment_and_updates)


def _run_broken_version() -> None:
    with place("deploy-broken-version") as here:
        status, said = here.make_deploy(
            URL=here.arcanna.url, KEY_FILE=str(here.folder / "key.txt"), ARGS=PACE
        )
        assert status == 0, said
        here.cloud.client("sqs").set_queue_attributes(
            QueueUrl=here.cloud.outputs["UpdatesQueueUrl"], Attributes={"VisibilityTimeout": VISIBILITY}
        )
        scene = Scene(
            Installation(here.cloud, here.arcanna, here.cloud.outputs["TrainingDataBucket"]), MODELS[0]
        )
        version = _broken_version(here.folder / "broken")
        _sam(here, ["build"], folder=version)
        said = _sam(here, ["deploy", "--no-confirm-changeset"], folder=version)
        assert re.findall(r"^\* Modify +(\w+Function) ", said, re.MULTILINE)
        scene.upload()
        eventually("a failure", lambda: "this version is broken" in "".join(here.cloud.logs(TRIGGER)))
        assert scene.posts() == []

        status, said = here.make_deploy()
        assert status == 0, said
        scene.until_fresh()
        assert len(scene.posts()) == 1
        assert dead_letters(scene.here) == []


def _broken_version(folder: Path) -> Path:
    """A copy of the deployed files in which the functions cannot be imported."""
    for function in (_copy(folder) / "functions").glob("*/app.py"):
        function.write_text("raise RuntimeError('this version is broken')\n")
    return folder


def _copy(folder: Path) -> Path:
    """Copies the deployed files into a new folder, and returns it."""
    folder.mkdir()
    for name in ("template.yaml", "samconfig.yaml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in ("functions", "layers"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def test_update_during_a_broken_version_is_recomputed_after_the_good_one_is_redeployed() -> None:
    alone(_run_broken_version)


def _run_what_sam_refuses() -> None:
    with place("deploy-refused") as here:
        # The template cannot express every check of CloudFormation. Here, it refuses the change set.
        here.cloud.inject(_refusal())
        status, said = here.make_deploy(URL=here.arcanna.url, KEY_FILE=str(here.folder / "key.txt"))
        assert status == 1, said
        assert "sam deploy failed. Its message is above" in said
        assert here.operations("PutSecretValue") == []


def _refusal() -> ApiFault:
    return ApiFault("cloudformation", "CreateChangeSet", "ValidationError", status=400, times=9)


def test_failure_of_sam_ends_the_deployment_before_the_key_is_stored() -> None:
    alone(_run_what_sam_refuses)


# --- A terminal ------------------------------------------------------------------------------------------


def _run_on_a_terminal() -> None:
    with place("deploy-terminal") as here:
        said = _typed(
            here,
            ["make", "deploy", f"URL={here.arcanna.url}", "STACK=soc-metrics"],
            "it is not shown",
            API_KEY,
        )
        assert "The key is in the secret" in said
        assert API_KEY not in said
        assert "make status STACK=soc-metrics" in said
        secret = here.cloud.outputs["ApiKeySecretArn"]
        held = here.cloud.client("secretsmanager").get_secret_value(SecretId=secret)["SecretString"]
        assert held == API_KEY


def _typed(here: Place, command: list[str], question: str, answer: str) -> str:
    """Runs a command on a terminal and answers its question. Returns its output."""
    terminal, end = pty.openpty()
    with subprocess.Popen(  # noqa: S603 - the project's own make
        command, cwd=ROOT, env=here.shell(), stdin=end, stdout=end, stderr=end, start_new_session=True
    ) as process:
        os.close(end)
        said, deadline = "", time.monotonic() + PATIENCE
        while process.poll() is None or select.select([terminal], [], [], 0)[0]:
            assert time.monotonic() < deadline, said
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                said += os.read(terminal, 4096).decode(errors="replace")
            except OSError:  # the process has closed its end
                break
            if answer and question in said:
                # The question comes before the terminal's echo is off.
                eventually("no echo", lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
                os.write(terminal, f"{answer}\n".encode())
                answer = ""
        os.close(terminal)
    assert process.returncode == 0, said
    return said


def test_deployment_on_a_terminal_asks_for_the_key_without_showing_it() -> None:
    alone(_run_on_a_terminal)


# --- What is wrong ---------------------------------------------------------------------------------------


def _run_wrong_inputs() -> list[str]:
    """Runs wrong inputs. Returns the cases that were not refused as expected."""
    with place("deploy-wrong") as here:
        _create_bucket(here, "elsewhere", "us-west-2")
        url, key_file = here.arcanna.url, str(here.folder / "key.txt")
        here.cloud.client("cloudformation").create_stack(StackName="other", TemplateBody='{"Resources": {}}')
        before = here.operations(*CHANGES)
        good = {"URL": url, "KEY_FILE": key_file}
        cases: list[tuple[dict[str, str], dict[str, str], str]] = [
            ({}, {}, "Type make deploy URL=https://arcanna.example.com"),
            ({}, {"URL": url}, "Type KEY_FILE=key.txt"),
            ({}, {**good, "BUCKET": "not-there"}, "There is no bucket not-there. Type BUCKET=..."),
            ({}, {**good, "BUCKET": "elsewhere"}, "Type AWS_DEFAULT_REGION=us-west-2 make deploy"),
            ({}, {**good, "STACK": "other"}, "belongs to another application. Type another name"),
            ({}, {**good, "ARGS": "SubnetIds=subnet-0a1"}, "SubnetIds needs SecurityGroupIds"),
            ({}, {**good, "ARGS": "ApiKeySecretField=key"}, "leave KEY_FILE out"),
            ({"AWS_ACCESS_KEY_ID": ""}, good, "There are no AWS credentials. Type aws configure"),
            ({"AWS_PROFILE": "nobody", "AWS_ENDPOINT_URL": "http://aws.invalid"}, good, "list-profiles"),
            ({LOOPBACK_CLOUD: ""}, good, "Type the same in a new shell"),
            ({"AWS_DEFAULT_REGION": ""}, good, "Which region? Type AWS_DEFAULT_REGION=eu-central-1"),
        ]
        failed = []
        for shell, words, expected in cases:
            status, said = here.make_deploy(shell, **words)
            if status != WRONG or expected not in said or "$ " in said or API_KEY in said:
                failed.append(f"{shell} {words}: {status}, {said}")
        assert here.operations(*CHANGES) == before
        return failed


def _create_bucket(here: Place, name: str, region: str) -> None:
    s3: Any = boto3.client(
        "s3",
        region_name=region,
        endpoint_url=here.cloud.url,
        aws_access_key_id=OPERATOR,
        aws_secret_access_key="local",  # noqa: S106 - nobody checks it
    )
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": region})


def test_wrong_argument_is_refused_before_anything_is_built_or_changed() -> None:
    assert alone(_run_wrong_inputs) == []


# --- A pipeline ------------------------------------------------------------------------------------------


def _run_pipeline() -> None:
    pipeline = yaml.safe_load((ROOT / ".github/examples/deploy.yml").read_text())
    assert pipeline["permissions"]["id-token"] == "write"
    steps = [step["run"] for step in pipeline["jobs"]["deploy"]["steps"] if "run" in step]
    (build, deploy, doctor) = steps
    with place("deploy-pipeline") as here:
        path = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        for step in (build, deploy, deploy):
            _step(here, step, PATH=path, ARCANNA_URL=here.arcanna.url)
        assert here.parameters()["ArcannaBaseUrl"] == here.arcanna.url
        here.cloud.client("secretsmanager").put_secret_value(
            SecretId=here.cloud.outputs["ApiKeySecretArn"], SecretString=API_KEY
        )
        _step(here, doctor, PATH=path)


def _step(here: Place, command: str, **variables: str) -> None:
    """Runs a step as a runner does."""
    done = subprocess.run(  # noqa: S603
        ["bash", "-e", "-c", command],  # noqa: S607
        cwd=ROOT,
        env=here.shell(SAM_CLI_TELEMETRY="0", **variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_example_pipeline_deploys_the_stack() -> None:
    alone(_run_pipeline)


# --- sam deploy --guided ---------------------------------------------------------------------------------


def _run_guided() -> tuple[str, str]:
    """The output of the guide, and of a later deployment with its answers."""
    with place("deploy-guided") as here:
        folder = _copy(here.folder / "copy")
        given = ["guided", "", here.arcanna.url, *[""] * (len(template()["Parameters"]) - 1)]
        given += ["n", "", "", "", "", ""]  # no confirmation; Enter for roles, rollback, file and environment
        _sam(here, ["build"], folder=folder)
        guided = _sam(here, ["deploy", "--guided"], "".join(f"{answer}\n" for answer in given), folder)
        again = _sam(here, ["deploy", "--no-fail-on-empty-changeset"], folder=folder)
        assert here.parameters("guided")["ArcannaBaseUrl"] == here.arcanna.url
        assert (folder / "samconfig.yaml").read_bytes() == (ROOT / "samconfig.yaml").read_bytes()
        assert here.arcanna.url in (folder / "samconfig.toml").read_text()
    return guided, again


def _sam(here: Place, arguments: list[str], typed: str = "", folder: Path = ROOT) -> str:
    done = subprocess.run(  # noqa: S603
        [ROOT / ".venv/bin/sam", *arguments],
        cwd=folder,
        env=here.shell(SAM_CLI_TELEMETRY="0"),
        input=typed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_enter_at_every_question_of_the_guide_saves_the_answers_where_git_ignores_them() -> None:
    guided, again = alone(_run_guided)
    asked = re.findall(r"\tParameter (\w+) \[", guided)
    assert asked == list(template()["Parameters"])
    assert "Successfully created/updated stack - guided" in guided
    assert "No changes to deploy. Stack guided is up to date" in again
    ignored = subprocess.run(
        ["git", "check-ignore", "samconfig.toml"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert ignored.returncode == 0
