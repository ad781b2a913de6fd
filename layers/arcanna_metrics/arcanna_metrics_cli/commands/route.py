"""The command `arcanna-metrics route`."""

import re

import click

from arcanna_metrics_cli.command_line import TEXT, Answer, Given, operation
from arcanna_metrics_cli.commands.settings import read
from arcanna_metrics_cli.exits import Exit


@operation
@click.argument("key", type=TEXT)
@click.option(
    "--settings-file", type=TEXT, metavar="FILE", help="Try this document instead of the deployed one."
)
def command(given: Given, key: str, settings_file: str | None) -> Answer:
    """Show which models the object with this KEY belongs to.

    Exits with 1 if it belongs to none. With --settings-file, it needs no stack.
    """
    from arcanna_metrics_cli import routing

    out, prefix, ours = given.out, "", None
    bucket, key = re.findall("^(?:s3://([^/]+)/)?(.*)", key, re.DOTALL)[0]
    if settings_file:
        text = read(settings_file, out)
    else:
        with out.doing("Reading the settings"):
            text, prefix = given.deployed.settings(), given.deployed.parameters.get("ObjectKeyPrefix", "")
        ours = given.deployed.output("TrainingDataBucket") if bucket else None
    warnings = _warnings(bucket, key, ours)
    for warning in warnings:
        out.say(f"! {warning}.", "yellow")
    lead = routing.lead(text, key)
    document = {
        "key": key,
        "route": lead.route if lead else None,
        "targets": [target._asdict() for target in lead.targets] if lead else [],
        "threshold": lead.threshold if lead else "",
        "problem": lead.problem if lead else "no route matches this key",
        "warnings": warnings,
    }
    if not key.startswith(prefix):
        problem = f"The key causes no event: it does not start with ObjectKeyPrefix, which is {prefix!r}."
        out.show(f"✗ {problem}", "red")
        return Answer(Exit.WRONG, document | {"problem": problem, "targets": []})
    if lead is None:
        out.show("✗ No route matches this key. The patterns, in order:", "red")
        for name, pattern in routing.patterns(text):
            out.show(f"  {pattern}  (route {name})")
        return Answer(Exit.WRONG, document)
    if lead.problem:
        out.show(
            f"✗ Route {lead.route} matches this key, but its updates become dead letters: {lead.problem}",
            "red",
        )
        return Answer(Exit.WRONG, document)
    out.show(f"✓ Route {lead.route} matches this key:", "green")
    for target in lead.targets:
        out.show(f"  {target}")
    if lead.threshold:
        out.show(f"  when this threshold is reached: {lead.threshold}")
    return Answer(Exit.GOOD, document)


def _warnings(bucket: str, key: str, ours: str | None) -> list[str]:
    """What may keep the object from being an update. `ours` is the stack's bucket, None without a stack.

    `bucket` is empty if only a key was given.
    """
    found = []
    if bucket and ours is None:
        found.append(f"The bucket {bucket!r} is not compared with a stack's")
    elif bucket and bucket != ours:
        found.append(
            f"The stack's bucket is {ours!r}. Objects of {bucket!r} are updates only if it notifies the"
            " updates queue (events/README.md, Other buckets)"
        )
    if key.endswith("/"):
        found.append("An object whose key ends in / is a folder, and no update unless it has content")
    return found
