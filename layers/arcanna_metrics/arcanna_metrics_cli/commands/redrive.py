"""The command `arcanna-metrics redrive`."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from arcanna_metrics.times import to_iso
from arcanna_metrics_cli.command_line import TEXT, Answer, Given, operation
from arcanna_metrics_cli.exits import Exit
from arcanna_metrics_cli.words import counted, did_you_mean

if TYPE_CHECKING:
    from arcanna_metrics_cli.letters import DeadLetter


@operation
@click.option("--reason", type=TEXT, help="Only the dead letters with this reason.")
@click.option("--list", "only_list", is_flag=True, help="Only show them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(given: Given, reason: str | None, only_list: bool, yes: bool) -> Answer:
    """Show the dead letters, and send them to the updates queue again.

    Fix the cause first. Duplicates are harmless. Sweeps are deleted instead, because there is a new one every
    minute.
    """
    stack, out = given.deployed, given.out
    left = read(given)
    try:
        chosen = having(left, reason)
        show(given, chosen, reason, left)
        document: dict[str, Any] = {"dead_letters": list(map(as_document, chosen)), "done": False, "sent": 0}
        if only_list or not chosen:
            return Answer(Exit.GOOD, document)
        question = f"Send {counted(len(chosen), 'message')} to the updates queue again?"
        given.confirm(document, question, yes=yes, done="sent", todo="send them, or --list")
        with out.doing("Sending them"):
            for letter in chosen:
                stack.redrive(letter)
                left.remove(letter)
        sweeps = sum(letter.is_sweep for letter in chosen)
        if sweeps:
            out.show(f"{counted(sweeps, 'message')} deleted: sweeps; a new one comes every minute.")
        sent = len(chosen) - sweeps
        out.show(f"{counted(sent, 'message')} sent again. arcanna-metrics status shows the progress.")
        return Answer(Exit.GOOD, document | {"done": True, "sent": sent})
    finally:
        stack.put_back(left)


def read(given: Given) -> "list[DeadLetter]":
    """All dead letters, to decide about them. If there are none, says whether another reader hides some."""
    from arcanna_metrics_cli.deployed import DECISION

    stack = given.deployed
    with given.out.doing("Reading the dead letters"):
        found = stack.dead_letters(DECISION)
        hidden = 0 if found else stack.messages("DeadLetterQueueUrl")["in progress"]
    if hidden:
        are = "message is" if hidden == 1 else "messages are"
        given.out.say(f"{hidden} {are} hidden while another command reads them. Try again later.", "yellow")
    return found


def having(found: "Sequence[DeadLetter]", reason: str | None) -> "list[DeadLetter]":
    """Those with the reason, in upper or lower case; all if it is None."""
    return [each for each in found if reason is None or each.reason.casefold() == reason.casefold()]


def show(
    given: Given, chosen: "Sequence[DeadLetter]", reason: str | None, found: "Sequence[DeadLetter]"
) -> None:
    """Prints a table of the chosen dead letters by reason and detail, or else the reasons of all."""
    out = given.out
    if out.json:
        return
    if not chosen:
        what = f" with the reason {reason}" if reason else ""
        hint = did_you_mean(reason, [letter.reason for letter in found]) if reason else ""
        out.show(f"There are no dead letters{what}. {hint}".rstrip())
        return
    from arcanna_metrics_cli import letters, view

    out.show(view.dead_letters(letters.groups(chosen), time.time()))


def as_document(letter: "DeadLetter") -> dict[str, Any]:
    """A dead letter in the JSON document."""
    return {
        "id": letter.id,
        "reason": letter.reason,
        "detail": letter.detail,
        "sent_at": to_iso(letter.sent_at),
        "body": letter.update,
    }
