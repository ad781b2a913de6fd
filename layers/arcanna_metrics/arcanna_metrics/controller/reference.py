"""What a model's next metrics are compared with.

A model may be recomputed by its id and as its job's active model, but it has one set of metrics. So it has
one reference, in the entry of its id.
"""

from arcanna_metrics.observability import log_error
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.ledger import UNREADABLE, Ledger
from arcanna_metrics.runs.quality import Reference, Rules, learned
from arcanna_metrics.runs.run import Result, Run, job_of
from arcanna_metrics.targets import Model, Target, is_id


def learn_baseline(ledger: Ledger, run: Run, model: Model, baseline: Reference) -> Reference:
    """Updates the model's reference with a run's baseline. Returns what the run compares new metrics with.

    It is written before the request, so that a run that overlaps with this one, of the same model by its id
    or as the active one, is compared with this baseline, too. Raises AwsUnavailable, and one of UNREADABLE if
    the model's entry cannot be read.
    """
    target = Target(*model)
    if not is_id(model.job_id):  # the answer to the request will tell under which id the reference is kept
        return learned(ledger.read(target).quality_reference, baseline, Rules(**run["gate"]))
    return _learn(ledger, target, run, baseline)


def learn(ledger: Ledger, run: Run, result: Result) -> None:
    """Updates the model's reference at the end of a run. Raises AwsUnavailable."""
    known = {} if is_id(run["job_id"]) else run["reference"]  # not written yet
    target = Target(job_of(run), run["model_id"])
    try:
        for seen in (known, result["figures"]):
            if seen:
                _learn(ledger, target, run, seen)
    except ValueError as error:  # the run's own target must be released all the same
        log_error("reference not updated", error, **target._asdict())


def _learn(ledger: Ledger, target: Target, run: Run, seen: Reference) -> Reference:
    rules = Rules(**run["gate"])
    try:
        entry = ledger.apply(target, transitions.learn, seen, rules, run["requested_at"])
    except UNREADABLE as error:
        raise ValueError(f"the entry of {target} cannot be read: {error!r}") from error
    return entry.quality_reference or {}
