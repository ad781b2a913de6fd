"""What people and others do to one model while a fault strikes."""

import json
import time
from dataclasses import dataclass

from arcanna_metrics.starter import LEASE_SLACK
from arcanna_metrics.times import from_iso
from tests.arcanna.front_door import ReceivedRequest
from tests.arcanna.platform import FOR_EVER, SHORT, Behaviour
from tests.e2e.conftest import JOB
from tests.harness import Installation, wait_for
from tests.local_cloud import Call


@dataclass
class Scene:
    """One model on the installation, and when its training data last changed (epoch seconds)."""

    here: Installation
    model: str
    updated_at: float = 0.0

    def behaves(self, behaviour: Behaviour) -> None:
        """How the model's recomputes go from now on, one under way too."""
        self.here.arcanna.set_behaviour(behaviour, self.model)

    def update(self) -> None:
        self.here.cloud.client("sqs").send_message(
            QueueUrl=self.here.cloud.outputs["UpdatesQueueUrl"],
            MessageBody=json.dumps({"job_id": JOB, "model_id": self.model}),
        )
        self.updated_at = time.time()

    def update_past_the_queue(self) -> None:
        """By direct invocation, which the trigger hears of at once however many updates there are."""
        self.updated_at = time.time()
        self.here.cloud.client("lambda").invoke(
            FunctionName=self.here.cloud.outputs["TriggerRecomputeFunction"],
            Payload=json.dumps({"job_id": JOB, "model_id": self.model}),
        )

    def requests(self, endpoint: str) -> list[ReceivedRequest]:
        return [r for r in self.here.arcanna.requests if r.model_id == self.model and r.endpoint == endpoint]

    def stop_execution(self) -> None:
        """What an operator does in the console."""
        machine = self.here.cloud.outputs["RecomputeWorkflowArn"]
        arn = f"{machine.replace(':stateMachine:', ':execution:')}:{self.entry()['run_id']}"
        self.here.cloud.client("stepfunctions").stop_execution(executionArn=arn)

    def entry(self) -> dict[str, str]:
        """The ledger's entry of the model."""
        item = self.here.cloud.client("dynamodb").get_item(
            TableName=self.here.cloud.outputs["LedgerTable"],
            Key={"job_id": {"S": str(JOB)}, "model_id": {"S": self.model}},
        )
        return {name: next(iter(value.values())) for name, value in item.get("Item", {}).items()}

    @staticmethod
    def text_of(call: Call) -> str:
        return json.dumps(call.parameters, default=str)


def once(scene: Scene) -> None:
    scene.update()


def under_way(scene: Scene) -> None:
    scene.update()
    wait_for(f"the hold of {scene.model}", lambda: _is_held(scene), 60)


def long_under_way(scene: Scene) -> None:
    """A run whose recompute goes on until the model behaves otherwise."""
    scene.behaves(FOR_EVER)
    under_way(scene)


def _is_held(scene: Scene) -> bool:
    """Whether an execution has the model: only that prolongs the lease beyond any invocation."""
    lease = scene.entry().get("lease_expires_at")
    return lease is not None and from_iso(lease) > time.time() + LEASE_SLACK / 2


def update_waiting(scene: Scene) -> None:
    """A run that goes on, and an update that it does not cover."""
    long_under_way(scene)
    scene.update_past_the_queue()
    wait_for(f"the pending update of {scene.model}", lambda: "pending_at" in scene.entry())


def update_during_the_run(scene: Scene) -> None:
    long_under_way(scene)
    scene.update_past_the_queue()
    scene.behaves(SHORT)


def aborted(scene: Scene) -> None:
    long_under_way(scene)
    scene.stop_execution()


def aborted_with_an_update_waiting(scene: Scene) -> None:
    update_waiting(scene)
    scene.stop_execution()
    scene.behaves(SHORT)


def model_removed(scene: Scene) -> None:
    long_under_way(scene)
    scene.here.arcanna.remove_model(JOB, scene.model)


def busy_with_anothers(scene: Scene) -> None:
    """Until the trigger has met it, unless it is for ever."""
    scene.here.arcanna.external_recompute(JOB, scene.model)
    wait_for("the other's recompute", lambda: scene.here.served(JOB, scene.model)["is_recomputing_metrics"])
    scene.update()


def check_killed(scene: Scene) -> None:
    """Kills every check that is under way while the model's first one waits for its answer."""
    scene.update()
    wait_for("the check", lambda: any(r.fault and r.status is None for r in scene.requests("metrics")), 60)
    for sandbox in scene.here.cloud.sandboxes("CheckStatusFunction"):
        if sandbox.busy:
            sandbox.kill()
