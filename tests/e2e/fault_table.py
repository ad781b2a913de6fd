"""Faults and the stages at which they strike, each with where the update must end up.

Every cell has a model of its own. `fault_run.observe` plays all of them at once on one installation.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate

from arcanna_metrics.trigger import RESERVE
from tests.arcanna.faults import ERROR_MESSAGE_BODY, REASON_BODY, Fault
from tests.arcanna.platform import FOR_EVER, SHORT, Behaviour
from tests.e2e.scene import (
    Scene,
    aborted,
    aborted_with_an_update_waiting,
    busy_with_anothers,
    check_killed,
    model_removed,
    once,
    update_during_the_run,
)
from tests.local_cloud import ApiFault, Call

BASELINE, POST, FIRST_CHECK, LATER_CHECK = "baseline", "POST", "first check", "later check"
STAGES = (BASELINE, POST, FIRST_CHECK, LATER_CHECK)
WHOLE_RUN = "whole run"
RECOMPUTED = ("recomputed",)
LONG = Behaviour(delay=0.2, looks=1)
"""A check finds it going on."""

FAILING = Behaviour(delay=0.2, looks=1, fails=True)
EITHER = (1, 2)
"""Of asks: the execution began although nobody heard of it, and holds the model if it is the first to."""

RETRIES = 3
"""RetryAttempts of the installation: the workflow gives up after one more."""

TRIGGER_TIMEOUT = int(RESERVE) + 10
"""Seconds, of the installation: the first ten of them are for handling updates."""

AwsFault = Callable[[Scene], ApiFault]


@dataclass(frozen=True)
class Cell:
    """A fault at a stage, how it is brought about, and where its update must end up.

    `ends` are Observation.ends, `asks` how often the platform is asked to recompute.
    """

    fault: str
    stage: str
    ends: tuple[str, ...] = RECOMPUTED
    asks: tuple[int, ...] = (1,)
    platform: Fault | None = None
    aws: tuple[AwsFault, ...] = ()
    behaviour: Behaviour | None = None
    play: Callable[[Scene], None] = once
    apart: bool = False
    """Whether it needs a batch of its own, because it ends the trigger's whole invocation."""

    @property
    def name(self) -> str:
        return f"{self.fault} @ {self.stage}"


def told(reason: str) -> str:
    """An outcome event and a notification."""
    return f"told: {reason}"


def dead(reason: str) -> str:
    """A message in the dead-letter queue."""
    return f"dead letter: {reason}"


# --- What the platform does ------------------------------------------------------------------------------


def _at(stage: str, fault: Fault) -> Fault:
    """The fault at that stage: each run reads metrics once before the POST, and then once a check."""
    if stage == POST:
        return replace(fault, endpoint="recompute")
    return replace(fault, endpoint="metrics", skip=(BASELINE, FIRST_CHECK, LATER_CHECK).index(stage))


PASSING = {
    "connection reset": Fault(drop="reset"),
    "connection closed": Fault(drop="close"),
    "body truncated": Fault(drop="truncate"),
    "429": Fault(status=429),
    "429, Retry-After in seconds": Fault(status=429, headers={"Retry-After": "1"}),
    "500": Fault(status=500),
    "502 with HTML": Fault(status=502, body="<html>Bad Gateway</html>"),
    "503": Fault(status=503),
    "504": Fault(status=504),
    "200 with HTML": Fault(status=200, body="<html>Log in</html>"),
    "200 with error_message": Fault(status=200, body=ERROR_MESSAGE_BODY),
    "200 with reason": Fault(status=200, body=REASON_BODY),
    "200 with a list": Fault(status=200, body=[]),
    "redirect": Fault(status=307, headers={"Location": "http://127.0.0.1:9/"}),
    "401": Fault(status=401),
    "403": Fault(status=403),
}
LASTING = {
    "503 for ever": (Fault(times=None, status=503), "PlatformUnavailable"),
    "429 for ever": (Fault(times=None, status=429, headers={"Retry-After": "1"}), "PlatformUnavailable"),
    "connection reset for ever": (Fault(times=None, drop="reset"), "PlatformUnavailable"),
    "200 with HTML for ever": (Fault(times=None, status=200, body="<html>Log in"), "UndocumentedAnswer"),
    "401 for ever": (Fault(times=None, status=401), "Unauthorised"),
}


def _of_the_platform() -> Iterator[Cell]:
    for stage in STAGES:
        behaviour = LONG if stage == LATER_CHECK else None
        date = formatdate(time.time() + 15, usegmt=True)
        dated = Fault(status=429, headers={"Retry-After": date})
        for name, fault in {**PASSING, "429, Retry-After as a date": dated}.items():
            asks = (2,) if (name, stage) == ("body truncated", POST) else (1,)  # it took effect
            yield Cell(name, stage, asks=asks, platform=_at(stage, fault), behaviour=behaviour)
        for name, (fault, reason) in LASTING.items():
            ended = told(reason) if "check" in stage else dead(reason)
            yield Cell(
                name,
                stage,
                (ended,),
                asks=(int("check" in stage),),
                platform=_at(stage, fault),
                behaviour=FOR_EVER if "check" in stage else None,
            )
        refused = (told("Rejected"),) if "check" in stage else (dead("Rejected"), told("Rejected"))
        for status in (404, 422):
            yield Cell(
                str(status),
                stage,
                refused,
                asks=(int("check" in stage),),
                platform=_at(stage, Fault(status=status)),
                behaviour=behaviour,
            )
        yield Cell(
            "slow, past the time-out",
            stage,
            asks=(2,) if stage == POST else (1,),  # it takes effect when nobody waits for it any more
            platform=_at(stage, Fault(slow=11)),
            behaviour=behaviour,
        )
    yield from _of_metrics()
    yield from _of_the_request()
    yield from _of_the_recompute()


