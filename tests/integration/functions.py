"""The two functions, called as Lambda calls them."""

from typing import Any

from functions.check_status import app as check_status
from functions.trigger_recompute import app as trigger_recompute
from tests.support.doubles import Invocation


class Functions:
    """The two functions, called as Lambda calls them."""

    def trigger(self, event: dict[str, Any], **context: Any) -> dict[str, Any]:
        answer: dict[str, Any] = trigger_recompute.handler(event, Invocation(**context))
        return answer

    def hold(self, data: dict[str, Any]) -> bool:
        """Whether the execution with this data may continue."""
        return bool(self.trigger({"hold": {"run": data["run"], "number": data["number"]}})["held"])

    def release(self, data: dict[str, Any]) -> bool:
        """Whether the execution with this data has released its target."""
        result = data["check"]["outcome"]["result"]
        ended = {"run": data["run"], "number": data["number"], "result": result}
        return bool(self.trigger({"release": ended})["released"])

    def check(self, data: dict[str, Any]) -> dict[str, Any]:
        """The workflow's data after one more CheckStatus."""
        return {
            **data,
            "check": dict(check_status.handler({"execution": "arn:execution", **data}, Invocation())),
        }
