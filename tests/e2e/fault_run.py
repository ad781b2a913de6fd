"""Plays every cell of the fault table on one installation, and tells where each update ended up."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from arcanna_metrics.runs.completion import is_newer
from arcanna_metrics.times import from_iso
from tests.arcanna.access import API_KEY, KeyInfo
from tests.arcanna.alerts import InMemoryAlerts
from tests.arcanna.faults import Fault
from tests.arcanna.platform import SHORT, Job, Recompute
from tests.arcanna.server import ArcannaServer
from tests.e2e.alone import BUILD, messages, own_installation, settle, subscribed
from tests.e2e.conftest import JOB
from tests.e2e.fault_table import CELLS, RETRIES, TRIGGER_TIMEOUT, Cell, dead, told
from tests.e2e.scene import Scene, long_under_way, once
from tests.harness import Installation, wait_for
from tests.local_cloud import ApiFault

PARAMETERS = {
    "MaximumRecomputes": "0",  # all cells are played at once
    "RetryAttempts": str(RETRIES),
    "StartGraceSeconds": "7",
    "RunDeadlineSeconds": "15",
    "GiveUpSeconds": "10",
}
TIMEOUTS = {120: TRIGGER_TIMEOUT, 60: 8}
"""Seconds of the trigger and the check: what was killed is tried again when these are over."""

VISIBILITY = TRIGGER_TIMEOUT + 8
"""Seconds until the messages of a killed invocation come back: as in the template, later than its lease."""


@dataclass(frozen=True)
class Observation:
    """What became of a cell's update, and every rule that was broken on the way.

    `ends`: "recomputed" (completed, released, and asked for after the update), "told: <reason>" (outcome
    event and notification), "event only: ...", "notice only: ...", "dead letter: <reason>".
    """

    ends: tuple[str, ...]
    asks: int
    violations: tuple[str, ...]
    seconds: float
    """From the last update to the end of the last execution; 0 without one."""


def observe() -> dict[str, Observation]:
    """The observation of every cell, by name, and of what follows the cells."""
    names = [cell.name for cell in CELLS]
    models = {name: _model(n) for n, name in enumerate([*names, *AFTERMATH])}
    jobs = {JOB: Job(name="security-alerts", models=tuple(models.values()))}
    arcanna = ArcannaServer(jobs, InMemoryAlerts(), behaviour=SHORT)
    with ExitStack() as platform:
        platform.enter_context(arcanna)
        with own_installation("faults", arcanna, PARAMETERS, TIMEOUTS) as here:
            here.cloud.client("sqs").set_queue_attributes(
                QueueUrl=here.cloud.outputs["UpdatesQueueUrl"],
                Attributes={"VisibilityTimeout": str(VISIBILITY)},
            )
            queues = subscribed(here, "faults")
            scenes = {name: Scene(here, model) for name, model in models.items()}
            for scene in scenes.values():  # nobody's metrics are new: a baseline of null proves too little
                arcanna.external_recompute(JOB, scene.model)
            wait_for("theirs", lambda: all(r.state == "completed" for r in arcanna.recomputes()), 60)
            arcanna.add_fault(Fault("metrics", scenes[REDRIVEN].model, times=None, status=401))
            scenes[REDRIVEN].update()
            missed = _play([(cell, scenes[cell.name]) for cell in CELLS])
            _with_a_rotated_key(here, scenes)
            _with_the_platform_down(here, scenes, platform)
            found = _observations(here, scenes, *queues)
            return found | {
                name: replace(found[name], violations=(*found[name].violations, "the fault did not strike"))
                for name in missed
            }


def _model(number: int) -> str:
    return f"generic-1-{JOB}-model-{1747385873 + number}.hdf5"


# --- The cells -------------------------------------------------------------------------------------------


def _play(cells: Sequence[tuple[Cell, Scene]]) -> list[str]:
    """Plays all cells until nothing moves. Returns the names of those whose fault did not strike."""
    here = cells[0][1].here
    faults = {cell.name: _prepare(cell, scene) for cell, scene in cells}
    for cell, scene in cells:
        if cell.apart:
            cell.play(scene)
            wait_for(f"{cell.name} to strike", partial(_one_struck, faults[cell.name]), 60)
    # What people do in the course of a run must meet it, so it comes while the trigger has time for them.
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda each: each[0].play(each[1]), [c for c in cells if c[0].play is not once]))
    for cell, scene in cells:
        if cell.play is once and not cell.apart:
            cell.play(scene)
    settle(here, 150)
    return [cell.name for cell, scene in cells if not _has_struck(cell, scene, faults[cell.name])]


def _has_struck(cell: Cell, scene: Scene, faults: Sequence[ApiFault]) -> bool:
    met = [r for r in scene.here.arcanna.requests if r.model_id == scene.model and r.fault]
    return all(fault.hits for fault in faults) and bool(met or not cell.platform)


def _one_struck(faults: Sequence[ApiFault]) -> bool:
    return any(fault.hits for fault in faults)


def _prepare(cell: Cell, scene: Scene) -> list[ApiFault]:
    here = scene.here
    if cell.behaviour:
        here.arcanna.set_behaviour(cell.behaviour, scene.model)
    if cell.platform:
        here.arcanna.add_fault(replace(cell.platform, model_id=scene.model))
    return [here.cloud.inject(fault(scene)) for fault in cell.aws]


# --- What concerns all models at once, after the cells ----------------------------------------------------

ROTATED, REDRIVEN, DOWN, DOWN_LATER = (
    "key rotated @ whole run",
    "401 until given up, then re-driven @ baseline",
    "connection refused for ever @ baseline",
    "connection refused for ever @ first check",
)
AFTERMATH: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    ROTATED: (("recomputed",), (1,)),
    REDRIVEN: (("recomputed",), (1,)),
    DOWN: ((dead("PlatformUnavailable"),), (0,)),
    DOWN_LATER: ((told("PlatformUnavailable"),), (1,)),
}
"""Ends and asks, as in a cell."""

NEW_KEY = API_KEY + "-2"
OTHERS = "somebody else"
"""As the reference server names them."""


def _with_a_rotated_key(here: Installation, scenes: Mapping[str, Scene]) -> None:
    """The key changes at the platform first, and in the secret only when an update has met the old one."""
    here.arcanna.set_api_keys({NEW_KEY: KeyInfo()})
    scenes[ROTATED].update()
    wait_for("the old key's refusal", lambda: scenes[ROTATED].requests("metrics"), 60)
    secret = here.cloud.outputs["ApiKeySecretArn"]
    here.cloud.client("secretsmanager").put_secret_value(SecretId=secret, SecretString=NEW_KEY)
    here.arcanna.clear_faults()
    _redrive(here, scenes[REDRIVEN].model)
    settle(here, 150)


def _redrive(here: Installation, model: str) -> None:
    """Puts the model's dead letters back into the updates queue, as a re-drive does."""
    sqs, url = here.cloud.client("sqs"), here.cloud.outputs["DeadLetterQueueUrl"]
    for letter in messages(here, url, hidden_for=1):
        if model in letter["Body"]:
            sqs.send_message(QueueUrl=here.cloud.outputs["UpdatesQueueUrl"], MessageBody=letter["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])


def _with_the_platform_down(here: Installation, scenes: Mapping[str, Scene], platform: ExitStack) -> None:
    """It goes down during a run, and while it is down an update comes."""
    long_under_way(scenes[DOWN_LATER])
    platform.close()
    scenes[DOWN].update()
    settle(here, 150)


# --- What is seen of it -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """Everything that concerns any model: executions, outcome events, notifications, dead letters."""

    executions: Sequence[dict[str, Any]]
    events: Sequence[dict[str, Any]]
    notices: Sequence[str]
    letters: Sequence[dict[str, Any]]

    def of(self, model: str) -> "_Seen":
        return _Seen(
            [e for e in self.executions if model in e["input"]],
            [e for e in self.events if e["detail"]["model_id"] == model],
            [n for n in self.notices if model in n],
            [m for m in self.letters if model in m["Body"]],
        )


def _observations(
    here: Installation, scenes: Mapping[str, Scene], events_url: str, notices_url: str
) -> dict[str, Observation]:
    everything = _Seen(
        here.cloud.executions(),
        [json.loads(message["Body"]) for message in messages(here, events_url)],
        [json.loads(message["Body"])["Message"] for message in messages(here, notices_url)],
        messages(here, here.cloud.outputs["DeadLetterQueueUrl"]),
    )
    return {name: _observation(scene, everything.of(scene.model)) for name, scene in scenes.items()}


def _observation(scene: Scene, seen: _Seen) -> Observation:
    recomputes = scene.here.arcanna.recomputes(scene.model)
    entry = scene.entry()
    asks = [ask.at for recompute in recomputes for ask in recompute.asks if ask.by != OTHERS]
    ended = max((e["stopDate"].timestamp() for e in seen.executions), default=scene.updated_at)
    return Observation(
        tuple(sorted([*_recomputed(scene, entry, recomputes), *_failures(seen)])),
        len(asks),
        tuple(_violations(entry, recomputes, seen)),
        round(ended - scene.updated_at, 1),
    )


def _recomputed(scene: Scene, entry: Mapping[str, str], recomputes: Sequence[Recompute]) -> Iterator[str]:
    covered = entry.get("covered_until")
    if covered and from_iso(covered) > scene.updated_at and entry["last_outcome"] == "completed":
        asked_later = (
            any(ask.at > scene.updated_at for ask in recompute.asks if ask.by != OTHERS)
            for recompute in recomputes
            if recompute.state == "completed"
        )
        yield "recomputed" if any(asked_later) else "taken for recomputed"


def _failures(seen: _Seen) -> Iterator[str]:
    """Each once, however often it was delivered."""
    failed = [e["detail"] for e in seen.events if e["detail-type"] == "Recompute Failed"]
    events = Counter(reason for _, reason in {(d["execution"], d["reason"]) for d in failed})
    notices = Counter(text.partition("Why: ")[2].partition("\n")[0] for text in set(seen.notices))
    yield from map(told, (events & notices).elements())
    yield from (f"event only: {reason}" for reason in (events - notices).elements())
    yield from (f"notice only: {reason}" for reason in (notices - events).elements())
    for letter in seen.letters:
        yield dead(letter.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "none given"))


def _violations(entry: Mapping[str, str], recomputes: Sequence[Recompute], seen: _Seen) -> Iterator[str]:
    if "run_id" in entry:
        yield "the model is still held"
    runs = [e for e in seen.executions if e.get("error") != "Superseded"]
    if any(later["startDate"] < earlier["stopDate"] for earlier, later in pairwise(runs)):
        yield "two runs at once"
    for detail in (e["detail"] for e in seen.events if e["detail-type"] == "Recompute Completed"):
        stamps = [detail[when]["last_recomputed_timestamp"] for when in ("after", "before")]
        begun = [r for r in recomputes if (r.started_at or 0.0) >= from_iso(detail["requested_at"])]
        if not is_newer(*stamps) or not any(r.state == "completed" for r in begun):
            yield f"run {detail['run_id']} was announced as completed and was not"


# --- The report -------------------------------------------------------------------------------------------


def expectations() -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Ends and asks of every cell and of what follows them, by name."""
    return {cell.name: (tuple(sorted(cell.ends)), cell.asks) for cell in CELLS} | dict(AFTERMATH)


def write_report(observations: Mapping[str, Observation]) -> None:
    """build/faults.json, and build/faults.md with a row for each fault and a column for each stage."""
    (BUILD / "faults.json").write_text(
        json.dumps({name: asdict(observation) for name, observation in observations.items()}, indent=2)
    )
    rows: dict[str, list[str]] = {}
    for name, seen in observations.items():
        fault, _, stage = name.partition(" @ ")
        ending = ", ".join([*seen.ends, *seen.violations]) or "lost"
        rows.setdefault(fault, []).append(f"{stage}: {ending} ({seen.asks} asked, {seen.seconds:g} s)")
    lines = [f"| {fault} | {'<br>'.join(cells)} |" for fault, cells in rows.items()]
    heading = [
        f"{len(observations)} faults at their stages: where the update ended up, how often the platform was",
        "asked to recompute, and the seconds from the last update to the end of the last run.",
        "",
        "| fault | stage: outcome |",
        "| --- | --- |",
    ]
    (BUILD / "faults.md").write_text("\n".join([*heading, *lines, ""]))
