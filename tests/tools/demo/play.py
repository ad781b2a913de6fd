"""The demo's three acts and their promises: a burst, corrections during a run, an outage of Arcanna."""

import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.support.arcanna.alerts import TYPICAL_ACCURACY, corrections, labelled_alerts
from tests.support.arcanna.faults import Fault
from tests.support.arcanna.platform import Behaviour, Job, Recompute
from tests.support.installation import Installation
from tests.support.waiting import eventually
from tests.tools.demo.record import Upload
from tests.tools.demo.story import Story
from tests.tools.demo.view import View

ALERTS_MODEL = "generic-1-1234-model-1747385873.hdf5"
PHISHING_MODEL = "generic-1-77-model-1751030400.hdf5"
JOBS = {
    1234: Job(name="security-alerts", models=(ALERTS_MODEL,)),
    77: Job(name="phishing-triage", models=(PHISHING_MODEL,)),
}
JOB_OF = {ALERTS_MODEL: 1234, PHISHING_MODEL: 77}
ALERTS = 40
"""Alerts in each object."""
BURST = 20
"""Uploads of each model in the burst."""
CORRECTIONS = 5
LATE = 3
"""Uploads of each model while Arcanna is away."""
LATE_ACCURACY = {"Drop": 0.98, "Investigate": 0.95, "Escalate": 0.95}
"""The accuracy on these alerts, so that no model ends worse than it began."""
OUTAGE = Fault("any", status=503, times=None)


@dataclass
class Facts:
    """The final figures. Times are epoch seconds, `before` and `after` are metrics by model."""

    before: dict[str, dict[str, Any]]
    after: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    outage: tuple[float, float] = (0.0, 0.0)
    summary: dict[str, str] = field(default_factory=dict)
    promises: dict[str, bool] = field(default_factory=dict)


