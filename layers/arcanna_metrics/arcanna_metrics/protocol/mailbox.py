"""Jobs by name: updates under a job's name are recorded under its id, so each job has one entry."""

from dataclasses import replace
from functools import partial

from arcanna_metrics.errors import Rejected
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.services import Services
from arcanna_metrics.targets import Target, is_id


def forward(services: Services, mailbox: Entry) -> Target | None:
    """Records the waiting updates of a name under the job's id, and returns that target.

    None if the entry already has an id, or if the id is unknown; then the run belongs to the name's entry.
    The name is looked up every time, because names are reused. If the key may not look names up, the id in
    the platform's last answer counts.
    """
    name, model_id = mailbox.target
    if is_id(name):
        return None
    job_id = services.arcanna.job_id_of(name) or _learned_id(services, mailbox)
    if job_id is None:
        return None
    target, pace = Target(job_id, model_id), services.settings().for_job(job_id).pace
    services.ledger.apply(target, partial(transitions.receive, mailbox=mailbox, pace=pace))
    services.ledger.swap(mailbox, replace(transitions.empty(mailbox, pace), name_of=job_id))
    return target


def _learned_id(services: Services, mailbox: Entry) -> str | None:
    """The id in the platform's last answer, unless the platform has rejected that job since."""
    if mailbox.name_of is None:
        return None
    job = services.ledger.read(Target(mailbox.name_of, mailbox.target.model_id))
    is_rejected = job.last_failure is not None and job.last_failure["reason"] == Rejected.__name__
    return None if is_rejected and job.failed_as_of > mailbox.fresh_as_of else mailbox.name_of
