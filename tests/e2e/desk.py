"""An operator's view and actions: commands, saved queries, metrics, notifications."""

import json
import threading
from typing import Any

from tests.e2e.scene import MODELS, Mailbox, Scene, emitted, received
from tests.support import command
from tests.support.arcanna.platform import Behaviour
from tests.support.installation import Installation
from tests.support.waiting import eventually

STACK = "runbook"


def shows(text: str, *parts: str) -> None:
    """Raises AssertionError with the text if one of the parts is missing."""
    missing = [part for part in parts if part not in text]
    if missing:
        raise AssertionError(f"{missing} not in:\n{text}")


class Desk:
    """An operator of the stack `runbook`. Several threads may use it."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self._mailbox = Mailbox(here, "desk").with_events().with_notifications()
        self._models = iter(MODELS)
        self._dead_letters = threading.Lock()

    def scene(self, behaviour: Behaviour | None = None) -> Scene:
        """A model that no other exercise uses, with the given behaviour."""
        scene = Scene(self.here, next(self._models))
        if behaviour:
            scene.behaves(behaviour)
        return scene

    # --- Commands ------------------------------------------------------------------------------------------

    def make(self, name: str, *arguments: str) -> tuple[int, str]:
        """Runs a command such as `status`. Returns its exit status and output."""
        ended = command.run(name, "--stack", STACK, *arguments, width=250)
        return ended.status, ended.printed

    def of(self, scene: Scene, name: str = "status", *arguments: str) -> tuple[int, str]:
        """Runs a command for one model. Returns its exit status and output."""
        return self.make(name, "--job", scene.job_id, "--model", scene.model, *arguments)

    def recompute(self, scene: Scene) -> tuple[int, str]:
        """Requests a recompute and follows it to its end. Returns the exit status and output."""
        return self.of(scene, "recompute", "--wait", "--allow-not-judged")

    def until_status(self, scene: Scene, *parts: str) -> None:
        """Waits until the status shows all these parts."""

        def shown() -> bool:
            status = self.of(scene)[1]
            return all(part in status for part in parts)

        eventually(f"{parts} of {scene.model}", shown)

    def redrive(self, reason: str, *, send: bool) -> str:
        """Runs a redrive by reason. Returns its output. One runs at a time, because it hides the messages."""
        with self._dead_letters:
            code, printed = self.make("redrive", "--reason", reason, *(["--yes"] if send else []))
        assert code == (0 if send else 2), printed  # 2: the question was not answered
        return printed

    def dead_letter(self, reason: str, part: str) -> str:
        """Waits for a dead letter with that part in its body. Returns the output of a redrive by reason."""
        eventually(f"the dead letter of {part}", lambda: self._dead_letters_with(part))
        return self.redrive(reason, send=False)

    def delete_dead_letters(self, part: str) -> list[str]:
        """Deletes the dead letters with that part in their body, as in the console. Returns their bodies."""
        sqs, url = self.here.cloud.client("sqs"), self.here.cloud.outputs["DeadLetterQueueUrl"]
        deleted = []
        with self._dead_letters:
            for letter in received(self.here, url, hidden_for=30):
                handle = {"QueueUrl": url, "ReceiptHandle": letter["ReceiptHandle"]}
                if part in letter["Body"]:
                    sqs.delete_message(**handle)
                    deleted.append(letter["Body"])
                else:
                    sqs.change_message_visibility(**handle, VisibilityTimeout=0)
        return deleted

    def _dead_letters_with(self, part: str) -> list[str]:
        return [body for body in self.here.cloud.messages("DeadLetterQueue") if part in body]

    # --- Logs, metrics and messages ------------------------------------------------------------------------

    def lines(self, message: str, part: str) -> list[dict[str, Any]]:
        """The log lines of both functions with that message and with that part anywhere in them."""
        return [line for line in self.here.cloud.log_records(having=part) if line.get("message") == message]

    def failures_by_reason(self, scene: Scene) -> set[str]:
        """The result of the saved query of that name for a model."""
        reasons = {
            line["reason"]
            for line in self.here.cloud.log_records(having=scene.model)
            if line.get("level") in ("WARNING", "ERROR") or line.get("status") in ("failed", "timed_out")
            if "reason" in line
        }
        return reasons | {str(e["error"]) for e in scene.executions() if e.get("error")}

    def emitted(self, metric: str, since: float = 0.0) -> list[float]:
        """The values of a metric that were emitted after `since` (epoch seconds)."""
        return emitted(self.here, metric, since)

    def told(self, scene: Scene, *parts: str) -> list[dict[str, Any]]:
        """The outcome events and notifications about the model that have all these parts."""
        about = self._mailbox.about(scene.model)
        return [message for message in about if all(part in json.dumps(message) for part in parts)]

    # --- After the remedy ----------------------------------------------------------------------------------

    def recomputed(self, scene: Scene) -> None:
        """Waits until a run that covers the model's last update has completed and was announced."""
        entry = scene.until_fresh()
        run_id = entry.history[-1]["run_id"]
        eventually("its announcement", lambda: self.told(scene, "Recompute Completed", run_id))

    def request_again(self, scene: Scene) -> None:
        """Requests a recompute by hand, which must complete."""
        code, printed = self.recompute(scene)
        assert code == 0, printed
        shows(printed, "✓ completed")