class Play:
    """Plays the acts. Each uploads, waits for the consequences, and notes whether promises were kept."""

    def __init__(self, here: Installation, story: Story, view: View) -> None:
        self._here = here
        self._story = story
        self._view = view
        self._alerts = {model: [_alerts(model, n) for n in range(BURST + LATE)] for model in JOB_OF}
        self.facts = Facts(self._served())

    def run(self) -> Facts:
        """Plays all acts."""
        burst_ended = self._burst()
        corrected = self._correct(burst_ended)
        self._outage()
        self._end(corrected)
        return self.facts

    def _burst(self) -> float:
        """Uploads many objects at once, one without a model. Returns the end of the act."""
        objects: list[tuple[str | None, str, str]] = [
            (model, _key(model, f"alerts-{n:02}"), self._alerts[model][n])
            for model in JOB_OF
            for n in range(BURST)
        ]
        self._upload([*objects, (None, "reports/weekly summary.csv", "nobody's training data")])
        self._view.say(
            "uploads", f"{len(objects) + 1} objects, {BURST} for each of {len(JOB_OF)} models", "green"
        )
        return time.time()

    def _correct(self, burst_ended: float) -> float:
        """Uploads corrections while the first run of a model is under way. Returns the end of the act."""
        eventually(
            "the recompute of the first model, past reading its alerts",
            lambda: any(r.state == "in_progress" and r.rows for r in self._recomputes(ALERTS_MODEL)),
        )
        during = list(self._recomputes(ALERTS_MODEL))
        self._upload(
            [
                (
                    ALERTS_MODEL,
                    _key(ALERTS_MODEL, f"corrections-{n}"),
                    corrections(self._alerts[ALERTS_MODEL][n], share=1.0, seed=n),
                )
                for n in range(CORRECTIONS)
            ],
            correction=True,
        )
        corrected = time.time()
        self._here.arcanna.set_behaviour(Behaviour(delay=0.2, duration=1.5))  # it had to continue until now
        self._view.say(
            "uploads", f"{CORRECTIONS} corrections while a run of {ALERTS_MODEL} is under way", "green"
        )
        self._wait_until_fresh({ALERTS_MODEL: corrected, PHISHING_MODEL: burst_ended})

        asked = {model: _asked(self._recomputes(model)) for model in JOB_OF}
        self.facts.promises |= {
            f"{BURST} uploads of a model lead to at most two recomputes": all(
                len([at for at in asked[model] if at < during[-1].asks[0].at + 1]) <= 2 for model in JOB_OF
            ),
            f"{CORRECTIONS} corrections during a run lead to exactly one further run": (
                len(self._recomputes(ALERTS_MODEL)) == len(during) + 1
            ),
            "the corrections made the first model better": self._is_better(),
        }
        return corrected

    def _outage(self) -> None:
        """Uploads while Arcanna does not answer, until several attempts have failed."""
        self._here.arcanna.add_fault(OUTAGE)
        went = time.time()
        self._view.say("outage", "Arcanna does not answer any more", "red")
        self._upload(
            [
                (model, _key(model, f"late-{n}"), self._alerts[model][BURST + n])
                for model in JOB_OF
                for n in range(LATE)
            ]
        )
        self._view.say(
            "uploads", f"{LATE} objects for each of {len(JOB_OF)} models, while Arcanna is away", "green"
        )
        eventually("the last updates", lambda: self._counted("UpdatesReceived") == _objects())
        eventually("attempts that fail", lambda: all(self._failed_attempts(model) > 1 for model in JOB_OF))
        self._here.arcanna.remove_fault(OUTAGE)
        back = time.time()
        self._view.say("outage", "Arcanna answers again", "green")
        self._wait_until_fresh(dict.fromkeys(JOB_OF, back))
        self.facts.outage = (went, back)

    def _end(self, corrected: float) -> None:
        """Collects the final figures, and the promises about all runs."""
        runs = self._here.arcanna.recomputes()
        of = {model: self._recomputes(model) for model in JOB_OF}
        completed = [
            outcome for outcome in self._story.outcomes if outcome["detail-type"] == "Recompute Completed"
        ]
        last = {model: max(u.at for u in self.facts.uploads if u.model_id == model) for model in JOB_OF}
        back = self.facts.outage[1]
        returned = {model: [run for run in of[model] if run.asks[0].at >= back] for model in JOB_OF}
        self.facts.after = self._served()
        self.facts.promises |= {
            "the last recompute was requested after the last upload": all(
                _asked(of[model])[-1] >= last[model] for model in JOB_OF
            ),
            "never two recomputes of a model at once": all(
                (first.finished_at or 0.0) <= (second.started_at or 0.0)
                for model in JOB_OF
                for first, second in zip(of[model], of[model][1:], strict=False)
            ),
            "every run ended completed, and was announced so": len(completed) == len(runs),
            "every upload was received, or ignored because no route knows it": (
                self._counted("UpdatesReceived") == _objects() and self._counted("UpdatesIgnored") == 1
            ),
            "the metrics count every alert": all(
                sum(map(sum, self.facts.after[model]["confusion_matrix"])) == (BURST + LATE) * ALERTS
                for model in JOB_OF
            ),
            "uploads while Arcanna is away lead to one recompute when it is back, and to no dead letters": (
                all(len(returned[model]) == 1 for model in JOB_OF) and not self._dead_letters()
            ),
        }
        outcomes = Counter(outcome["detail-type"] for outcome in self._story.outcomes)
        fresh_at = min(r.finished_at or 0.0 for r in of[ALERTS_MODEL] if r.asks[0].at >= corrected)
        back_at = max(run.finished_at or 0.0 for runs_of in returned.values() for run in runs_of)
        self.facts.summary |= {
            "updates received": str(self._counted("UpdatesReceived")),
            "updates ignored": str(self._counted("UpdatesIgnored")),
            "recomputes requested": str(len(runs)),
            "polls": str(sum(outcome["detail"]["polls"] for outcome in self._story.outcomes)),
            **{f"outcomes: {kind}": str(n) for kind, n in sorted(outcomes.items())},
            "dead letters": str(self._dead_letters()),
            "from the last correction to fresh metrics": f"{fresh_at - corrected:.1f} s",
            "from Arcanna's return to fresh metrics": f"{back_at - back:.1f} s",
        }

    # --- What the acts do and look at ----------------------------------------------------------------------

    def _upload(self, objects: Iterable[tuple[str | None, str, str]], *, correction: bool = False) -> None:
        """Uploads objects, each given as model, key and body."""

        def put(each: tuple[str | None, str, str]) -> Upload:
            model, key, body = each
            self._here.upload(key, body)
            return Upload(time.time(), key, model, correction)

        with ThreadPoolExecutor(8) as pool:
            self.facts.uploads += pool.map(put, objects)

    def _wait_until_fresh(self, since: dict[str, float]) -> None:
        """Waits until each model has a recompute requested after that time, and each run was announced."""
        here, story = self._here, self._story
        eventually(
            "fresh metrics of both models",
            lambda: all(
                any(run.state == "completed" and run.asks[0].at >= at for run in self._recomputes(model))
                for model, at in since.items()
            ),
            45,
        )
        eventually("every outcome", lambda: len(story.outcomes) == len(here.arcanna.recomputes()), 15)
        eventually("every end", lambda: {e["status"] for e in here.cloud.executions()} == {"SUCCEEDED"}, 15)

    def _served(self) -> dict[str, dict[str, Any]]:
        return {model: self._here.served(job, model) for model, job in JOB_OF.items()}

    def _recomputes(self, model: str) -> list[Recompute]:
        return self._here.arcanna.recomputes(model)

    def _is_better(self) -> bool:
        """Whether the first model is more accurate than when its first run ended."""
        outcomes = [o["detail"] for o in self._story.outcomes if o["detail"]["model_id"] == ALERTS_MODEL]
        first, last = (outcome["after"]["overall_accuracy"] for outcome in (outcomes[0], outcomes[-1]))
        return bool(last > first)

    def _counted(self, metric: str) -> int:
        """The sum of a metric that the trigger has emitted."""
        entries = self._here.cloud.log_records("TriggerRecomputeFunction")
        return round(sum(sum(entry[metric]) for entry in entries if metric in entry and "_aws" in entry))

    def _failed_attempts(self, model: str) -> int:
        return sum(
            line.get("message") == "attempt failed" and line["model_id"] == model
            for line in self._here.cloud.log_records("TriggerRecomputeFunction")
        )

    def _dead_letters(self) -> int:
        """The number of dead letters, including hidden ones."""
        sqs = self._here.cloud.client("sqs")
        url = self._here.cloud.outputs["DeadLetterQueueUrl"]
        counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return sum(
            int(counts[f"ApproximateNumberOfMessages{kind}"]) for kind in ("", "NotVisible", "Delayed")
        )


def _alerts(model: str, n: int) -> str:
    """The alerts of a model's n-th object."""
    accuracy = TYPICAL_ACCURACY if n < BURST else LATE_ACCURACY
    return labelled_alerts(ALERTS, accuracy, seed=JOB_OF[model] * 1000 + n, first_id=n * ALERTS)


def _key(model: str, name: str) -> str:
    """The key under which the default routes expect training data of the model."""
    return f"training-data/{JOB_OF[model]}/{model}/{name}.csv"


def _asked(recomputes: Iterable[Recompute]) -> list[float]:
    """The times at which recomputes were requested, in order."""
    return [ask.at for recompute in recomputes for ask in recompute.asks]


def _objects() -> int:
    """The uploads that are updates."""
    return len(JOB_OF) * (BURST + LATE) + CORRECTIONS
