"""trigger_recompute: records training-data updates, and starts recompute runs."""

import gc

gc.disable()  # modules that load are not garbage, and collecting would take a tenth of the start-up

import os
import time
from functools import cache
from typing import TYPE_CHECKING, Any

from arcanna_metrics.aws import client
from arcanna_metrics.controller.holding import hold, release, target_of
from arcanna_metrics.controller.services import Services
from arcanna_metrics.intake.queues import Queues
from arcanna_metrics.observability import logger, metrics
from arcanna_metrics.platform.connect import Environment, arcanna, http_client, parameters
from arcanna_metrics.platform.http import BoundedClient
from arcanna_metrics.preflight import look_up, preflight
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.runs.check import not_checked
from arcanna_metrics.runs.outcome import Origin
from arcanna_metrics.settings_source import SettingsSource
from arcanna_metrics.targets import Target
from arcanna_metrics.trigger import Trigger
from arcanna_metrics.workflow import Workflow

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Built now, because Lambda gives a start a whole vCPU, and an invocation less than a third of one.
client("dynamodb")
client("stepfunctions")

gc.freeze()
gc.enable()


@cache
def services() -> Services:
    """Built at the first invocation, once per execution environment.

    Raises ConfigurationError.
    """
    env = os.environ
    ledger = Ledger(client("dynamodb"), env["LEDGER_TABLE"], time.time)
    workflow = Workflow(client("stepfunctions"), env["WORKFLOW_ARN"])
    http, bus = http_client(env), env["EVENT_BUS_NAME"]
    settings = settings_source(env, http)
    return Services(ledger, workflow, arcanna(env, http), settings, bus, time.time)


@cache
def trigger() -> Trigger:
    """Built when a message or event first needs it. Raises ConfigurationError."""
    updates, dead_letters = os.environ["UPDATES_QUEUE_URL"], os.environ["DEAD_LETTER_QUEUE_URL"]
    return Trigger(services(), lambda: Queues(client("sqs"), updates, dead_letters), time.sleep)


def settings_source(env: Environment, http: BoundedClient) -> SettingsSource:
    """The settings of the stack's SSM parameter."""
    ssm, lag = parameters(env, http), float(env["VISIBILITY_LAG_SECONDS"])
    return SettingsSource(ssm, env["SETTINGS_PARAMETER"], lag, time.time)


@logger.inject_lambda_context(clear_state=True)
@metrics.log_metrics
def handler(event: dict[str, Any], context: "LambdaContext") -> dict[str, Any]:
    """Handles an SQS batch, a call of the workflow, or any single event that a batch may hold.

    For a batch it returns the messages to deliver again. `{"preflight": true}` checks everything that a
    recompute needs. `{"preflight": {"job_id": ..., "model_id": ...}}` returns what Arcanna knows about that
    target.
    """

    def remaining() -> float:
        return context.get_remaining_time_in_millis() / 1000

    match event:
        case {"Records": [{"eventSource": "aws:sqs"}, *_] as records}:
            again = trigger().handle_batch(records, remaining)
            return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in again]}
        case {"hold": {"run": run, "number": int(number)}}:
            return {"held": hold(services(), run, number)}
        case {"not_checked": {"execution": execution, "run": run, "check": last}}:
            return dict(not_checked(run, last, Origin(execution, services().event_bus, time.time())))
        case {"release": {"run": run, "number": int(number), "result": result}}:
            released = release(services(), run, number, result)
            trigger().look(remaining, [target_of(run)])  # so that the next target gets the slot
            return {"released": released}
        # Nothing is cached for these two, so the next call sees every fix.
        case {"preflight": True}:
            env, http = os.environ, http_client(os.environ)
            findings = preflight(arcanna(env, http), settings_source(env, http).newest, remaining)
            return {"findings": [finding._asdict() for finding in findings]}
        case {"preflight": {"job_id": job_id, **rest}}:
            target, http = Target.of(job_id, rest.get("model_id")), http_client(os.environ)
            return look_up(arcanna(os.environ, http), target)._asdict()
        case _:
            return {"recorded": trigger().handle_event(event, remaining)}
