"""`make demo`: the main job on this machine, from the real template, in under a minute.

Exits 1 if anything it shows is not as promised.
"""

import logging
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.arcanna.alerts import TYPICAL_ACCURACY, corrections, labelled_alerts
from tests.arcanna.platform import FOR_EVER, Behaviour, Job
from tests.demo.gather import gather
from tests.demo.page import page
from tests.demo.record import Upload
from tests.demo.story import Story
from tests.demo.view import View, metrics_table, summary_table
from tests.harness import Installation, installation, wait_for

ALERTS_MODEL = "generic-1-1234-model-1747385873.hdf5"
PHISHING_MODEL = "generic-1-77-model-1751030400.hdf5"
JOBS = {
    1234: Job(name="security-alerts", models=(ALERTS_MODEL,)),
    77: Job(name="phishing-triage", models=(PHISHING_MODEL,)),
}
JOB_OF = {ALERTS_MODEL: 1234, PHISHING_MODEL: 77}
UPLOADS_PER_MODEL = 20
CORRECTIONS = 5
PICTURE = Path("build/demo.html")


def main() -> int:
    """The exit status."""
    logging.getLogger("moto").setLevel(logging.CRITICAL)  # its interpreter logs every Choice as an error
    view = View()
    view.say("start", "the Arcanna reference server and the stack of template.yaml, on this machine")
    with installation(JOBS, FOR_EVER, "demo") as here:
        view.say("deployed", f"bucket {here.bucket}")
        with view, Story(here, view) as story:
            facts = play(here, story, view)
        names = {model: JOBS[job].name for model, job in JOB_OF.items()}
        record = gather(here, names, facts["uploads"], story.outcomes, facts["summary"], facts["promises"])
    view.console.print(metrics_table(facts["before"], facts["after"]))
    view.console.print(summary_table(facts["summary"]))
    broken = [promise for promise, kept in facts["promises"].items() if not kept]
    for promise in facts["promises"]:
        view.console.print(f"  {'✗' if promise in broken else '✓'} {promise}")
    PICTURE.write_text(page(record), encoding="utf-8")
    view.console.print(f"A picture of it all: {PICTURE}")
    return 1 if broken else 0


