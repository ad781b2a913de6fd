"""What an object's key leads to, by a settings document."""

import json
from typing import Any, NamedTuple

from arcanna_metrics.errors import BadInput
from arcanna_metrics.intake.routes import DEFAULT_ROUTES, Routes
from arcanna_metrics.settings import parse_settings
from arcanna_metrics.targets import Target


class Lead(NamedTuple):
    """The route that matches a key, and where it leads. `problem` says why it leads nowhere after all.

    `threshold` is the route's, as it is written there; empty if it has none.
    """

    route: str
    targets: list[Target]
    problem: str = ""
    threshold: str = ""


def lead(text: str, key: str) -> Lead | None:
    """Where the key leads, by the first route that knows it; None where none does.

    Raises ConfigurationError where the routes are wrong.
    """
    settings = parse_settings(text)
    for route, fields in zip(settings.routes.routes, _written(text), strict=True):
        try:
            targets = Routes((route,)).targets(key)
        except BadInput as error:
            return Lead(route.name, [], str(error))
        if targets:
            threshold = fields.get("threshold")
            return Lead(route.name, targets, "", json.dumps(threshold) if threshold else "")
    return None


def patterns(text: str) -> list[tuple[str, str]]:
    """Each key pattern with the name of its route, in the order in which they are tried."""
    return [
        (str(fields.get("name", number)), pattern)
        for number, fields in enumerate(_written(text), 1)
        for pattern in fields.get("keys", [])
    ]


def _written(text: str) -> list[dict[str, Any]]:
    """The routes as settings that are right write them, or the default ones."""
    return list(json.loads(text.lstrip("\ufeff")).get("routes", DEFAULT_ROUTES))
