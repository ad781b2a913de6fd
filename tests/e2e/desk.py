"""What an operator sees of a stack, and does to it: commands, saved queries, metrics, notifications."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from arcanna_metrics.times import from_iso
from tests.arcanna.platform import Behaviour
from tests.e2e.alone import messages, subscribed
from tests.e2e.conftest import JOB, MODELS
from tests.e2e.scene import Scene
from tests.harness import Installation
from tests.local_cloud import ApiFault, Call
from tests.operate import __main__ as operate
from tests.operate import view

T = TypeVar("T")
STACK = "runbook"
TRIGGER, CHECK = "TriggerRecomputeFunction", "CheckStatusFunction"
PATIENCE = 60.0
"""Seconds for which anything is waited for."""


def until(what: str, look: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The first truthy answer of `look`, at the pace of a person. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.4)
    return found


def shows(text: str, *parts: str) -> None:
    """Raises AssertionError, with the text, where a part is not in there."""
    missing = [part for part in parts if part not in text]
    if missing:
        raise AssertionError(f"{missing} not in:\n{text}")


class Desk:
    """An operator at the stack `runbook`. Several threads may sit at it."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self._events_url, self._notices_url = subscribed(here, STACK)
        self._models = iter(MODELS)
        self._received: list[str] = []
        self._log: list[tuple[str, dict[str, Any]]] = []
        self._read = dict.fromkeys((TRIGGER, CHECK), 0)
        self._looking = threading.Lock()
        self._dead_letters = threading.Lock()
        view.console.width = 250

    # --- Models and what happens to them -------------------------------------------------------------------

    def scene(self, behaviour: Behaviour | None = None) -> Scene:
        """A model that no other exercise has, and whose recomputes go so."""
        scene = Scene(self.here, next(self._models))
        if behaviour:
            self.here.arcanna.set_behaviour(behaviour, scene.model)
        return scene

    def send(self, body: object) -> None:
        """A message by hand."""
        url = self.here.cloud.outputs["UpdatesQueueUrl"]
        self.here.cloud.client("sqs").send_message(QueueUrl=url, MessageBody=json.dumps(body))

    @contextmanager
    def denied(self, role: str, service: str, operation: str, *parts: str) -> Iterator[None]:
        """Takes a permission from the role, for the calls that name all these parts, and gives it back."""

        def concerns(call: Call) -> bool:
            text = Scene.text_of(call)
            return all(part in text for part in parts)

        role = self.here.cloud.physical_id(role)
        fault = ApiFault(
            service, operation, "AccessDeniedException", 400, times=1000, role=role, where=concerns
        )
        self.here.cloud.inject(fault)
        yield
        fault.times = 0

    # --- What there is to see ------------------------------------------------------------------------------

    def make(self, command: str, *arguments: str) -> tuple[int, str]:
        """The exit status of `make status` or another one, and what it prints; nobody answers questions."""
        with view.console.capture() as printed:
            code = operate.main([command, "--stack", STACK, *arguments])
        return code, printed.get()

    def redrive(self, reason: str, *, send: bool) -> str:
        """What `make redrive REASON=...` prints; one at a time, as messages that are looked at are hidden."""
        with self._dead_letters:
            code, printed = self.make("redrive", "--reason", reason, *(["--yes"] if send else []))
        assert code == 0, printed
        return printed

    def delete_dead_letters(self, part: str) -> int:
        """Deletes those with that part in their body, as the console does; how many there were."""
        sqs, url = self.here.cloud.client("sqs"), self.here.cloud.outputs["DeadLetterQueueUrl"]
        with self._dead_letters:
            found = messages(self.here, url, hidden_for=5)
            for letter in found:
                if part in letter["Body"]:
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])
                else:
                    sqs.change_message_visibility(
                        QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"], VisibilityTimeout=0
                    )
        return sum(part in letter["Body"] for letter in found)

    def dead_letters(self) -> int:
        """How many there are, seen or not."""
        counts = self.here.cloud.client("sqs").get_queue_attributes(
            QueueUrl=self.here.cloud.outputs["DeadLetterQueueUrl"], AttributeNames=["All"]
        )["Attributes"]
        return sum(int(counts[f"ApproximateNumberOfMessages{kind}"]) for kind in ("", "NotVisible"))

    def lines(self, message: str, part: str) -> list[dict[str, Any]]:
        """The log lines of both functions with that message, and that part anywhere."""
        return [line for text, line in self._lines() if line.get("message") == message and part in text]

    def story(self, run_id: str) -> list[dict[str, Any]]:
        """What the saved query *story of a run* tells of the functions' part in it."""
        return [line for _, line in self._lines() if line.get("run_id") == run_id]

    def failures_by_reason(self, part: str) -> set[str]:
        """What the saved query of that name tells of the lines with that part, and of executions."""
        reasons = {
            line["reason"]
            for text, line in self._lines()
            if line.get("level") in ("WARNING", "ERROR") or line.get("status") in ("failed", "timed_out")
            if "reason" in line and part in text
        }
        return reasons | {str(e["error"]) for e in self.executions(part) if e.get("error")}

    def executions(self, model: str) -> list[dict[str, Any]]:
        """Those of the model that have ended, oldest first."""
        everybodys = self.here.cloud.executions()
        return [e for e in everybodys if model in e["input"] and e["status"] != "RUNNING"]

    def emitted(self, metric: str, since: float = 0.0) -> list[float]:
        """The values of a metric that were emitted after that moment (epoch seconds)."""
        records = [line for _, line in self._lines() if "_aws" in line and metric in line]
        values = [r[metric] for r in records if r["_aws"]["Timestamp"] / 1000 >= since]
        return [v for value in values for v in (value if isinstance(value, list) else [value])]

    def told(self, model: str, *parts: str) -> list[str]:
        """The outcome events and notifications about the model that have all these parts."""
        with self._looking:
            for url in (self._events_url, self._notices_url):
                self._received += [message["Body"] for message in messages(self.here, url)]
            return [text for text in self._received if all(p in text for p in (model, *parts))]

    def _lines(self) -> list[tuple[str, dict[str, Any]]]:
        """The lines of both functions that are JSON, as text and read; each is read once."""
        with self._looking:
            for function, read in self._read.items():
                lines = self.here.cloud.logs(function)
                self._log += [(text, json.loads(text)) for text in lines[read:] if text.startswith("{")]
                self._read[function] = len(lines)
            return list(self._log)

    # --- When it is mended ---------------------------------------------------------------------------------

    def recomputed(self, scene: Scene) -> None:
        """Waits until the model's last update is covered by a run that completed and was announced."""

        def covered() -> bool:
            entry = scene.entry()
            covered = entry.get("covered_until")
            return bool(
                covered and from_iso(covered) > scene.updated_at and entry["last_outcome"] == "completed"
            )

        until(f"fresh metrics of {scene.model}", covered)
        run_id = scene.entry()["last_run_id"]
        until("its announcement", lambda: self.told(scene.model, "Recompute Completed", run_id))

    def ask_again(self, scene: Scene) -> None:
        """`make trigger JOB=... MODEL=...`, which must end in a recompute that completed."""
        scene.updated_at = time.time()
        code, printed = self.make("trigger", "--job", str(JOB), "--model", scene.model)
        assert code == 0, printed
        shows(printed, "✓ completed")
        self.recomputed(scene)

    def forget_routes(self) -> None:
        """They are cached for a minute."""
        for sandbox in self.here.cloud.sandboxes(TRIGGER):
            if not sandbox.busy:
                sandbox.kill()
