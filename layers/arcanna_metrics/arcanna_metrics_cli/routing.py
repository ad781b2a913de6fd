"""What an object's key leads to, by a document of routes."""

import json
from typing import NamedTuple

from arcanna_metrics.errors import BadInput
from arcanna_metrics.intake import routes
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
    routes.parse(text)  # for the errors, which name a route by its place
    document = json.loads(text)
    for number, fields in enumerate(document["routes"], 1):
        alone = routes.parse(json.dumps({**document, "routes": [fields]}))
        name = str(fields.get("name", number))
        try:
            targets = alone.targets(key)
        except BadInput as error:
            return Lead(name, [], str(error))
        if targets:
            threshold = fields.get("threshold")
            return Lead(name, targets, "", json.dumps(threshold) if threshold else "")
    return None


def patterns(text: str) -> list[tuple[str, str]]:
    """Each key pattern with the name of its route, in the order in which they are tried."""
    listed = json.loads(text)["routes"]
    return [
        (str(fields.get("name", number)), pattern)
        for number, fields in enumerate(listed, 1)
        for pattern in fields.get("keys", [])
    ]
