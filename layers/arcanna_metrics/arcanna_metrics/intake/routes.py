"""Which object keys lead to which models.

The routes are a JSON document:

    {"routes": [{"name": "by-path",
                 "keys": ["training-data/{job_id}/{model_id}/*"],
                 "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}]}]}

A route may say how much is significant: `"significant": {"objects": 100, "bytes": 1000000,
"max_wait_seconds": 3600}` recomputes after so many objects or so many bytes since the last recompute, and in
any case when the first of them is so old.

In a key pattern `*` stands for anything, `?` for one character, and `{name}` for a path segment or the
variable part of one, which the targets of the route may use; `*` and `{name}` take as little as they can.
A target without a model_id means the job's active model. The first route that matches counts. A route
without keys serves schedules only.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from arcanna_metrics.errors import BadInput, ConfigurationError
from arcanna_metrics.gathering import MOST_MARKS, Significance
from arcanna_metrics.intake.events import AllModels, ObjectChanged
from arcanna_metrics.targets import Target, identifier
from arcanna_metrics.updates import Update

_PLACEHOLDER = re.compile(r"\{([a-z_]\w*)\}", re.ASCII | re.IGNORECASE)
_TOKEN = re.compile(rf"{_PLACEHOLDER.pattern}|(\?)|([^{{}}?]+)", re.ASCII | re.IGNORECASE)
_MOST = {"objects": MOST_MARKS, "bytes": 2**50, "max_wait_seconds": 30 * 86400}
_AMBIGUOUS = re.compile(r"\}(?:[*?]|[^/*]*\{)")


@dataclass(frozen=True, slots=True)
class Route:
    """One route: compiled key patterns, the targets of each key that matches, and how much is enough."""

    name: str
    keys: tuple[re.Pattern[str], ...]
    targets: tuple[Target, ...]
    significance: Significance | None = None


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

    def updates(self, changed: ObjectChanged) -> list[Update]:
        """The updates that it leads to; empty where no route knows the object. Raises BadInput."""
        route, targets = self.match(changed.key)
        significance = route.significance if route else None
        return [changed.update(target, significance) for target in targets]

    def scheduled(self, occurrence: AllModels, jobs: set[str]) -> list[Update]:
        """The updates that a schedule leads to: of every target that is named in full, and of the active
        model of every other job of `jobs`, those that are known by their uploads."""
        targets = self.fixed_targets()
        named = {target.job_id for target in targets}
        return [
            occurrence.update(target)
            for target in [*targets, *(Target(job_id, None) for job_id in sorted(jobs - named))]
        ]

    def fixed_targets(self) -> list[Target]:
        """The targets that are named in full."""
        return [target for route in self.routes for target in route.targets if not _placeholders(target)]


def parse(text: str) -> Routes:
    """The routes of a JSON document.

    Raises ConfigurationError that names the route and what is wrong with it.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the routes are not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("routes"), list):
        raise ConfigurationError('the routes must be a JSON object with a list "routes"')
    _only(document, "routes")
    return Routes(tuple(_route(n, fields) for n, fields in enumerate(document["routes"], 1)))


def _route(number: int, fields: object) -> Route:
    if not isinstance(fields, dict):
        raise ConfigurationError(f"route {number} must be a JSON object")
    try:
        name = identifier("name", fields.get("name", number))
    except BadInput as error:
        raise ConfigurationError(f"route {number}: {error}") from error
    try:
        _only(fields, "name", "keys", "targets", "significant")
        targets = _targets(fields.get("targets"))
        keys = _keys(fields.get("keys", []), targets)
        return Route(name, keys, targets, _significance(fields.get("significant")))
    except (BadInput, ConfigurationError) as error:
        raise ConfigurationError(f"route {name!r}: {error}") from error


def _significance(fields: object) -> Significance | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise ConfigurationError('"significant" must be a JSON object')
    _only(fields, "objects", "bytes", "max_wait_seconds")
    for name, value in fields.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MOST[name]:
            raise ConfigurationError(f"{name} must be a whole number from 1 to {_MOST[name]}")
    if "max_wait_seconds" not in fields:
        raise ConfigurationError('"significant" must have max_wait_seconds, so that nothing waits for ever')
    return Significance(fields.get("objects"), fields.get("bytes"), float(fields["max_wait_seconds"]))


def _targets(listed: object) -> tuple[Target, ...]:
    if not isinstance(listed, list) or not listed:
        raise ConfigurationError('"targets" must be a list of one or more targets')
    return tuple(_target(fields) for fields in listed)


def _target(fields: object) -> Target:
    if not isinstance(fields, dict):
        raise ConfigurationError("a target must be a JSON object")
    _only(fields, "job_id", "model_id")
    model_id = fields.get("model_id")
    target = Target(
        identifier("job_id", fields.get("job_id")),
        None if model_id is None else identifier("model_id", model_id),
    )
    for template in target:
        _no_stray_brace(template or "")
    return target


def _keys(listed: object, targets: tuple[Target, ...]) -> tuple[re.Pattern[str], ...]:
    if not isinstance(listed, list) or not all(isinstance(key, str) and key for key in listed):
        raise ConfigurationError('"keys" must be a list of key patterns')
    wanted = {name for target in targets for name in _placeholders(target)}
    if wanted and not listed:
        raise ConfigurationError(f'without "keys" nothing can stand for {{{min(wanted)}}}')
    for key in listed:
        if missing := wanted - set(_PLACEHOLDER.findall(key)):
            raise ConfigurationError(f"the key pattern {key!r} lacks {{{min(missing)}}}")
    return tuple(_compile(key) for key in listed)


def _compile(key: str) -> re.Pattern[str]:
    """The pattern's regular expression, which never takes more than quadratic time, whatever the key.

    What precedes a `*` is an atomic group: its first match is the one that ends earliest, which leaves the
    most to the rest, so that no other needs to be tried. This holds only while a path segment has no more
    than one placeholder, with text after it.
    """
    _no_stray_brace(key)
    names = _PLACEHOLDER.findall(key)
    if len(set(names)) < len(names):
        raise ConfigurationError(f"the key pattern {key!r} has a placeholder twice")
    if _AMBIGUOUS.search(key):
        raise ConfigurationError(
            f"the key pattern {key!r} does not tell where a placeholder ends: after it there must be "
            "some text or the end, and in its path segment no other placeholder"
        )
    first, *others = key.split("*")
    *closed, last = [_regex(first), *(".*?" + _regex(other) for other in others)]
    return re.compile("".join(f"(?>{part})" for part in closed) + last, re.DOTALL)


def _regex(part: str) -> str:
    return "".join(
        f"(?P<{name}>[^/]+?)" if name else "." if mark else re.escape(literal)
        for name, mark, literal in _TOKEN.findall(part)
    )


def _only(fields: Mapping[str, object], *known: str) -> None:
    if unknown := fields.keys() - set(known):
        raise ConfigurationError(f"unknown field {min(unknown)!r}; there are {', '.join(known)}")


def _no_stray_brace(template: str) -> None:
    if set("{}") & set(_PLACEHOLDER.sub("", template)):
        raise ConfigurationError(f"{template!r} has a brace that belongs to no {{name}}")


def _placeholders(target: Target) -> list[str]:
    return [name for part in target if part is not None for name in _PLACEHOLDER.findall(part)]


def _fill(target: Target, found: re.Match[str]) -> Target:
    def fill(name: str, template: str) -> str:
        return identifier(name, _PLACEHOLDER.sub(lambda placeholder: found[placeholder[1]], template))

    return Target(
        fill("job_id", target.job_id),
        None if target.model_id is None else fill("model_id", target.model_id),
    )