def _of_metrics() -> Iterator[Cell]:
    for stage in (BASELINE, FIRST_CHECK, LATER_CHECK):
        behaviour = LONG if stage == LATER_CHECK else None
        flag, timestamp = "is_recomputing_metrics", "last_recomputed_timestamp"
        for name, fault in {
            "fields missing": Fault(without=(flag, timestamp)),
            "fields null": Fault(fields={flag: None, timestamp: None}),
            "fields of another type": Fault(fields={flag: "no", timestamp: 7}),
            "another model's metrics": Fault(fields={"model_id": "generic-1-1234-model-1.hdf5"}),
        }.items():
            yield Cell(name, stage, platform=_at(stage, fault), behaviour=behaviour)


def _of_the_request() -> Iterator[Cell]:
    took_effect = Fault(endpoint="recompute", after_effect=True)
    for name, fault in {
        "unknown status word": replace(took_effect, fields={"status": "splendid"}),
        "fields missing": replace(took_effect, without=("status",)),
        "fields null": replace(took_effect, fields={"status": None}),
        "500 after its effect": replace(took_effect, status=500),
        "connection reset after its effect": replace(took_effect, drop="reset"),
    }.items():
        yield Cell(name, POST, asks=(2,), platform=fault)
    word = Fault(endpoint="recompute", fields={"status": "failed"})
    yield Cell("status failed", POST, (told("RequestFailed"),), platform=word)
    word = Fault(endpoint="recompute", fields={"status": "completed"})
    yield Cell("status completed at once", POST, platform=word)


def _of_the_recompute() -> Iterator[Cell]:
    def cell(
        fault: str,
        behaviour: Behaviour,
        *ends: str,
        asks: tuple[int, ...] = (1,),
        play: Callable[[Scene], None] = once,
    ) -> Cell:
        return Cell(fault, WHOLE_RUN, ends or RECOMPUTED, asks, behaviour=behaviour, play=play)

    yield cell("no fault", SHORT)
    yield cell("stays queued for some polls", Behaviour(delay=3.5))
    yield cell("never starts", Behaviour(never_starts=True), told("NeverStarted"))
    yield cell("fails", FAILING, told("NoNewResult"))
    yield cell("flag changes before the timestamp", Behaviour(duration=1.5, timestamp_lag=2.0))
    yield cell("timestamp changes before the flag", Behaviour(duration=1.5, flag_lag=2.0))
    yield cell("outlives the deadline", FOR_EVER, told("DeadlinePassed"))
    yield cell("busy with another's recompute", replace(LONG, looks=2), play=busy_with_anothers)
    yield cell(
        "busy with another's for ever", FOR_EVER, dead("PlatformBusy"), asks=(0,), play=busy_with_anothers
    )
    yield cell("model removed", FOR_EVER, told("Rejected"), play=model_removed)
    yield cell("aborted by an operator", FOR_EVER, told("ABORTED"), play=aborted)
    yield cell(
        "aborted, with an update waiting",
        FOR_EVER,
        "recomputed",
        told("ABORTED"),
        asks=(2,),
        play=aborted_with_an_update_waiting,
    )


# --- What AWS does ---------------------------------------------------------------------------------------

CLAIM, HOLD, RELEASE = ":forget", "lease_expires_at = :until", "last_outcome"
GIVE_BACK, PENDING = '"SET pending_at', '"SET pending_updates'
TRIGGER, WORKFLOW = "TriggerRecomputeFunctionRole", "RecomputeWorkflowRole"
DENIED = "AccessDeniedException"
"""An error that no SDK retries by itself."""


def aws(
    role: str,
    service: str,
    operation: str,
    part: str = "",
    *,
    fault: ApiFault = ApiFault("", "", DENIED, 400),  # noqa: B008  # a template: it is only copied
) -> AwsFault:
    """The fault in the role's calls that have the scene's model and that part in their parameters."""

    def of(scene: Scene) -> ApiFault:
        def concerns(call: Call) -> bool:
            return scene.model in (text := scene.text_of(call)) and part in text

        return replace(
            fault,
            service=service,
            operation=operation,
            role=scene.here.cloud.physical_id(role),
            where=concerns,
            hits=[],
        )

    return of


def _refused(times: int) -> ApiFault:
    return ApiFault("", "", DENIED, 400, times)


THROTTLED = ApiFault("", "", "ThrottlingException", 400, times=2)
KILLED_BEFORE = ApiFault("", "", kill=True)
KILLED_AFTER = ApiFault("", "", kill=True, when="after")
UNANSWERED = ApiFault("", "", DENIED, 400, when="after")


