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

    out, prefix = given.out, ""
    key = re.sub("^s3://[^/]+/", "", key)
    if settings_file:
        text = read(settings_file)
    else:
        with out.doing("Reading the settings"):
            text, prefix = given.deployed.settings(), given.deployed.parameters.get("ObjectKeyPrefix", "")
    lead = routing.lead(text, key)
    document = {
        "key": key,
        "route": lead.route if lead else None,
        "targets": [target._asdict() for target in lead.targets] if lead else [],
        "threshold": lead.threshold if lead else "",
        "problem": lead.problem if lead else "no route matches this key",
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