def play(here: Installation, story: Story, view: View) -> dict[str, Any]:
    """Uploads a burst, then corrections while a run is under way, and gathers what came of it."""
    before = {model: figures(here, model) for model in JOB_OF}
    alerts = {
        model: [
            labelled_alerts(40, TYPICAL_ACCURACY, seed=JOB_OF[model] * 1000 + n, first_id=n * 40)
            for n in range(UPLOADS_PER_MODEL)
        ]
        for model in JOB_OF
    }
    burst: list[tuple[str, str, str | None]] = [
        (key_of(model, f"alerts-{n:02}"), body, model)
        for model in JOB_OF
        for n, body in enumerate(alerts[model])
    ]
    burst.append(("reports/weekly summary.csv", "nobody's training data", None))
    with ThreadPoolExecutor(8) as pool:
        uploads = list(pool.map(lambda upload: put(here, *upload), burst))
    burst_ended = time.time()
    view.say(
        "uploads", f"{len(burst)} objects, {UPLOADS_PER_MODEL} for each of {len(JOB_OF)} models", "green"
    )

    wait_for(
        "the recompute of the first model, past reading its alerts",
        lambda: any(r.state == "in_progress" and r.rows for r in here.arcanna.recomputes(ALERTS_MODEL)),
    )
    during = here.arcanna.recomputes(ALERTS_MODEL)
    for n in range(CORRECTIONS):
        body = corrections(alerts[ALERTS_MODEL][n], share=1.0, seed=n)
        uploads.append(put(here, key_of(ALERTS_MODEL, f"corrections-{n}"), body, ALERTS_MODEL, True))
    corrected = time.time()
    here.arcanna.set_behaviour(Behaviour(delay=0.2, duration=1.5))  # the run had to last until now
    view.say("uploads", f"{CORRECTIONS} corrections while a run of {ALERTS_MODEL} is under way", "green")

    wait_for("fresh metrics of both models", lambda: is_fresh(here, burst_ended, corrected), 45)
    wait_for("the outcome of every run", lambda: len(story.outcomes) == len(here.arcanna.recomputes()), 15)
    wait_for(
        "the end of every run", lambda: {e["status"] for e in here.cloud.executions()} == {"SUCCEEDED"}, 15
    )
    after = {model: figures(here, model) for model in JOB_OF}
    runs = here.arcanna.recomputes()
    of = {model: here.arcanna.recomputes(model) for model in JOB_OF}
    asked = {model: [ask.at for run in of[model] for ask in run.asks] for model in JOB_OF}
    outcomes = Counter(outcome["detail-type"] for outcome in story.outcomes)
    polls = sum(outcome["detail"]["polls"] for outcome in story.outcomes)
    fresh_at = max(run.finished_at or 0.0 for run in of[ALERTS_MODEL])
    return {
        "before": before,
        "after": after,
        "uploads": uploads,
        "summary": {
            "updates received": str(counted(here, "UpdatesReceived")),
            "updates ignored": str(counted(here, "UpdatesIgnored")),
            "recomputes requested": str(len(runs)),
            "polls": str(polls),
            **{f"outcomes: {kind}": str(n) for kind, n in sorted(outcomes.items())},
            "from the last correction to fresh metrics": f"{fresh_at - corrected:.1f} s",
        },
        "promises": {
            f"{UPLOADS_PER_MODEL} uploads of a model lead to at most two recomputes": all(
                len([at for at in asked[model] if at < during[-1].asks[0].at + 1]) <= 2 for model in JOB_OF
            ),
            f"{CORRECTIONS} corrections during a run lead to exactly one further run": (
                len(of[ALERTS_MODEL]) == len(during) + 1
            ),
            "the last recompute was requested after the last upload": (
                asked[ALERTS_MODEL][-1] >= corrected and asked[PHISHING_MODEL][-1] >= burst_ended
            ),
            "never two recomputes of a model at once": all(
                (first.finished_at or 0.0) <= (second.started_at or 0.0)
                for model in JOB_OF
                for first, second in zip(of[model], of[model][1:], strict=False)
            ),
            "every run ended completed, and was announced so": all(
                outcome["detail-type"] == "Recompute Completed" for outcome in story.outcomes
            ),
            "every upload was received, or ignored for want of a route": (
                counted(here, "UpdatesReceived") == 2 * UPLOADS_PER_MODEL + CORRECTIONS
                and counted(here, "UpdatesIgnored") == 1
            ),
            "the metrics count every alert": all(
                alert_count(after[model]) == UPLOADS_PER_MODEL * 40 for model in JOB_OF
            ),
            "the corrections made the first model better": better(story, after[ALERTS_MODEL]),
        },
    }


def key_of(model: str, name: str) -> str:
    """Where the default routes expect training data of the model."""
    return f"training-data/{JOB_OF[model]}/{model}/{name}.csv"


def put(here: Installation, key: str, body: str, model: str | None, is_correction: bool = False) -> Upload:
    """Uploads an object and tells when (in epoch seconds) that was done."""
    here.upload(key, body)
    return Upload(time.time(), key, model, is_correction)


def figures(here: Installation, model: str) -> dict[str, Any]:
    """What the platform serves of the model now."""
    return here.served(JOB_OF[model], model)


def counted(here: Installation, metric: str) -> int:
    """What the trigger has counted in all, by the metrics in its logs."""
    entries = here.log_entries("TriggerRecomputeFunction")
    return round(sum(sum(entry[metric]) for entry in entries if metric in entry and "_aws" in entry))


def alert_count(served: dict[str, Any]) -> int:
    """How many alerts went into the figures."""
    return sum(sum(row) for row in served["confusion_matrix"])


def better(story: Story, now: dict[str, Any]) -> bool:
    """Whether the first model is more accurate than when its first run ended."""
    first = next(o["detail"] for o in story.outcomes if o["detail"]["model_id"] == ALERTS_MODEL)
    return bool(now["overall_accuracy"] > first["after"]["overall_accuracy"])


def is_fresh(here: Installation, burst_ended: float, corrected: float) -> bool:
    """Whether each model has a recompute that was requested after its last upload, and is done."""
    return all(
        any(run.state == "completed" and run.asks[0].at >= since for run in here.arcanna.recomputes(model))
        for model, since in ((ALERTS_MODEL, corrected), (PHISHING_MODEL, burst_ended))
    )


if __name__ == "__main__":
    sys.exit(main())
