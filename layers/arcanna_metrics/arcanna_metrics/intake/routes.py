"""Routes map object keys to models. They are part of the settings:

    [{"name": "by-path",
      "keys": ["training-data/{job_id}/{model_id}/*"],
      "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}]}]

The first matching route applies; patterns.py describes the keys. A target without a model_id means the job's
active model. A route without keys is for schedules only.

A route may have a threshold, such as `{"objects": 100, "bytes": 1000000, "max_wait_seconds": 3600}`. A run
then starts after 100 objects or 1,000,000 bytes since the last recompute, or when the first object is an hour
old.
"""

import re
from typing import NamedTuple

from arcanna_metrics.documents import Node
from arcanna_metrics.errors import BadInput
from arcanna_metrics.intake import patterns
from arcanna_metrics.intake.events import ObjectCreated
from arcanna_metrics.targets import WHOLE, Example, Target, Update, identifier

DEFAULT_ROUTES = [
    {
        "name": "by-path",
        "keys": ["training-data/{job_id}/{model_id}/*"],
        "targets": [{"job_id": "{job_id}", "model_id": "{model_id}"}],
    },
    {"name": "by-job", "keys": ["training-data/{job_id}/*"], "targets": [{"job_id": "{job_id}"}]},
]
"""The routes if the settings have none."""

_MOST = {"objects": 1000, "bytes": 2**50, "max_wait_seconds": 30 * 86400}
"""The largest values. Up to 1,000 objects, rounding does not change when their shares reach WHOLE."""


class Threshold(NamedTuple):
    """How much is worth a recompute."""

    objects: int | None
    """So many objects, or"""
    bytes: int | None
    """so many bytes, or"""
    max_wait: float
    """so many seconds since the first of them."""

    def share(self, size: int | None) -> int:
        """An object's share of the threshold, in millionths rounded up.

        One number cannot count both objects and bytes, so an object counts as the larger of its two shares.
        If a route has both limits, the shares may reach WHOLE a little before either limit, never after.
        An object of unknown size counts as an object. If only bytes count, it reaches the threshold alone.
        """
        by_number = _part(1, self.objects) if self.objects else 1
        if self.bytes is None or (size is None and self.objects):
            return by_number
        return max(by_number, WHOLE if size is None else _part(size, self.bytes))


def _part(amount: int, enough: int) -> int:
    return min(-(-WHOLE * amount // enough), WHOLE)


_EVERY_OBJECT = Threshold(objects=1, bytes=None, max_wait=0.0)
"""The threshold of a route that has none."""


class Route(NamedTuple):
    """One route: compiled key patterns, the targets of each matching key, and the threshold."""

    name: str
    keys: tuple[re.Pattern[str], ...]
    targets: tuple[Target, ...]
    threshold: Threshold


class Routes(NamedTuple):
    """All routes, in the order in which they are tried."""

    routes: tuple[Route, ...]

    def match(self, key: str) -> tuple[Route | None, list[Target]]:
        """The route that matches the key, and the object's targets; (None, []) if no route matches.

        Raises BadInput if a route matches but the key does not give valid ids.
        """
        for route in self.routes:
            for pattern in route.keys:
                if match := pattern.fullmatch(key):
                    return route, [_fill(target, match) for target in route.targets]
        return None, []

    def updates(self, created: ObjectCreated) -> list[Update]:
        """The updates that an object causes; empty if no route matches its key. Raises BadInput."""
        route, targets = self.match(created.key)
        if route is None:
            return []
        share, max_wait = route.threshold.share(created.size), route.threshold.max_wait
        example = Example(created.bucket, created.key, created.version_id)
        return [Update(target, created.happened_at, "upload", example, share, max_wait) for target in targets]

    def fixed_targets(self) -> list[Target]:
        """The targets that the routes name in full, each once."""
        targets = (target for route in self.routes for target in route.targets)
        return list(dict.fromkeys(Target.of(*target) for target in targets if not _placeholders(target)))


def read_routes(node: Node) -> Routes:
    """The routes in a document's list. Notes problems in the document."""
    return Routes(tuple(_route(number, route) for number, route in enumerate(node.items(), 1)))


def _route(number: int, node: Node) -> Route:
    fields = node.fields(("name", "keys", "targets", "threshold"), required=("targets",))
    name = _identifier(fields["name"]) if "name" in fields else str(number)
    targets = tuple(_target(target) for target in fields["targets"].items(least=1))
    keys = fields["keys"].items() if "keys" in fields else []
    wanted = {placeholder for target in targets for placeholder in _placeholders(target)}
    if wanted and not keys:
        node.wrong(f'has no "keys", so {{{min(wanted)}}} has no value')
    patterns = tuple(pattern for key in keys if (pattern := _pattern(key, wanted)))
    threshold = _threshold(fields["threshold"]) if "threshold" in fields else _EVERY_OBJECT
    return Route(name, patterns, targets, threshold)


def _threshold(node: Node) -> Threshold:
    fields = node.fields(_MOST, required=("max_wait_seconds",))  # so that no update waits for ever
    limits = {name: field.whole_number(1, _MOST[name]) for name, field in fields.items()}
    return Threshold(limits.get("objects"), limits.get("bytes"), float(limits["max_wait_seconds"] or 0))


def _target(node: Node) -> Target:
    fields = node.fields(("job_id", "model_id"), required=("job_id",))
    model = fields.get("model_id")
    return Target(
        _template(fields["job_id"]), _template(model) if model and model.value is not None else None
    )


def _template(node: Node) -> str:
    template = _identifier(node)
    if why := patterns.stray_brace(template):
        node.must_be("an id or a name", why)
    return template


def _identifier(node: Node) -> str:
    try:
        return identifier("it", node.value)
    except BadInput as error:
        node.must_be("an id or a name", str(error))
        return ""


def _pattern(node: Node, wanted: set[str]) -> re.Pattern[str] | None:
    pattern = node.value
    why = patterns.problem(pattern) if isinstance(pattern, str) and pattern else ""
    if why is not None:
        node.must_be("a key pattern such as training-data/{job_id}/*", why)
        return None
    compiled = patterns.compiled(pattern)
    if missing := wanted - compiled.groupindex.keys():
        node.wrong(f"lacks {{{min(missing)}}}, which a target needs")
    return compiled


def _placeholders(target: Target) -> list[str]:
    return [name for part in target if part is not None for name in patterns.placeholders(part)]


def _fill(target: Target, found: re.Match[str]) -> Target:
    job_id, model_id = target
    return Target.of(job_id.format_map(found), model_id and model_id.format_map(found))
