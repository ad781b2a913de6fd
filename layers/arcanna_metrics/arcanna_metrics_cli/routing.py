"""The models that an object's key belongs to, by the routes of a settings document."""

import json
import re
from typing import Any, NamedTuple

from arcanna_metrics.errors import BadInput
from arcanna_metrics.intake.routes import DEFAULT_ROUTES, Routes
from arcanna_metrics.settings import parse_settings
from arcanna_metrics.targets import Target


class Lead(NamedTuple):
    """The route that matches a key, and its targets.

    `problem` says why there are none, although the route matches. `threshold` is the route's, as JSON; empty
    if it has none.
    """

    route: str
    targets: list[Target]
    problem: str = ""
    threshold: str = ""


def lead(text: str, key: str) -> Lead | None:
    """The first route that matches the key; None if no route does.

    Raises ConfigurationError if the settings are not valid.
    """
    settings = parse_settings(text)
    for route, fields in zip(settings.routes.routes, _written(text), strict=True):
        try:
            _, targets = Routes((route,)).match(key)
        except BadInput as error:
            return Lead(route.name, [], str(error))
        if targets:
            threshold = fields.get("threshold")
            return Lead(route.name, targets, "", json.dumps(threshold) if threshold else "")
    return None


def patterns(text: str) -> list[tuple[str, str]]:
    """The name of a route and a key pattern of it, for each pattern in the order of matching."""
    return [
        (str(fields.get("name", number)), pattern)
        for number, fields in enumerate(_written(text), 1)
        for pattern in fields.get("keys", [])
    ]


def warnings(text: str) -> list[str]:
    """What is probably a mistake in the routes of valid settings."""
    routes = parse_settings(text).routes.routes
    found = [] if any(route.keys for route in routes) else ["no route has keys, so every upload is ignored"]
    for number, (route, fields) in enumerate(zip(routes, _written(text), strict=True)):
        for pattern in fields.get("keys", []):
            what = f"{pattern!r} of route {route.name}"
            if pattern.startswith(("s3://", "/")):
                found.append(f"{what}: an object's key has no bucket, and seldom a leading slash")
            found += [
                f"{what} never applies, because route {earlier.name} takes all its keys"
                for earlier in routes[:number]
                if all(any(key.fullmatch(sample) for key in earlier.keys) for sample in _samples(pattern))
            ][:1]
    return found


def _samples(pattern: str) -> list[str]:
    """Keys that the pattern matches, with nothing, a name and a path for each `*`."""
    plain = re.sub(r"\{\w+\}", "~sample~", pattern.replace("?", "~"))
    return [plain.replace("*", each) for each in ("", "~", "~/~")]


def _written(text: str) -> list[dict[str, Any]]:
    """The routes in the JSON of valid settings, or the default routes."""
    return list(json.loads(text.lstrip("\ufeff")).get("routes", DEFAULT_ROUTES))
