"""The calls of a run, by purpose, so that a fault can strike exactly one of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tests.e2e.scene import TRIGGER_ROLE, WORKFLOW_ROLE, Scene
from tests.support.local_cloud import ApiFault, Call

DENIED = "AccessDeniedException"
"""An error that no SDK retries."""

KILLED_BEFORE = ApiFault("", "", kill=True)
KILLED_AFTER = ApiFault("", "", kill=True, when="after")
UNANSWERED = ApiFault("", "", DENIED, 400, when="after")
"""The call takes effect, and the caller gets an error."""


def refused(times: int = 1) -> ApiFault:
    return ApiFault("", "", DENIED, 400, times)


def throttled(times: int = 2) -> ApiFault:
    """A throttled call, as often as the SDK retries."""
    return ApiFault("", "", "ThrottlingException", 400, times)


def _every(_: Call) -> bool:
    return True


class Step(NamedTuple):
    """Calls of one role to one operation for one purpose."""

    role: str
    service: str
    operation: str
    is_it: Callable[[Call], bool] = _every

    def meets(self, how: ApiFault, scene: Scene) -> ApiFault:
        """Injects a fault into this step of the scene's target. The fault lists the calls that it struck."""
        fault = replace(
            how,
            service=self.service,
            operation=self.operation,
            role=scene.here.cloud.physical_id(self.role),
            where=lambda call: self.is_it(call) and _is_about(call, scene),
            hits=[],
        )
        return scene.here.cloud.inject(fault)


def _is_about(call: Call, scene: Scene) -> bool:
    if listed := _item(call).get("takers"):  # the takers of all slots; the newest is last
        return scene.model in json.loads(listed["S"])[-1][1]
    return scene.model in json.dumps(call.parameters, default=str)


def _item(call: Call) -> dict[str, Any]:
    """The item that a PutItem writes."""
    item: dict[str, Any] = call.parameters.get("Item", {})
    return item


def _has_ended_once(item: dict[str, Any]) -> bool:
    return bool(item.keys() & {"fresh_as_of", "failed_as_of"})


def _is_record(call: Call) -> bool:
    item = _item(call)
    return "takers" not in item and not item.keys() & {"run_id", "attempts"} and not _has_ended_once(item)


def _is_claim(call: Call) -> bool:
    return "run_id" in _item(call) and "number" not in _item(call)


def _is_give_back(call: Call) -> bool:
    return "attempts" in _item(call) and "run_id" not in _item(call)


def _is_release(call: Call) -> bool:
    return "run_id" not in _item(call) and _has_ended_once(_item(call))


def _writes(is_it: Callable[[Call], bool]) -> Step:
    return Step(TRIGGER_ROLE, "dynamodb", "PutItem", is_it)


def _invokes(what: str) -> Step:
    return Step(WORKFLOW_ROLE, "lambda", "Invoke", lambda call: what in call.parameters)


# The trigger's steps of a target's first run.
READ = Step(TRIGGER_ROLE, "dynamodb", "GetItem")
RECORD = _writes(_is_record)
CLAIM = _writes(_is_claim)
SLOT = _writes(lambda call: "takers" in _item(call))
START = Step(TRIGGER_ROLE, "stepfunctions", "StartExecution")
GIVE_BACK = _writes(_is_give_back)
HOLD = _writes(lambda call: "number" in _item(call))
RELEASE = _writes(_is_release)
LETTER = Step(TRIGGER_ROLE, "sqs", "SendMessage")

# The workflow's.
INVOKE_HOLD, INVOKE_CHECK, INVOKE_RELEASE = _invokes("hold"), _invokes("check"), _invokes("release")
PUBLISH = Step(WORKFLOW_ROLE, "events", "PutEvents")
NOTIFY = Step(WORKFLOW_ROLE, "sns", "Publish")
