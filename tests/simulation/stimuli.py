"""The stimuli that enter the simulated world from outside."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from urllib.parse import quote_plus

from arcanna_metrics.errors import BadInput
from arcanna_metrics.intake.events import AllTargets, ObjectCreated, read_json
from arcanna_metrics.settings import parse_settings
from arcanna_metrics.targets import Target, Update
from arcanna_metrics.times import to_iso

_ROUTES = [
    {"keys": ["data/{job}/{model}/*"], "targets": [{"job_id": "{job}", "model_id": "{model}"}]},
    {
        "keys": ["sample/{job}/{model}/*"],
        "targets": [{"job_id": "{job}", "model_id": "{model}"}],
        "threshold": {"objects": 3, "bytes": 1000, "max_wait_seconds": 700},
    },
    {
        "keys": ["recent/{job}/*"],
        "targets": [{"job_id": "{job}"}],
        "threshold": {"objects": 2, "max_wait_seconds": 400},
    },
    {"targets": [{"job_id": "1"}, {"job_id": "1", "model_id": "model-1"}]},
    {"targets": [{"job_id": "2", "model_id": "model-2"}]},
]
OLDER_THAN = 300
"""Ages in seconds: some schedules ask only for metrics older than this."""
STALE_AFTER = 600.0
"""The age in seconds for schedules that do not state one."""
SETTINGS = parse_settings(json.dumps({"routes": _ROUTES, "pace": {"stale_after_seconds": STALE_AFTER}}))
ROUTES = SETTINGS.routes
JOB_OF = {"model-1": "1", "model-2": "2", "model-3": "1"}
"""The models of each job. At first, the first one is active."""
NAMES = {"1": "Phishing mails", "2": "malware"}
SUCCESSOR = {"model-1": "model-3", "model-2": "model-2", "model-3": "model-1"}
"""The model that the next training makes the active one of its job."""


@dataclass(frozen=True, slots=True)
class Stimulus:
    """An event from outside: an update through one of the entrances, garbage, somebody else's recompute, or a
    training, which makes the model's successor its job's active model.

    It comes `delay` seconds after the start or, because bugs hide there, after an event of its model or one
    of its targets. `variant`, from 0 to 1, selects the shape of the event.
    """

    number: int
    kind: str
    model: str
    delay: float
    after: str | None = None
    by_name: bool = False
    variant: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"

    @property
    def job(self) -> str:
        """The job as the sender calls it."""
        job_id = JOB_OF[self.model]
        return NAMES[job_id] if self.by_name else job_id


KINDS: Mapping[str, int] = {
    "upload": 4,
    "sample": 4,
    "recent": 2,
    "event": 3,
    "message": 3,
    "direct": 3,
    "schedule": 2,
    "wish": 1,
    "garbage": 1,
    "other": 2,
    "training": 2,
}
"""The relative frequency of each kind of stimulus."""

ECHOES = ("recorded", "claimed", "job requested", "job done", "held", "completed told", "freed")
"""Events after which something may come."""


def stimuli_of(seed: int, kinds: Mapping[str, int], shares: Sequence[float]) -> list[Stimulus]:
    """The stimuli of a seed's history: bursts like those of uploads, and echoes.

    `kinds` has the weight of each kind. One of the `shares` is the share of senders that name the job.
    """
    random = Random(f"{seed}/stimuli")
    models = random.choice(
        [["model-1"], ["model-1"], ["model-1", "model-2"], ["model-1", "model-3"], list(JOB_OF)]
    )
    by_name = random.choice(shares)
    stimuli: list[Stimulus] = []

    def add(delay: float, after: str | None = None) -> None:
        kind = random.choices(list(kinds), list(kinds.values()))[0]
        model, named, variant = random.choice(models), random.random() < by_name, random.random()
        stimuli.append(Stimulus(len(stimuli) + 1, kind, model, delay, after, named, variant))

    for _ in range(random.randint(1, 3)):
        delay = random.uniform(0, 1500)
        for _ in range(random.randint(1, 3)):
            add(delay)
            delay += random.choice([random.expovariate(1.0), random.expovariate(0.05)])
    for _ in range(random.randint(0, 4)):
        after = random.choice(ECHOES)
        add(random.choice([random.expovariate(0.5), random.uniform(0, 60)]), after)
    return stimuli


def body_of(stimulus: Stimulus, now: float) -> str:
    """The event as it arrives; `now` is by the sender's clock."""
    job, whole_seconds, in_full = stimulus.job, to_iso(now // 1), stimulus.variant < 0.5
    target = {"job_id": job, "model_id": stimulus.model}
    bodies: dict[str, Any] = {
        "upload": lambda: _uploaded(stimulus, f"data/{job}/{stimulus.model}", now),
        "sample": lambda: _uploaded(stimulus, f"sample/{job}/{stimulus.model}", now),
        "recent": lambda: _uploaded(stimulus, f"recent/{job}", now),
        "event": lambda: {
            "source": "arcanna.training-data",
            "detail-type": "Training Data Updated",
            "time": whole_seconds,
            "detail": target,
        },
        "message": lambda: {"job_id": job, "happened_at": to_iso(now) if in_full else None},
        "direct": lambda: target if in_full else {"job_id": job},
        "wish": lambda: {**target, "older_than_seconds": OLDER_THAN if in_full else 10},
        "schedule": lambda: _scheduled(stimulus.variant, whole_seconds),
    }
    if stimulus.kind == "garbage":
        return f"garbage {stimulus.number}"
    return json.dumps(bodies[stimulus.kind]())


def _uploaded(stimulus: Stimulus, folder: str, now: float) -> dict[str, Any]:
    """By EventBridge, by a notification, or by SNS."""
    key, size = f"{folder}/{stimulus.number}.csv", 600 if stimulus.number % 5 == 0 else 10
    if stimulus.variant < 1 / 3:
        detail = {"bucket": {"name": "bucket"}, "object": {"key": key, "size": size}}
        event = {"source": "aws.s3", "detail-type": "Object Created", "time": to_iso(now // 1)}
        return {**event, "detail": detail}
    record = {
        "eventSource": "aws:s3",
        "eventName": "ObjectCreated:Put",
        "eventTime": to_iso(now),
        "s3": {"bucket": {"name": "bucket"}, "object": {"key": quote_plus(key), "size": size}},
    }
    notification = {"Records": [record]}
    if stimulus.variant < 2 / 3:
        return notification
    return {"Type": "Notification", "Message": json.dumps(notification)}


def _scheduled(variant: float, time: str) -> dict[str, Any]:
    if variant < 1 / 3:
        return {"source": "aws.scheduler", "detail-type": "Scheduled Event", "time": time, "detail": {}}
    age = 0 if variant < 2 / 3 else OLDER_THAN
    return {"models": "all", "happened_at": time, "older_than_seconds": age}


def updates_of(body: str, sent_at: float) -> list[Update]:
    """The updates in a message. Raises BadInput."""
    updates: list[Update] = []
    for occurrence in read_json(body, sent_at):
        match occurrence:
            case Update():
                updates.append(occurrence)
            case ObjectCreated():
                updates += ROUTES.updates(occurrence)
            case AllTargets():
                updates += [SETTINGS.wish(target, occurrence) for target in ROUTES.fixed_targets()]
    return updates


def whom_of(body: str, sent_at: float) -> list[str]:
    """The target of a message. "*" if it is unknown."""
    try:
        return [whom(update.target) for update in updates_of(body, sent_at)]
    except BadInput:
        return ["*"]


def key(target: Target) -> str:
    """The name of the target's entry in the journal."""
    return f"{target.job_id}/{target.model_id or 'active'}"


def whom(target: Target) -> str:
    """The name of the target in the journal. It has the job's id, even if the entry has its name."""
    return key(Target(id_of(target.job_id), target.model_id))


def id_of(job: str) -> str:
    """The id of a job that is given by id or name."""
    return next((job_id for job_id, name in NAMES.items() if name == job), job)
