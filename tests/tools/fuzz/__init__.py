"""Fuzzes all input from outside: events, routes, keys, answers, headers, the secret, settings.

A case is made from its seed alone: a real sample, mutated as JSON or as text. Whatever it is, only the
project's own errors may be raised, and what was accepted must survive being written and read again.
"""

import copy
import json
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

from arcanna_metrics.errors import BadInput, ConfigurationError, RecomputeError, UndocumentedAnswer
from arcanna_metrics.intake.events import AllTargets, ObjectCreated, read_json
from arcanna_metrics.intake.fields import EARLIEST
from arcanna_metrics.platform import tls
from arcanna_metrics.platform.client import Arcanna
from arcanna_metrics.platform.connect import base_url, mounts
from arcanna_metrics.platform.key import SecretApiKey
from arcanna_metrics.runs.quality import in_words
from arcanna_metrics.settings import Settings, parse_settings
from arcanna_metrics.targets import WHOLE, Model, Target, Update, identifier
from tests.support.aws_json import aws_json

RECEIVED_AT = 1.8e9

DOCUMENT = {
    "routes": [
        {
            "name": "by-path",
            "keys": ["training-data/{job_id}/{model_id}/*"],
            "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
            "threshold": {"objects": 100, "bytes": 1000000, "max_wait_seconds": 3600},
        },
        {"name": "by-file", "keys": ["*/job-{job}-?.csv", "{job}.csv"], "targets": [{"job_id": "{job}"}]},
        {"name": "all", "keys": ["*"], "targets": [{"job_id": "security-alerts"}, {"job_id": 1234}]},
    ],
    "quality_gate": {"largest_drop": {"*.recall": 0.05}, "floor": {"overall_accuracy": 0.8}},
    "pace": {"spacing_seconds": 60, "slots": 4, "shortest_poll_seconds": 5, "longest_poll_seconds": 900},
    "jobs": {"1234": {"quality_gate": {"minimum_samples": 30}, "pace": {"stale_after_seconds": 0}}},
}

KEYS = (
    "training-data/1234/generic-1-1234-model-1747385873.hdf5/alerts 2025-01-15 a+b.csv",
    "logs/job-1234-7.csv",
    "security-alerts.csv",
)

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**63, 10**4000, 1.5, float("nan"), float("inf"), [], {}, [[]], {"": {}}),
    *("", " ", "\x00", "\n", "\ud800", "\uffff", "%", "%ff", "+", "é" * 2000),
    *("*", "?", "{", "{a}", "{a}{b}", "/", "../"),
    *("\ufeff{}", "1969-12-31T23:59:00Z", "s3:ObjectCreated:*", "SubscriptionConfirmation"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z", "2025-02-30", "all", "Notification"),
)

MORE_EVENTS: tuple[Any, ...] = (
    {
        "source": "aws.s3",
        "detail-type": "AWS API Call via CloudTrail",
        "time": "2025-01-15T14:30:00Z",
        "detail": {
            "eventName": "PutObject",
            "requestParameters": {"bucketName": "example-training-data", "key": KEYS[0]},
            "responseElements": {"x-amz-version-id": "v1"},
        },
    },
    {"Type": "SubscriptionConfirmation", "TopicArn": "arn:aws:sns:::topic", "SubscribeURL": "https://sns"},
    {"Type": "Notification", "Message": json.dumps({"job_id": 1, "older_than_seconds": 60})},
)

Place = Sequence[str | int]
"""A path in a JSON value: names and indices."""


def load_samples(folder: Path = Path("events")) -> list[Any]:
    """The sample events, each message of the sample batch, and other events of AWS."""
    samples = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    bodies = [r["body"] for s in samples for r in s.get("Records", []) if isinstance(r.get("body"), str)]
    for body in bodies:
        with suppress(ValueError):  # one sample is invalid on purpose
            samples.append(json.loads(body))
    return [*samples, *MORE_EVENTS]


