"""Fuzzing of all that comes from outside as text: events, route documents, object keys.

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

from recompute import routes
from recompute.errors import RecomputeError
from recompute.events import AllModels, ObjectChanged, RunEnded, read_json, request_body
from recompute.gathering import Significance, mark
from recompute.updates import Target, Update, merge

RECEIVED_AT = 1.8e9

ROUTES = {
    "routes": [
        {
            "name": "by-path",
            "keys": ["training-data/{job_id}/{model_id}/*"],
            "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
            "significant": {"objects": 100, "bytes": 1000000, "max_wait_seconds": 3600},
        },
        {"name": "by-file", "keys": ["*/job-{job}-?.csv", "{job}.csv"], "targets": [{"job_id": "{job}"}]},
        {"name": "all", "keys": ["*"], "targets": [{"job_id": "security-alerts"}, {"job_id": 1234}]},
    ]
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
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999Z", "2025-02-30", "all", "Notification"),
)

GATHERED = Update(
    Target("1234", "generic-1-1234-model-1747385873.hdf5"),
    1.7e9,
    "upload",
    1.7e9,
    marks=frozenset({mark(1.7e9, 48213, "bucket", "key"), mark(1.6e9, 0)}),
    significance=Significance(100, 10**6, 3600.0),
    waker=True,
    older_than=3600,
    follows_active=True,
)
"""What only the trigger itself sends, with all that a message can have."""

Place = Sequence[str | int]
"""Where in a JSON value: the names and indices that lead there."""


def load_samples(folder: Path = Path("events")) -> list[Any]:
    """The sample events, each message of the sample batch, and what the trigger sends itself."""
    samples = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    bodies = [r["body"] for s in samples for r in s.get("Records", []) if isinstance(r.get("body"), str)]
    for body in bodies:
        with suppress(ValueError):  # one of them is unusable on purpose
            samples.append(json.loads(body))
    return [*samples, json.loads(request_body(GATHERED))]


def paths(value: object) -> list[Place]:
    """The paths of all that a JSON value holds."""
    if not isinstance(value, dict | list):
        return []
    children = value.items() if isinstance(value, dict) else enumerate(value)
    return [(name, *rest) for name, item in children for rest in ((), *paths(item))]


def put(value: Any, path: Place, item: object) -> None:
    """Puts the item at the path."""
    for name in path[:-1]:
        value = value[name]
    value[path[-1]] = item


def mutated(rng: random.Random, value: Any, others: list[Any]) -> Any:
    """A copy with a few places exchanged for odd values or parts of others."""
    value = copy.deepcopy(value)
    for _ in range(rng.randint(0, 3)):
        if places := paths(value):
            donor = rng.choice(others)
            item = rng.choice([rng.choice(ODD_VALUES), donor, json.dumps(donor)])
            put(value, rng.choice(places), copy.deepcopy(item))
    return value


def mutated_text(rng: random.Random, text: str) -> str:
    """The text with a few pieces cut, doubled or exchanged."""
    for _ in range(rng.choice([0, 0, 1, 3])):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.choice([0, 1, 5, 50]))
        piece = rng.choice(
            ["", text[start:end] * 2, str(rng.choice(ODD_VALUES)), chr(rng.randrange(0x11_0000))]
        )
        text = text[:start] + piece + text[end:]
    return text


def attack_events(text: str, known: routes.Routes) -> None:
    """Reads the text as a message and routes what it says. Raises RecomputeError or what is a bug."""
    updates: list[Update] = []
    for occurrence in read_json(text, RECEIVED_AT):
        if isinstance(occurrence, ObjectChanged):
            updates += known.updates(occurrence)
        elif isinstance(occurrence, AllModels):
            updates += known.scheduled(occurrence, set())
        elif not isinstance(occurrence, RunEnded):
            updates.append(occurrence)
    for update in merge(updates):
        written = request_body(update)
        (again,) = read_json(written, RECEIVED_AT)
        assert isinstance(again, Update), written
        assert (again.target, request_body(again)) == (update.target, written), written


def attack_routes(text: str, key: str) -> None:
    """Reads the text as the routes and asks for the key. Raises RecomputeError or what is a bug."""
    routes.parse(text).targets(key)


class Fuzzer:
    """Makes cases from seeds, and runs them."""

    def __init__(self) -> None:
        self._events = load_samples()
        self._routes = routes.parse(json.dumps(ROUTES))

    def case(self, seed: int) -> tuple[Callable[..., None], tuple[Any, ...]]:
        """What is attacked, and with what."""
        rng = random.Random(seed)
        if rng.random() < 0.7:
            event = mutated(rng, rng.choice(self._events), self._events)
            return attack_events, (mutated_text(rng, json.dumps(event)), self._routes)
        document = mutated(rng, ROUTES, [*KEYS, *ODD_VALUES])
        return attack_routes, (
            mutated_text(rng, json.dumps(document)),
            mutated_text(rng, rng.choice(KEYS)),
        )

    def run(self, seed: int) -> bool:
        """Whether the case of the seed was accepted, rather than refused. Raises what is a bug."""
        attack, arguments = self.case(seed)
        try:
            attack(*arguments)
        except RecomputeError:
            return False
        return True