def _of_aws() -> Iterator[Cell]:
    claim = aws(TRIGGER, "dynamodb", "UpdateItem", CLAIM)
    start = aws(TRIGGER, "stepfunctions", "StartExecution")
    give_back = aws(TRIGGER, "dynamodb", "UpdateItem", GIVE_BACK)
    # Not what goes back into the updates queue by the same call, when the invocation's time is over.
    send = aws(TRIGGER, "sqs", "SendMessageBatch", "MessageAttributes")
    outage = Fault(endpoint="metrics", status=503)

    def throttled(role: str, service: str, operation: str, part: str = "") -> AwsFault:
        return aws(role, service, operation, part, fault=THROTTLED)

    yield Cell("throttled", "claim", aws=(throttled(TRIGGER, "dynamodb", "UpdateItem", CLAIM),))
    yield Cell("refused", "claim", aws=(claim,))
    yield Cell("no answer, after its effect", "claim", aws=(_with(claim, UNANSWERED),))
    yield Cell("throttled", "StartExecution", aws=(throttled(TRIGGER, "stepfunctions", "StartExecution"),))
    yield Cell("refused", "StartExecution", asks=(2,), aws=(start,))
    yield Cell("no answer, after its effect", "StartExecution", asks=EITHER, aws=(_with(start, UNANSWERED),))
    yield Cell("StartExecution refused", "give back", asks=(2,), aws=(start, give_back))
    yield Cell("platform down, ledger too", "give back", platform=outage, aws=(give_back,))
    again = aws(TRIGGER, "sqs", "SendMessage", r"waiting_since\": \"")  # it may have settled
    yield Cell("refused", "put off", platform=outage, aws=(again,))
    yield Cell(
        "refused",
        "dead letter",
        (dead("Rejected"), told("Rejected"), told("Rejected")),
        asks=(0,),
        platform=Fault(endpoint="metrics", status=404, times=2),
        aws=(send,),
    )
    hang = ApiFault("", "", delay=TRIGGER_TIMEOUT + 5.0)
    yield Cell("function times out", "StartExecution", asks=EITHER, aws=(_with(start, hang),), apart=True)
    for name, fault in (("killed before", KILLED_BEFORE), ("killed after", KILLED_AFTER)):
        yield Cell(name, "claim", aws=(_with(claim, fault),), apart=True)
        asks = (2,) if fault is KILLED_BEFORE else (1,)
        yield Cell(name, "StartExecution", asks=asks, aws=(_with(start, fault),), apart=True)
    yield Cell("killed", FIRST_CHECK, platform=Fault("metrics", skip=1, slow=2.0), play=check_killed)
    yield from _of_the_workflow()


def _with(fault: AwsFault, how: ApiFault) -> AwsFault:
    """The same calls, failing in another way."""

    def of(scene: Scene) -> ApiFault:
        at = fault(scene)
        return replace(how, service=at.service, operation=at.operation, role=at.role, where=at.where, hits=[])

    return of


def _of_the_workflow() -> Iterator[Cell]:
    hold = aws(WORKFLOW, "dynamodb", "UpdateItem", HOLD)
    release = aws(WORKFLOW, "dynamodb", "UpdateItem", RELEASE)
    publish = aws(WORKFLOW, "events", "PutEvents")
    notify = aws(WORKFLOW, "sns", "Publish")
    ask_again = aws(WORKFLOW, "sqs", "SendMessage")
    pending = aws(TRIGGER, "dynamodb", "UpdateItem", PENDING)
    for name, fault in (
        ("refused twice", _refused(2)),
        ("refused until given up", _refused(RETRIES + 1)),
        ("no answer, after its effect", UNANSWERED),
    ):
        lasting = fault.times > RETRIES
        yield Cell(
            name,
            "hold",
            (told("DynamoDB.AccessDeniedException"),) if lasting else RECOMPUTED,
            aws=(_with(hold, fault),),
        )
        yield Cell(
            name,
            "release",
            (told("FAILED"),) if lasting else RECOMPUTED,
            aws=(_with(release, fault),),
        )
        yield Cell(name, "publish", aws=(_with(publish, fault),))
        by_notice = (f"notice only: {'NoNewResult'}",)
        yield Cell(
            name,
            "publish a failure",
            by_notice if lasting else (told("NoNewResult"),),
            behaviour=FAILING,
            aws=(_with(publish, fault),),
        )
        by_event = (f"event only: {'NoNewResult'}",)
        yield Cell(
            name,
            "notify",
            by_event if lasting else (told("NoNewResult"),),
            behaviour=FAILING,
            aws=(_with(notify, fault),),
        )
        for stage, at in (("ask again", ask_again), ("mark pending", pending)):
            if at is pending and lasting:
                continue  # the trigger has no retries to exhaust: the queue has
            yield Cell(
                name,
                stage,
                asks=(2,),
                play=update_during_the_run,
                aws=(_with(at, fault),),
            )


CELLS: tuple[Cell, ...] = (*_of_the_platform(), *_of_aws())
