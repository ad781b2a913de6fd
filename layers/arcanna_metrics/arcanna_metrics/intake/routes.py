"""Which object keys lead to which models.

The routes are a JSON document:

    {"routes": [{"name": "by-path",
                 "keys": ["training-data/{job_id}/{model_id}/*"],
                 "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}]}]}

The first route that matches counts; patterns.py tells what its keys may be. A target without a model_id means
the job's active model. A route without keys serves schedules only.

A route may have a threshold: `"threshold": {"objects": 100, "bytes": 1000000, "max_wait_seconds": 3600}`
recomputes after so many objects or so many bytes since the last recompute, and in any case when the first
of them is so old.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from arcanna_metrics.errors import BadInput, ConfigurationError
from arcanna_metrics.intake import patterns
from arcanna_metrics.intake.events import AllTargets, ObjectCreated
from arcanna_metrics.targets import Target, identifier
from arcanna_metrics.updates import WHOLE, Example, Update

_MOST = {"objects": 1000, "bytes": 2**50, "max_wait_seconds": 30 * 86400}
"""Up to 1,000 objects, rounding up does not change after how many of them their shares reach WHOLE."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """How much is worth a recompute."""

    objects: int | None
    """So many objects, or"""
    bytes: int | None
    """so many bytes, or"""
    max_wait: float
    """so many seconds since the first of them."""

    def share(self, size: int | None) -> int:
        """How much of the threshold an object is, in millionths rounded up.

        One number cannot count both objects and bytes, so an object counts as the larger of its two shares.
        Where a route has both, they may reach WHOLE a little before either is complete, and never after.
        An object of unknown size counts as an object; where only bytes count, it is worth a recompute alone.
        """
        by_number = _part(1, self.objects) if self.objects else 1
        if self.bytes is None or (size is None and self.objects):
            return by_number
        return max(by_number, WHOLE if size is None else _part(size, self.bytes))


def _part(amount: int, enough: int) -> int:
    return min(-(-WHOLE * amount // enough), WHOLE)


@dataclass(frozen=True, slots=True)
class Route:
    """One route: compiled key patterns, the targets of each key that matches, and how much is enough."""

    name: str
    keys: tuple[re.Pattern[str], ...]
    targets: tuple[Target, ...]
    threshold: Threshold | None = None


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes, in the order in which they are tried."""

    routes: tuple[Route, ...]

    def match(self, key: str) -> tuple[Route | None, list[Target]]:
        """The route that knows the key, and whose training data the object is; none where no route does.

        Raises BadInput where a route matches but the key yields no valid ids.
        """
        for route in self.routes:
            for pattern in route.keys:
                if match := pattern.fullmatch(key):
                    return route, [_fill(target, match) for target in route.targets]
        return None, []

    def targets(self, key: str) -> list[Target]:
        """Whose training data the object is; empty where no route knows the key. Raises BadInput."""
        return self.match(key)[1]

    def updates(self, created: ObjectCreated) -> list[Update]:
        """The updates that an object leads to; empty where no route knows it. Raises BadInput."""
        route, targets = self.match(created.key)
        threshold = route.threshold if route else None
        share, max_wait = (threshold.share(created.size), threshold.max_wait) if threshold else (WHOLE, 0.0)
        example = Example(created.bucket, created.key, created.version_id)
        return [Update(target, created.happened_at, "upload", example, share, max_wait) for target in targets]

    def scheduled(self, schedule: AllTargets, jobs: set[str], stale_after: float) -> list[Update]:
        """What a schedule asks for: every target that is named in full, and the active model of every other
        job of `jobs`, which are known by their updates.

        These are wishes for metrics of at most the schedule's age, or `stale_after` (seconds) where it has
        none. At an age of 0 they are requests by hand, for metrics of now.
        """
        fixed = self.fixed_targets()
        others = sorted(jobs - {target.job_id for target in fixed})
        age = (stale_after if schedule.older_than is None else schedule.older_than) or None
        return [
            Update(target, schedule.happened_at, "schedule", older_than=age, by_hand=age is None)
            for target in [*fixed, *(Target(job_id, None) for job_id in others)]
        ]

    def fixed_targets(self) -> list[Target]:
        """The targets that are named in full, each once."""
        targets = (target for route in self.routes for target in route.targets)
        return list(dict.fromkeys(target for target in targets if not _placeholders(target)))


