"""Faults and the stages at which they strike, each with where the update must end up.

Every cell has its own model. `fault_run.observe` plays all of them at once on one installation.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate

from tests.e2e.scene import CHECK, Scene, send
from tests.e2e.steps import (
    CLAIM,
    GIVE_BACK,
    HOLD,
    INVOKE_CHECK,
    KILLED_AFTER,
    KILLED_BEFORE,
    LETTER,
    NOTIFY,
    PUBLISH,
    READ,
    RECORD,
    RELEASE,
    SLOT,
    START,
    UNANSWERED,
    Step,
    refused,
    throttled,
)
from tests.support.arcanna.faults import ERROR_MESSAGE_BODY, Fault
from tests.support.arcanna.platform import FOR_EVER, SHORT, Behaviour
from tests.support.local_cloud import ApiFault
from tests.support.waiting import eventually

BASELINE, POST, FIRST_CHECK, LATER_CHECK = "baseline", "POST", "first check", "later check"
CHECKS = (FIRST_CHECK, LATER_CHECK)
WHOLE_RUN = "whole run"
RECOMPUTED = ("recomputed",)
LONG = Behaviour(delay=0.2, looks=1)
"""A check sees it recomputing."""

FAILING = Behaviour(delay=0.2, looks=1, fails=True)
EITHER = (1, 2)
"""Numbers of requests: an execution that seemed not to start may still hold the target in time."""

TRIES = 4
"""Attempts of a step of the workflow."""


@dataclass(frozen=True)
class Cell:
    """A fault at a stage: how it is caused, and where its update must end up.

    `ends` are Observation.ends, `asks` how often the platform is asked to recompute.
    """

    fault: str
    stage: str
    ends: tuple[str, ...] = RECOMPUTED
    asks: tuple[int, ...] = (1,)
    platform: Fault | None = None
    aws: tuple[tuple[Step, ApiFault], ...] = ()
    behaviour: Behaviour | None = None
    play: Callable[[Scene], None] = Scene.request
    claim_expires: bool = False  # after the fault has struck, so that a look takes the claim back

    @property
    def name(self) -> str:
        return f"{self.fault} @ {self.stage}"


def told(reason: str) -> str:
    """An outcome event and a notification."""
    return f"told: {reason}"


def dead(reason: str) -> str:
    """A message in the dead-letter queue."""
    return f"dead letter: {reason}"


# --- Answers of the platform -----------------------------------------------------------------------------


def _at(stage: str, fault: Fault) -> Fault:
    """The fault at that stage. Each run reads metrics once before the POST, then once per check."""
    if stage == POST:
        return replace(fault, endpoint="recompute")
    return replace(fault, endpoint="metrics", skip=(BASELINE, *CHECKS).index(stage))


ANYWHERE = {
    "connection reset": Fault(drop="reset"),
    "429, Retry-After in seconds": Fault(status=429, headers={"Retry-After": "1"}),
    "503": Fault(status=503),
    "502 with HTML": Fault(status=502, body="<html>Bad Gateway</html>"),
    "200 with error_message": Fault(status=200, body=ERROR_MESSAGE_BODY),
    "redirect": Fault(status=307, headers={"Location": "http://127.0.0.1:9/"}),
    "401": Fault(status=401),
}
"""Faults that pass and had no effect."""

METRICS = {
    "body truncated": Fault(drop="truncate"),
    "200 with HTML": Fault(status=200, body="<html>Log in</html>"),
    "200 with a list": Fault(status=200, body=[]),
    "fields missing": Fault(without=("is_recomputing_metrics", "last_recomputed_timestamp")),
    "fields of another type": Fault(fields={"is_recomputing_metrics": "no", "last_recomputed_timestamp": 7}),
    "another model's metrics": Fault(fields={"model_id": "generic-1-1234-model-1.hdf5"}),
}
"""The same, only for answers with metrics."""

EFFECT_UNKNOWN = {
    "500 after its effect": Fault(status=500, after_effect=True),
    "connection reset after its effect": Fault(drop="reset", after_effect=True),
    "body truncated": Fault(drop="truncate"),
    "slow, past the time-out": Fault(slow=11),
}
"""Faults of a POST that took effect. It is repeated after the start grace."""

ODDLY_ACCEPTED = {
    "200 with HTML": Fault(status=200, body="<html>Thank you"),
    "200 with a list": Fault(status=200, body=[]),
    "202 without a body": Fault(status=202, body=""),
    "a header that is not ASCII": Fault(status=200, body={}, headers={"X-Owner": "Z\u00fcrich"}),
    "unknown status word": Fault(fields={"status": "splendid"}),
    "fields missing": Fault(without=("status", "requested_at")),
    "fields null": Fault(fields={"status": None, "requested_at": None}),
    "status completed at once": Fault(fields={"status": "completed"}),
}
"""Answers to a POST that took effect. It is not repeated, and its run is followed."""


def _of_the_platform() -> Iterator[Cell]:
    for stage in (BASELINE, POST, *CHECKS):
        behaviour = LONG if stage == LATER_CHECK else None
        dated = Fault(status=429, headers={"Retry-After": formatdate(time.time() + 15, usegmt=True)})
        passing = ANYWHERE if stage == POST else {**ANYWHERE, **METRICS}
        for name, fault in {**passing, "429, Retry-After as a date": dated}.items():
            yield Cell(name, stage, platform=_at(stage, fault), behaviour=behaviour)
        asked = (int(stage in CHECKS),)
        for status in (404, 422):
            fault = _at(stage, Fault(status=status))
            yield Cell(str(status), stage, (told("Rejected"),), asked, fault, behaviour=behaviour)
    for name, fault in EFFECT_UNKNOWN.items():
        yield Cell(name, POST, asks=(2,), platform=_at(POST, fault))
    for name, fault in ODDLY_ACCEPTED.items():
        yield Cell(name, POST, platform=_at(POST, replace(fault, after_effect=True)))
    failed = Fault(endpoint="recompute", fields={"status": "failed"})
    yield Cell("status failed", POST, (told("RequestFailed"),), platform=failed)
    yield Cell("slow, past the time-out", FIRST_CHECK, platform=_at(FIRST_CHECK, Fault(slow=11)))
    for name in ("503", "401", "200 with error_message"):
        fault = replace(ANYWHERE[name], times=TRIES)
        yield Cell(f"{name}, at {TRIES} attempts", BASELINE, platform=_at(BASELINE, fault))
        yield Cell(f"{name}, at {TRIES} checks", FIRST_CHECK, platform=_at(FIRST_CHECK, fault))


# --- Ends of the recompute -------------------------------------------------------------------------------


def _model_removed(scene: Scene) -> None:
    scene.long_under_way()
    scene.here.arcanna.remove_model(int(scene.job_id), scene.model)


def _busy_with_anothers(scene: Scene) -> None:
    """How long the fault lasts: until it has struck the trigger."""
    scene.recompute_by_somebody_else()
    eventually("the other's recompute", lambda: scene.served()["is_recomputing_metrics"])
    scene.request()


def _aborted(scene: Scene) -> None:
    scene.long_under_way()
    scene.stop_execution()


def _aborted_and_goes_on(scene: Scene) -> None:
    _aborted(scene)
    scene.until("its resumption", lambda entry: entry.claim and entry.claim.number)
    scene.behaves(SHORT)


def _aborted_with_an_update_waiting(scene: Scene) -> None:
    scene.long_under_way()
    scene.try_to_invoke()
    scene.until_waiting()
    scene.stop_execution()
    scene.behaves(SHORT)


def _of_the_recompute() -> Iterator[Cell]:
    def cell(
        fault: str,
        behaviour: Behaviour,
        *ends: str,
        asks: int = 1,
        play: Callable[[Scene], None] = Scene.request,
    ) -> Cell:
        return Cell(fault, WHOLE_RUN, ends or RECOMPUTED, (asks,), behaviour=behaviour, play=play)

    yield cell("no fault", SHORT)
    yield cell("answers as odd as some services'", replace(SHORT, odd=True))
    yield cell("stays queued for some checks", Behaviour(delay=3.5))
    yield cell("never starts", Behaviour(never_starts=True), told("NeverStarted"))
    yield cell("fails", FAILING, told("NoNewResult"))
    yield cell("flag changes before the timestamp", Behaviour(duration=1.5, timestamp_lag=2.0))
    yield cell("timestamp changes before the flag", Behaviour(duration=1.5, flag_lag=2.0))
    yield cell("outlives the deadline", FOR_EVER, told("DeadlinePassed"))
    yield cell("busy with another's recompute", replace(LONG, looks=2), play=_busy_with_anothers)
    yield cell("model removed", FOR_EVER, told("Rejected"), play=_model_removed)
    yield cell("aborted by an operator, goes on", FOR_EVER, play=_aborted_and_goes_on)
    yield cell("aborted by an operator, outlives it", FOR_EVER, told("DeadlinePassed"), play=_aborted)
    yield cell("aborted, with an update waiting", FOR_EVER, asks=2, play=_aborted_with_an_update_waiting)


# --- Faults of AWS ---------------------------------------------------------------------------------------

STEPS = {
    "read": READ,
    "record": RECORD,
    "claim": CLAIM,
    "slot": SLOT,
    "StartExecution": START,
    "hold": HOLD,
    "release": RELEASE,
}
"""The trigger's steps, in the order of a run."""

