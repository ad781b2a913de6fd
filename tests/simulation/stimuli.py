"""What comes into the simulated world from outside."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from arcanna_metrics.errors import BadInput
from arcanna_metrics.intake import routes
from arcanna_metrics.intake.events import AllModels, Ignored, ObjectChanged, RunEnded, read_json
from arcanna_metrics.targets import Target
from arcanna_metrics.times import to_iso
from tests.simulation.journal import START

ROUTES = routes.parse(
    json.dumps(
        {
            "routes": [
                {"keys": ["data/{job}/{model}/*"], "targets": [{"job_id": "{job}", "model_id": "{model}"}]},
                {
                    "keys": ["sample/{job}/{model}/*"],
                    "targets": [{"job_id": "{job}", "model_id": "{model}"}],
                    "significant": {"objects": 3, "bytes": 1000, "max_wait_seconds": 700},
                },
                {
                    "keys": ["recent/{job}/*"],
                    "targets": [{"job_id": "{job}"}],
                    "significant": {"objects": 2, "max_wait_seconds": 400},
                },
                {"targets": [{"job_id": "1"}, {"job_id": "1", "model_id": "model-1"}]},
                {"targets": [{"job_id": "2", "model_id": "model-2"}]},
            ]
        }
    )
)
LONG_AFTER = START + 10**9
OLDER_THAN = 300
"""Seconds: some schedules ask only for metrics that are older, by whatever clock."""
JOB_OF = {"model-1": "1", "model-2": "2", "model-3": "1"}
"""Of each job, the first model is its active one, to begin with."""
SUCCESSOR = {"model-1": "model-3", "model-2": "model-2", "model-3": "model-1"}
"""Which model becomes the active one of its job by the next training."""
SCHEDULED = ("job 1", "model-1", "model-2")


@dataclass(frozen=True, slots=True)
class Stimulus:
    """What comes from outside: an update by one of the ways in, garbage, another's recompute, or a training,
    by which the model's successor becomes its job's active one.

    It comes `delay` seconds after the start or, because bugs live there, after an event of its model.
    """

    number: int
    kind: str
    model: str
    delay: float
    after: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


KINDS: Mapping[str, int] = {
    "upload": 4,
    "sample": 4,
    "event": 3,
    "message": 3,
    "direct": 3,
    "schedule": 1,
    "garbage": 1,
    "other": 2,
    "recent": 2,
    "training": 2,
}
"""How often each comes, of those that come of themselves."""


def stimuli_of(seed: int, kinds: Mapping[str, int]) -> list[Stimulus]:
    """What comes from outside in the history of a seed: some bursts, as uploads come, and some echoes."""
    random = Random(f"{seed}/stimuli")
    models = random.choice([["model-1"], ["model-1"], ["model-1", "model-2"], ["model-1", "model-3"]])
    stimuli: list[Stimulus] = []

    def add(delay: float, after: str | None = None) -> None:
        kind = random.choices(list(kinds), list(kinds.values()))[0]
        stimuli.append(Stimulus(len(stimuli) + 1, kind, random.choice(models), delay, after))

    for _ in range(random.randint(1, 3)):
        delay = random.uniform(0, 1500)
        for _ in range(random.randint(1, 3)):
            add(delay)
            delay += random.choice([random.expovariate(1.0), random.expovariate(0.05)])
    for _ in range(random.randint(0, 4)):
        after = random.choice(["claimed", "job requested", "job done", "completed told", "released"])
        add(random.choice([random.expovariate(0.5), random.uniform(0, 60)]), after)
    return stimuli


def body_of(stimulus: Stimulus, now: float, in_full: bool) -> str:
    """The event as it arrives; `now` is by the sender's clock, and some do not say all that they could."""
    job_id, whole_seconds = JOB_OF[stimulus.model], to_iso(now // 1)

    def uploaded(prefix: str) -> dict[str, Any]:
        model = "" if prefix == "recent" else f"{stimulus.model}/"
        key = f"{prefix}/{job_id}/{model}{stimulus.number}.csv"
        return {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": whole_seconds,
            "detail": {
                "bucket": {"name": "bucket"},
                "object": {"key": key, "size": 600 if stimulus.number % 5 == 0 else 10},
            },
        }

    bodies = {
        "garbage": f"garbage {stimulus.number}",
        "upload": uploaded("data"),
        "sample": uploaded("sample"),
        "recent": uploaded("recent"),
        "event": {
            "source": "arcanna.training-data",
            "detail-type": "Training Data Updated",
            "time": whole_seconds,
            "detail": {"job_id": job_id, "model_id": stimulus.model},
        },
        "message": {"job_id": job_id, "happened_at": to_iso(now) if in_full else None},
        "direct": {"job_id": job_id, "model_id": stimulus.model if in_full else None},
        "schedule": {
            "models": "all",
            "happened_at": whole_seconds,
            "older_than_seconds": 0 if in_full else OLDER_THAN,
        },
    }
    body = bodies[stimulus.kind]
    return body if isinstance(body, str) else json.dumps(body)


def models_of(body: str) -> list[str]:
    """Whom a message is about: models, and jobs where it is the active one; "*" where it cannot be told."""
    try:
        occurrences = read_json(body, LONG_AFTER)
    except BadInput:
        return ["*"]
    models: list[str] = []
    for occurrence in occurrences:
        if isinstance(occurrence, AllModels):
            models += SCHEDULED
        elif isinstance(occurrence, RunEnded):
            models.append(occurrence.run["model_id"])
        elif isinstance(occurrence, ObjectChanged):
            models += map(_whom, ROUTES.match(occurrence.key)[1])
        elif not isinstance(occurrence, Ignored):
            models.append(_whom(occurrence.target))
    return models


def _whom(target: Target) -> str:
    return target.model_id or f"job {target.job_id}"
