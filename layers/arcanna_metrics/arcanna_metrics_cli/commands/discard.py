"""The command `arcanna-metrics discard`."""

from typing import TYPE_CHECKING, Any

import click

from arcanna_metrics_cli.command_line import TEXT, Answer, Given, operation
from arcanna_metrics_cli.commands.redrive import as_document, having, read, show
from arcanna_metrics_cli.exits import Exit
from arcanna_metrics_cli.words import counted

if TYPE_CHECKING:
    from arcanna_metrics_cli.letters import DeadLetter


@operation
@click.option("--reason", type=TEXT, help="Delete all dead letters with this reason.")
@click.option(
    "--id",
    "letter_id",
    type=TEXT,
    help="Delete the dead letter with this id. redrive --list --json shows the ids.",
)
@click.option("--yes", is_flag=True, help="Do not ask. Needs --reason or --id.")
def command(given: Given, reason: str | None, letter_id: str | None, yes: bool) -> Answer:
    """Delete dead letters for good: by reason, by id, or one by one.

    Without --reason and --id, it shows each message and asks. A deleted message starts no recompute.
    """
    out, one_by_one = given.out, not reason and not letter_id
    if one_by_one and (yes or out.json):
        raise click.UsageError("--yes and --json need --reason or --id.")
    stack = given.deployed
    left = read(given)
    try:
        matching = [letter for letter in having(left, reason) if letter_id in (None, letter.id)]
        shown = list(map(as_document, matching))
        document: dict[str, Any] = {"dead_letters": shown, "done": False, "deleted": 0}
        if letter_id and not matching:
            out.show(f"There is no dead letter with the id {letter_id}.")
        else:
            show(given, matching, reason, left)
        chosen = matching
        if one_by_one:
            chosen = [letter for letter in matching if _is_to_go(given, letter)]
        elif matching:
            question = f"Delete {counted(len(matching), 'message')} for good?"
            given.confirm(document, question, yes=yes, done="deleted", todo="delete them")
        for letter in chosen:
            stack.discard(letter)
            left.remove(letter)
        if chosen:
            out.show(f"{counted(len(chosen), 'message')} deleted.")
        elif matching:
            out.say("Nothing was deleted.")
        return Answer(Exit.GOOD, document | {"done": bool(chosen), "deleted": len(chosen)})
    finally:
        stack.put_back(left)


def _is_to_go(given: Given, letter: "DeadLetter") -> bool:
    given.out.show(f"{letter.reason}: {letter.detail}")
    given.out.show(f"  {letter.update}")
    return given.ask("Delete this message for good?", "Add --reason or --id, and --yes")