def parse(text: str) -> Routes:
    """The routes of a JSON document.

    Raises ConfigurationError that names the route and what is wrong with it.
    """
    try:
        document = json.loads(text.lstrip("\ufeff"))  # a byte order mark, as some editors write it
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the routes are not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("routes"), list):
        raise ConfigurationError('the routes must be a JSON object with a list "routes"')
    _assert_only(document, "routes")
    return Routes(tuple(_route(n, fields) for n, fields in enumerate(document["routes"], 1)))


def _route(number: int, fields: object) -> Route:
    if not isinstance(fields, dict):
        raise ConfigurationError(f"route {number} must be a JSON object")
    try:
        name = identifier("name", fields.get("name", number))
    except BadInput as error:
        raise ConfigurationError(f"route {number}: {error}") from error
    try:
        _assert_only(fields, "name", "keys", "targets", "threshold")
        targets = _targets(fields.get("targets"))
        keys = _keys(fields.get("keys", []), targets)
        return Route(name, keys, targets, _threshold(fields.get("threshold")))
    except (BadInput, ConfigurationError) as error:
        raise ConfigurationError(f"route {name!r}: {error}") from error


def _threshold(fields: object) -> Threshold | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise ConfigurationError('"threshold" must be a JSON object')
    _assert_only(fields, *_MOST)
    if "max_wait_seconds" not in fields:
        raise ConfigurationError('"threshold" must have max_wait_seconds, so that nothing waits for ever')
    limits = {name: _limit(name, value) for name, value in fields.items()}
    return Threshold(limits.get("objects"), limits.get("bytes"), float(limits["max_wait_seconds"]))


def _limit(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON does not tell 5 from 5.0
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST[name]:
        raise ConfigurationError(f"{name} must be a whole number from 1 to {_MOST[name]}")
    return value


def _targets(listed: object) -> tuple[Target, ...]:
    if not isinstance(listed, list) or not listed:
        raise ConfigurationError('"targets" must be a list of one or more targets')
    return tuple(_target(fields) for fields in listed)


def _target(fields: object) -> Target:
    if not isinstance(fields, dict):
        raise ConfigurationError("a target must be a JSON object")
    _assert_only(fields, "job_id", "model_id")
    target = _identified(fields.get("job_id"), fields.get("model_id"))
    for template in target:
        patterns.assert_braces_match(template or "")
    return target


def _keys(listed: object, targets: tuple[Target, ...]) -> tuple[re.Pattern[str], ...]:
    if not isinstance(listed, list) or not all(isinstance(key, str) and key for key in listed):
        raise ConfigurationError('"keys" must be a list of key patterns')
    wanted = {name for target in targets for name in _placeholders(target)}
    if wanted and not listed:
        raise ConfigurationError(f'without "keys" nothing can stand for {{{min(wanted)}}}')
    for key in listed:
        if missing := wanted - set(patterns.placeholders(key)):
            raise ConfigurationError(f"the key pattern {key!r} lacks {{{min(missing)}}}")
    return tuple(patterns.compiled(key) for key in listed)


def _assert_only(fields: Mapping[str, object], *known: str) -> None:
    if unknown := fields.keys() - set(known):
        raise ConfigurationError(f"unknown field {min(unknown)!r}; there are {', '.join(known)}")


def _placeholders(target: Target) -> list[str]:
    return [name for part in target if part is not None for name in patterns.placeholders(part)]


def _fill(target: Target, found: re.Match[str]) -> Target:
    job_id, model_id = target
    return _identified(
        patterns.filled(job_id, found), None if model_id is None else patterns.filled(model_id, found)
    )


def _identified(job_id: object, model_id: object) -> Target:
    return Target(
        identifier("job_id", job_id), None if model_id is None else identifier("model_id", model_id)
    )
