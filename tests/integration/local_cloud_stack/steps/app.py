"""Both functions of the recompute workflow, controlled by the run's `script`."""

from typing import Any


class Refused(Exception):
    """Raised by a step if the script says so."""


def handler(event: dict[str, Any], _context: Any) -> Any:
    """`script`: whether the run is held, its checks (None fails) in order, and whether it is released.

    `not_checked` is the last check of a run that could not be checked.
    """
    match event:
        case {"hold": {"run": {"script": script}, "number": int()}}:
            return {"held": script["held"]}
        case {"release": {"run": {"script": script}, "result": dict()}}:
            if not script["released"]:
                raise Refused("not released")
            return {"anything": "that nobody reads"}
        case {"not_checked": {"execution": str(), "run": {"not_checked": told}, "check": {"polls": int()}}}:
            return told
        case {"execution": str(), "run": {"script": script}, "check": {"polls": polls}}:
            answer = script["checks"][polls]
            if answer is None:
                raise Refused("not checked")
            return {**answer, "polls": polls + 1}
    raise Refused(f"unexpected: {event}")