def paths(value: object) -> list[Place]:
    """The paths of all values inside a JSON value."""
    if not isinstance(value, dict | list):
        return []
    children = value.items() if isinstance(value, dict) else enumerate(value)
    return [(name, *rest) for name, item in children for rest in ((), *paths(item))]


def put(value: Any, path: Place, item: object) -> None:
    """Replaces the value at the path."""
    for name in path[:-1]:
        value = value[name]
    value[path[-1]] = item


def mutated(rng: random.Random, value: Any, others: list[Any]) -> Any:
    """A copy in which a few values are replaced by odd values or parts of other samples."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(0, 3)):
        if places := paths(value):
            donor = rng.choice(others)
            item = rng.choice([rng.choice(ODD_VALUES), donor, json.dumps(donor)])
            put(value, rng.choice(places), copy.deepcopy(item))
    return value


def mutated_text(rng: random.Random, text: str) -> str:
    """The text with a few pieces cut, doubled or replaced."""
    for _ in range(rng.choice([0, 0, 1, 3])):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 1, 5, 50]))
        piece = rng.choice(
            ["", text[start:end] * 2, str(rng.choice(ODD_VALUES)), chr(rng.randrange(0x11_0000))]
        )
        text = text[:start] + piece + text[end:]
    return text


def attack_events(text: str, settings: Settings) -> None:
    """Reads the text as a message and routes its updates. Raises RecomputeError; any other error is a bug."""
    updates: list[Update] = []
    for occurrence in read_json(text, RECEIVED_AT):
        if isinstance(occurrence, ObjectCreated):
            updates += settings.routes.updates(occurrence)
        elif isinstance(occurrence, AllTargets):
            targets = [*settings.routes.fixed_targets(), Target("another job", None)]
            updates += [settings.wish(target, occurrence) for target in targets]
        elif isinstance(occurrence, Update):
            updates.append(occurrence)
    for update in updates:
        assert_recordable(update)


def assert_recordable(update: Update) -> None:
    """Asserts what the ledger relies on."""
    assert all(part is None or is_identifier(part) for part in (*update.target, update.cause)), update
    assert EARLIEST <= update.happened_at <= RECEIVED_AT, update
    assert 1 <= update.share <= WHOLE, update
    assert 0 <= update.max_wait <= 30 * 86400, update
    assert update.older_than is None or (update.older_than >= 0 and not update.by_hand), update
    json.dumps(update.example, ensure_ascii=False).encode()


def is_identifier(text: str) -> bool:
    """Whether the value is an id in its canonical form."""
    try:
        return identifier("id", text) == text
    except BadInput:
        return False


def attack_settings(text: str, key: str) -> None:
    """Reads the text as settings and uses them. Any error but RecomputeError is a bug."""
    settings = parse_settings(text)
    settings.for_job("1234")
    settings.routes.match(key)


MODEL = Model("1234", "generic-1-1234-model-1747385873.hdf5")
METRICS = {
    "model_id": MODEL.model_id,
    "is_recomputing_metrics": False,
    "last_recomputed_timestamp": "2025-01-15T14:30:00Z",
    "overall_accuracy": 0.75,
    "confusion_matrix": [[2, 1], [0, 1]],
    "metrics_per_decision": {"Escalate": {"recall": 1.0}},
    "kb_count_per_decision": {"Escalate": {"alerts_count": 1, "buckets_count": 1}},
}
ANSWERS = (
    METRICS,
    {"status": "queued", "requested_at": "2025-01-15T14:30:00Z"},
    {"active_model_id": MODEL.model_id},
    {"scopes": ["read:job_metrics", "execute:recompute_model_metrics"]},
)
HEADERS = ("Retry-After", "Date", "Content-Type", "Content-Encoding", "Location")
HEADER_VALUES = ("5", "Wed, 15 Jan 2025 14:30:00 GMT", "-1", "9" * 400, "gzip", "text/html", "\xff", "")
SECRETS = ("the-key", '{"api_key": "the-key", "user": "soc"}')
VARIABLES = (
    "https://arcanna.example:9666/prefix",
    "300",
    "http://proxy.internal:3128",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
)


def attack_answers(status: int, headers: dict[str, str], body: bytes) -> None:
    """Answers every call to the platform with this. Any error but RecomputeError is a bug."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "arcanna.example"
        return httpx.Response(
            status, headers=[(n.encode(), v.encode("latin-1")) for n, v in headers.items()], content=body
        )

    http = httpx.Client(base_url="https://arcanna.example", transport=httpx.MockTransport(answer))
    client, accepted = Arcanna(http, lambda read_again: "key"), 0
    calls: tuple[Callable[[], object], ...] = (
        lambda: in_words(client.metrics(MODEL).fields),
        lambda: client.request_recompute(MODEL),
        lambda: client.active_model(MODEL.job_id),
        client.scopes,
    )
    for call in calls:
        with suppress(RecomputeError):
            call()
            accepted += 1
    if not accepted:
        raise UndocumentedAnswer(body.decode(errors="replace"))


