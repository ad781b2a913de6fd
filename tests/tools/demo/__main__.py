"""`make demo`: the main job on this machine, from the real template, in under a minute.

Exits 1 if anything it shows is not as promised. The record of it all is written beside the page: the tests of
the page read a copy of it, recorded.json.
"""

import json
import logging
from dataclasses import asdict
from pathlib import Path

from arcanna_metrics_cli.process import run
from tests.support.arcanna.platform import FOR_EVER
from tests.support.installation import alone, installation
from tests.tools.demo.gather import gather
from tests.tools.demo.page import page
from tests.tools.demo.play import JOB_OF, JOBS, Play
from tests.tools.demo.story import Story
from tests.tools.demo.view import View, metrics_table, summary_table

PAGE = Path("build/demo.html")
BUSY = "Another make demo is running in this folder. Wait for its end, or end it with Ctrl-C first."


def main() -> int:
    """Runs the demo. Returns the exit status."""
    logging.getLogger("moto").setLevel(logging.CRITICAL)  # moto's interpreter logs every Choice as an error
    view = View()
    view.say("start", "the Arcanna reference server and the stack of template.yaml, on this machine")
    with alone("demo", BUSY), installation(JOBS, FOR_EVER, "demo") as here:
        view.say("deployed", f"bucket {here.bucket}")
        with view, Story(here, view) as story:
            facts = Play(here, story, view).run()
        names = {model: JOBS[job].name for model, job in JOB_OF.items()}
        record = gather(
            here, names, facts.uploads, facts.outage, story.outcomes, facts.summary, facts.promises
        )
    view.console.print(metrics_table(facts.before, facts.after))
    view.console.print(summary_table(facts.summary))
    broken = [promise for promise, kept in facts.promises.items() if not kept]
    for promise in facts.promises:
        view.console.print(f"  {'✗' if promise in broken else '✓'} {promise}")
    PAGE.write_text(page(record), encoding="utf-8")
    PAGE.with_suffix(".json").write_text(json.dumps(asdict(record)), encoding="utf-8")
    view.console.print(f"The report of it all: {PAGE}")
    return 1 if broken else 0


if __name__ == "__main__":
    run(main)