WAYS_TO_FAIL = {
    "throttled": throttled(),
    "refused": refused(),
    "no answer, after its effect": UNANSWERED,
    "killed before": KILLED_BEFORE,
    "killed after": KILLED_AFTER,
}
ASKS = {
    ("refused", "StartExecution"): (2,),
    ("no answer, after its effect", "StartExecution"): EITHER,
    ("killed before", "StartExecution"): (2,),
}
"""Stages after which the platform may be asked again, because the run that asked it died."""

ABANDONED = {
    ("no answer, after its effect", "claim"),
    ("killed after", "claim"),
    ("killed before", "slot"),
    ("killed after", "slot"),
    ("killed before", "StartExecution"),
}
"""Stages that leave a claim without an execution."""


def _of_the_trigger() -> Iterator[Cell]:
    for stage, step in STEPS.items():
        for name, how in WAYS_TO_FAIL.items():
            if stage == "read" and how in (UNANSWERED, KILLED_AFTER):
                continue  # a read has no effect
            place = (name, stage)
            yield Cell(
                *place, asks=ASKS.get(place, (1,)), aws=((step, how),), claim_expires=place in ABANDONED
            )
    at_all_tries = refused(TRIES)
    yield Cell("refused at all tries", "hold", aws=((HOLD, at_all_tries),))
    yield Cell("refused at all tries", "release", aws=((RELEASE, at_all_tries),))
    outage = Fault(endpoint="metrics", status=503)
    yield Cell(
        "platform down, ledger too", "give back", platform=outage, aws=((GIVE_BACK, refused()),),
        claim_expires=True,
    )  # fmt: skip
    yield Cell(
        "StartExecution refused, ledger too", "give back", asks=(2,),
        aws=((START, refused()), (GIVE_BACK, refused())), claim_expires=True,
    )  # fmt: skip
    yield Cell(
        "refused", "dead letter", (dead("BadInput"),), (0,), aws=((LETTER, refused()),), play=_misspelt
    )