def attack_secret(body: str, field: str | None) -> None:
    """Answers for Secrets Manager with this. Any error but RecomputeError is a bug."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, content=body.encode(errors="replace"))
    )
    secrets = aws_json("secretsmanager", transport)
    key = SecretApiKey(secrets, "arn", field)(False)
    httpx.Request("GET", "https://arcanna.example", headers={"X-Arcanna-Api-Key": key})


def attack_variables(value: str) -> None:
    """Reads the text as every kind of environment variable. Any error but RecomputeError is a bug."""
    accepted = 0
    settings: tuple[Callable[[], object], ...] = (
        lambda: base_url(value),
        lambda: mounts(httpx.MockTransport(lambda _: httpx.Response(502)), value),
        lambda: tls.context(value),
    )
    for setting in settings:
        with suppress(RecomputeError):
            setting()
            accepted += 1
    if not accepted:
        raise ConfigurationError(value)


class Fuzzer:
    """Makes cases from seeds, and runs them."""

    def __init__(self) -> None:
        self._events = load_samples()
        self._settings = parse_settings(json.dumps(DOCUMENT))

    def case(self, seed: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """The attack of the seed and its input."""
        rng = random.Random(seed)
        kind = rng.choices(range(5), [10, 4, 4, 1, 1])[0]
        if kind == 0:
            event = mutated(rng, rng.choice(self._events), self._events)
            return attack_events, (mutated_text(rng, json.dumps(event)), self._settings)
        if kind == 1:
            document = mutated(rng, DOCUMENT, [*KEYS, *ODD_VALUES])
            return attack_settings, (
                mutated_text(rng, json.dumps(document)),
                mutated_text(rng, rng.choice(KEYS)),
            )
        if kind == 2:
            body = json.dumps(mutated(rng, rng.choice(ANSWERS), [*ANSWERS, *ODD_VALUES]))
            headers = {rng.choice(HEADERS): rng.choice(HEADER_VALUES) for _ in range(rng.randrange(3))}
            status = rng.choice([200, 200, 200, rng.randrange(200, 600)])
            return attack_answers, (status, headers, mutated_text(rng, body).encode(errors="replace"))
        if kind == 3:
            secret = {"SecretString": mutated_text(rng, rng.choice(SECRETS))}
            body = json.dumps(mutated(rng, secret, [*SECRETS, *ODD_VALUES]))
            return attack_secret, (body, rng.choice([None, "api_key", "user"]))
        return attack_variables, (mutated_text(rng, rng.choice(VARIABLES)),)

    def run(self, seed: int) -> bool:
        """Whether the input of the seed was accepted. Raises an error that is a bug."""
        attack, arguments = self.case(seed)
        try:
            attack(*arguments)
        except RecomputeError:
            return False
        return True
