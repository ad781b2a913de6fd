"""Jobs by name: updates under a job's name are recorded under its id, so each job has one entry."""

from contextlib import suppress
from dataclasses import replace

from arcanna_metrics.controller.services import Services
from arcanna_metrics.errors import Rejected
from arcanna_metrics.observability import log_error
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.entry import Entry
from arcanna_metrics.protocol.ledger import UNREADABLE
from arcanna_metrics.runs.run import Run
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
    services.ledger.apply(target, transitions.receive, mailbox, pace)
    services.ledger.swap(mailbox, replace(transitions.empty(mailbox, pace), name_of=job_id))
    return target


def learn_id(services: Services, run: Run) -> None:
    """Remembers the id in the platform's answer to a run by a name, for all models of the job.

    The run's own entry remembers it when the run is released.
    """
    if (job_id := run["platform_job_id"]) and run["target"]["model_id"] is not None:
        try:
            services.ledger.apply(Target(run["job_id"], None), replace, name_of=job_id)
        except UNREADABLE as error:  # the run's own target must be released all the same
            log_error("id of the name not remembered", error)


def _learned_id(services: Services, mailbox: Entry) -> str | None:
    """The id in the platform's last answer to a run by the name, if the platform still knows that job."""
    job_id = mailbox.name_of
    with suppress(*UNREADABLE):
        job_id = job_id or services.ledger.read(Target(mailbox.target.job_id, None)).name_of
    if job_id is not None:
        with suppress(Rejected):
            services.arcanna.models(job_id)
            return job_id
    return None