def _misspelt(scene: Scene) -> None:
    send(scene.here, {"job_id": scene.job_id, "model": scene.model})


def _check_killed(scene: Scene) -> None:
    """Kills every check that is under way while the target's first one waits for its answer."""
    scene.request()
    eventually("the check", lambda: any(r.fault and r.status is None for r in scene.requests("metrics")))
    for sandbox in scene.here.cloud.sandboxes(CHECK):
        if sandbox.busy:
            sandbox.kill()


def _of_the_workflow() -> Iterator[Cell]:
    slow = Fault("metrics", skip=1, slow=2.0)
    yield Cell("killed", FIRST_CHECK, platform=slow, play=_check_killed)
    for name, how in (
        ("refused twice", refused(2)),
        ("refused at all tries", refused(TRIES)),
        ("no answer, after its effect", UNANSWERED),
    ):
        for_good = how.times == TRIES
        yield Cell(
            name,
            "invocation of the check",
            ("recomputed", told("NotChecked")) if for_good else RECOMPUTED,
            (2,) if for_good else (1,),
            aws=((INVOKE_CHECK, how),),
        )
        yield Cell(name, "publish", aws=((PUBLISH, how),))
        for stage, step, half in (
            ("publish a failure", PUBLISH, "notice only: NoNewResult"),
            ("notify", NOTIFY, "event only: NoNewResult"),
        ):
            ends = (half if for_good else told("NoNewResult"),)
            yield Cell(name, stage, ends, behaviour=FAILING, aws=((step, how),))


CELLS: tuple[Cell, ...] = (
    *_of_the_platform(),
    *_of_the_recompute(),
    *_of_the_trigger(),
    *_of_the_workflow(),
)
