"""The command `arcanna-metrics doctor`."""

from collections.abc import Callable
from shlex import quote
from typing import TYPE_CHECKING

from arcanna_metrics.errors import ConfigurationError
from arcanna_metrics_cli.command_line import NAME, Answer, Given, operation
from arcanna_metrics_cli.exits import Exit

if TYPE_CHECKING:
    from arcanna_metrics_cli.checks import Check
    from arcanna_metrics_cli.deployed import Deployed


@operation
def command(given: Given) -> Answer:
    """Find what stops the stack from working, and say what to do about it.

    It has the functions call Arcanna, and changes nothing. Exits with 1 if something is wrong; a warning (!)
    does not count.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    from arcanna_metrics_cli import checks

    stack, out = given.deployed, given.out
    links = _links(stack)
    found: list[Check] = []
    for what, look in looks(stack).items():
        try:
            with out.doing(f"Looking at the {what}"):
                seen = look()
        except (BotoCoreError, ClientError) as error:
            seen = [checks.unseen(what, error)]
        for check in seen:
            _show(given, check, links.get(check.what, ""))
        found += seen
    wrong = any(check.state == "wrong" for check in found)
    if wrong:
        out.show(f"The trigger's log: {links['functions']}", "dim")
    document = {
        "checks": [
            {
                "check": check.what,
                "state": check.state,
                "said": check.said,
                "todo": check.remedy,
                "link": links.get(check.what),
            }
            for check in found
        ]
    }
    return Answer(Exit.WRONG if wrong else Exit.GOOD, document)


def looks(stack: "Deployed") -> dict[str, Callable[[], list["Check"]]]:
    from arcanna_metrics_cli import checks, routing

    def routes() -> list["Check"]:
        try:
            return [checks.routes(routing.warnings(stack.settings()), known)]
        except ConfigurationError:  # the preflight says so
            return []

    known = checks.Known(
        region=stack.region,
        queue_arn=stack.output("UpdatesQueueArn"),
        senders=[arn.strip() for arn in stack.parameters.get("SenderArns", "").split(",")],
        trigger=stack.output("TriggerRecomputeFunction"),
        base_url=stack.parameters.get("ArcannaBaseUrl", "ArcannaBaseUrl"),
        secret_arn=stack.output("ApiKeySecretArn"),
        secret_field=stack.parameters.get("ApiKeySecretField", ""),
        settings_parameter=stack.settings_parameter,
        topic_arn=stack.output("NotificationTopicArn"),
        deploy="make deploy" if stack.name == NAME else f"make deploy STACK={quote(stack.name)}",
    )
    address = stack.parameters.get("NotificationEmail", "")
    return {
        "stack": lambda: [checks.stack(stack.name, stack.status)],
        "functions": lambda: checks.preflight(*stack.invoke_trigger({"preflight": True}), known),
        "routes": routes,
        "bucket": lambda: [
            checks.bucket(
                stack.output("TrainingDataBucket"), stack.bucket_region(), stack.bucket_notifications(), known
            )
        ],
        "queue": lambda: [checks.queue(stack.event_source_states())],
        "sweep": lambda: [checks.sweep(stack.schedule_state("SweepSchedule"))],
        "index": lambda: [checks.index(stack.index_status())],
        "schedule": lambda: (
            [checks.schedule(stack.schedule_state("RecomputeSchedule"))]
            if stack.parameters.get("ScheduleExpression")
            else []
        ),
        "notifications": lambda: [checks.email(address, stack.subscriptions(), known)],
        "dead letters": lambda: [checks.dead_letters(stack.messages("DeadLetterQueueUrl"))],
    }


def _links(stack: "Deployed") -> dict[str, str]:
    """The console's pages, by the name of the check that they help with."""
    from arcanna_metrics_cli.links import Links

    links, secret_arn = stack.links, stack.output("ApiKeySecretArn")
    secret = Links.of(secret_arn).secret(secret_arn)  # it may be in another region than the stack
    return {
        "stack": links.stack(stack.id),
        "functions": stack.trigger_log,
        "platform": stack.trigger_log,
        "key": secret,
        "scopes": secret,
        "settings": links.parameter(stack.settings_parameter),
        "routes": links.parameter(stack.settings_parameter),
        "targets": stack.trigger_log,
    }


_MARKS = {"good": ("✓", "green"), "warning": ("!", "yellow"), "wrong": ("✗", "red")}


def _show(given: Given, check: "Check", link: str) -> None:
    """Prints the line of a check, with its remedy."""
    if given.out.json:
        return
    from rich.text import Text

    what = (f"{check.what:<14}", f"bold link {link}" if link else "bold")
    line = Text.assemble("  ", _MARKS[check.state], " ", what, check.said.rstrip(".") + ".")
    if check.remedy:
        line.append(f" To do: {check.remedy.rstrip('.')}.", style="yellow")
    given.out.show(line)
