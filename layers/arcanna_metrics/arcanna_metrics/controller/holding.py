"""A run while it holds its target: hold, check-up, release."""

from contextlib import AbstractContextManager

from arcanna_metrics.controller.mailbox import learn_id
from arcanna_metrics.controller.reference import learn
from arcanna_metrics.controller.services import Services
from arcanna_metrics.observability import count, logger, run_in_logs
from arcanna_metrics.protocol import transitions
from arcanna_metrics.protocol.check_up import MOST_EXECUTIONS, Resume, TakeBack, check_up
from arcanna_metrics.protocol.decide import Later
from arcanna_metrics.protocol.entry import Claim, Entry
from arcanna_metrics.runs.run import Result, Run
from arcanna_metrics.runs.telemetry import run_ended
from arcanna_metrics.targets import Target
from arcanna_metrics.workflow import resumed_input


def hold(services: Services, run: Run, number: int) -> bool:
    """Confirms the claim for the run's execution of that number; False if the execution must stop.

    Raises AwsUnavailable.
    """
    held = services.ledger.apply(target_of(run), transitions.hold, run["run_id"], number)
    if not held:
        with _in_logs(services, run, number):
            logger.warning("run superseded", number=number)
    return held is not None


def release(services: Services, run: Run, number: int, result: Result) -> bool:
    """Releases the run's target. `number` is the number of the execution.

    Returns False if the target was already released, or if another run or execution has taken over. Raises
    AwsUnavailable.
    """

    def transition(entry: Entry) -> Entry | None:
        postponement = services.postponement(entry)
        return transitions.release(entry, run, number, result, services.pace(entry), postponement)

    entry = services.ledger.read(target_of(run))
    with _in_logs(services, run, number):
        if transition(entry):  # the target is still the run's
            learn(services.ledger, run, result)
            learn_id(services, run)
        released = services.ledger.apply(entry, transition) is not None
        if released:  # once for each run, also if it was resumed
            run_ended(run, result)
        logger.info("run released" if released else "run was already released", outcome=result["outcome"])
    return released


def check_up_on(services: Services, entry: Entry, claim: Claim) -> None:
    """Makes sure that an execution follows the run that holds the entry, or takes the target back."""
    ledger, workflow, run_id = services.ledger, services.workflow, claim.run_id
    now = services.clock()  # first, because an execution may begin until the claim's lifetime is over
    executions = workflow.executions(run_id, MOST_EXECUTIONS)
    number = len(executions)
    match check_up(claim, executions, now):
        case Later(at):
            ledger.swap(entry, transitions.postpone_check_up(entry, at))
        case Resume():
            at = services.postponement(entry).retry_at
            if ledger.swap(entry, transitions.postpone_check_up(entry, at)):
                workflow.start(run_id, resumed_input(executions[-1].input, number), number)
                with run_in_logs(run_id, entry.target, entry.waiting.cause, workflow.arn(run_id, number)):
                    logger.warning("run resumed", number=number)
        case TakeBack(why):
            postponement = services.postponement(entry)._replace(last_error=why)
            if ledger.swap(entry, transitions.take_back(entry, claim, services.pace(entry), postponement)):
                count("RunsTakenBack")
                last = workflow.arn(run_id, max(number - 1, 0))
                with run_in_logs(run_id, entry.target, entry.waiting.cause, last):
                    logger.warning("run taken back", detail=why)


def _in_logs(services: Services, run: Run, number: int) -> AbstractContextManager[None]:
    run_id, target = run["run_id"], Target(run["job_id"], run["model_id"])
    return run_in_logs(run_id, target, run["cause"]["kind"], services.workflow.arn(run_id, number))


def target_of(run: Run) -> Target:
    """The ledger's key of a run."""
    return Target(**run["target"])
