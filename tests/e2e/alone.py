"""An installation of its own, in a process of its own: a process can hold only one local cloud."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, TypeVar

from tests.arcanna.access import API_KEY
from tests.arcanna.server import ArcannaServer
from tests.harness import HURRY, Installation, wait_for
from tests.local_cloud import LocalCloud

T = TypeVar("T")
BUILD = Path(__file__).parents[2] / "build"


def alone(work: Callable[[], T]) -> T:
    """The result of `work`, a module's function, from a process that does nothing else."""
    # moto's interpreter logs every Choice as an error.
    quieten = partial(logging.disable, logging.CRITICAL)
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=quieten) as pool:
        return pool.submit(work).result()


@contextmanager
def own_installation(
    name: str,
    arcanna: ArcannaServer,
    parameters: Mapping[str, str],
    shorter_timeouts: Mapping[int, int] | None = None,
    built: Path | None = None,
    beside: LocalCloud | None = None,
) -> Iterator[Installation]:
    """The project's template, for that platform, with its files under build/`name`, as a stack of that name.

    `shorter_timeouts` replaces functions' timeouts, in seconds, where a test cannot wait for the real ones.
    `built` is a template that somebody has built, to be deployed as it is. With `beside`, the stack is a
    further one in that cloud.
    """
    directory = BUILD / name
    template = built or _template(directory, shorter_timeouts or {})
    given = {**HURRY, "ArcannaBaseUrl": arcanna.url, **parameters}
    with LocalCloud(given, directory, template, name=name, beside=beside) as cloud:
        cloud.client("secretsmanager").put_secret_value(
            SecretId=cloud.outputs["ApiKeySecretArn"], SecretString=API_KEY
        )
        yield Installation(cloud, arcanna, cloud.outputs["TrainingDataBucket"])


def _template(directory: Path, timeouts: Mapping[int, int]) -> Path:
    """A copy of the template with other timeouts, beside the folders that it refers to."""
    root = BUILD.parent
    directory.mkdir(parents=True, exist_ok=True)
    shared = BUILD / "local-cloud" / "artifacts"  # built once for all installations
    shared.mkdir(parents=True, exist_ok=True)
    for folder in (root / "functions", root / "layers", shared):
        if not (directory / folder.name).exists():
            (directory / folder.name).symlink_to(folder, target_is_directory=True)
    text = (root / "template.yaml").read_text()
    for given, shorter in timeouts.items():
        if f" Timeout: {given}\n" not in text:
            raise ValueError(f"no function of the template has a timeout of {given} s")
        text = text.replace(f" Timeout: {given}\n", f" Timeout: {shorter}\n")
    copy = directory / "template.yaml"
    copy.write_text(text)
    return copy


def messages(here: Installation, url: str, hidden_for: int = 600) -> list[dict[str, Any]]:
    """All messages that a queue shows now, with their attributes. They stay there, hidden for seconds."""
    sqs, found = here.cloud.client("sqs"), []
    while received := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=hidden_for, MessageAttributeNames=["All"]
    ).get("Messages"):
        found += received
    return found


def subscribed(here: Installation, name: str) -> tuple[str, str]:
    """Two queues, of the outcome events and of the notifications, as customers would have; their URLs."""
    client = here.cloud.client
    urls = []
    for kind in ("events", "notices"):
        url = client("sqs").create_queue(QueueName=f"{name}-{kind}")["QueueUrl"]
        attributes = client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arn = attributes["Attributes"]["QueueArn"]
        if kind == "events":
            pattern = json.dumps({"source": ["arcanna.metrics"]})
            client("events").put_rule(Name=name, EventPattern=pattern)
            client("events").put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
        else:
            topic = here.cloud.outputs["NotificationTopicArn"]
            client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        urls.append(url)
    return urls[0], urls[1]


def waiting(here: Installation, *kinds: Literal["", "Delayed", "NotVisible"]) -> int:
    """How many messages of these kinds, as SQS names them in its attributes, are in the updates queue."""
    counts = here.cloud.client("sqs").get_queue_attributes(
        QueueUrl=here.cloud.outputs["UpdatesQueueUrl"], AttributeNames=["All"]
    )["Attributes"]
    return sum(int(counts[f"ApproximateNumberOfMessages{kind}"]) for kind in kinds)


def is_quiet(here: Installation) -> bool:
    """Whether no update waits or is being handled, and no run is under way."""
    running = here.cloud.client("stepfunctions").list_executions(
        stateMachineArn=here.cloud.outputs["RecomputeWorkflowArn"], statusFilter="RUNNING"
    )
    return not waiting(here, "", "Delayed", "NotVisible") and not running["executions"]


def settle(here: Installation, seconds: float = 60.0) -> None:
    """Waits until nothing moves: two looks, because an ended execution is reported a moment later."""
    looks = [False, False]

    def quiet_twice() -> bool:
        time.sleep(0.3)
        looks[:] = [looks[1], is_quiet(here)]
        return all(looks)

    wait_for("quiet", quiet_twice, seconds)
