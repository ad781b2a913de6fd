"""What a model's next metrics are compared with.

A model may be recomputed by its id and as its job's active model, but it has one set of metrics. So it has
one reference, in the entry of its id.
"""

from collections.abc import Sequence
from functools import partial

from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.ledger import Ledger
from arcanna_metrics.runs.quality import Reference, Rules
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.targets import Target


def learn(ledger: Ledger, model: Target, seen: Sequence[Reference], rules: Rules) -> Reference:
    """The model's reference after its metrics had these figures. Raises AwsUnavailable."""
    return ledger.apply(model, partial(transitions.learn, seen=seen, rules=rules)).quality_reference or {}


def learn_from(ledger: Ledger, run: Run, result: Result) -> None:
    """Updates the model's reference at the end of a run. Raises AwsUnavailable."""
    job_id = run.get("platform_job_id") or run["job_id"]
    # Arcanna's answer to a run by the job's name has told the id. From now on, the reference is under the id.
    known = run["reference"] if job_id != run["job_id"] else None
    seen = [figures for figures in (known, result["figures"]) if figures]
    if run["model_id"] and seen:
        learn(ledger, Target(job_id, run["model_id"]), seen, Rules(**run["gate"]))
