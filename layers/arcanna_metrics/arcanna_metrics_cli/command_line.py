"""The command line: the list of commands, and the options and errors that all of them share.

To add a command, add a module with a `command` to `commands`, and a line to COMMANDS.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, wraps
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from arcanna_metrics.errors import RecomputeError
from arcanna_metrics.targets import canonical
from arcanna_metrics_cli.exits import MEANINGS, Exit, Trouble
from arcanna_metrics_cli.output import Output, Unwritable
from arcanna_metrics_cli.troubles import explained
from arcanna_metrics_cli.words import did_you_mean

if TYPE_CHECKING:
    from arcanna_metrics_cli.deployed import Deployed

NAME = "arcanna-metrics"
STACK = "ARCANNA_METRICS_STACK"
VERSION = "1"
"""The version of the JSON documents. It grows when programs that read them have to change."""

COMMANDS = {
    "status": "Show how fresh each model is, and why if it is stale.",
    "report": "Write or serve a page with the state of all models.",
    "recompute": "Request a recompute and follow it to its end.",
    "accept": "Accept a model that got worse as the new reference.",
    "redrive": "Send dead letters to the updates queue again.",
    "discard": "Delete dead letters.",
    "route": "Show which models an object's key belongs to.",
    "settings": "Show, validate or replace the settings.",
    "forget": "Delete what the ledger knows about a model or a job.",
    "doctor": "Find what stops the stack from working.",
}
"""Each command with its line in --help, which then does not import them."""


@dataclass
class Given:
    """What every command gets: the common options, and where to print."""

    stack: str
    region: str | None
    profile: str | None
    out: Output = field(default_factory=Output)

    @cached_property
    def deployed(self) -> "Deployed":
        """The deployed stack. Raises NotDeployed, ClientError and BotoCoreError."""
        with self.out.doing(f"Looking for the stack {self.stack}"):
            from arcanna_metrics_cli.deployed import Deployed

            return Deployed(self.stack, self.region, self.profile)

    @property
    def options(self) -> str:
        """The options that choose this stack, for a command that people copy.

        They always name it, because ARCANNA_METRICS_STACK may be another one where the command is typed.
        """
        options = {"--stack": self.stack, "--region": self.region, "--profile": self.profile}
        return " ".join(f"{name} {quote(value)}" for name, value in options.items() if value)

    def ask(self, question: str, todo: str = "Add --yes") -> bool:
        """Asks before a change, see Output.ask. Names the stack if somebody chose it."""
        if self.stack != NAME or self.region or self.profile:
            question = f"Stack {self.stack} in {self.deployed.region}: {question}"
        return self.out.ask(question, todo)

    def confirm(self, document: dict[str, Any], question: str, *, yes: bool, done: str, todo: str) -> None:
        """Asks before a change, unless `yes`. If the answer is no, raises Unconfirmed with the document.

        It says then that nothing was `done`. With --json, it does not ask, but says how to do it: `todo`.
        """
        if yes or (not self.out.json and self.ask(question)):
            return
        self.out.say(f"Nothing was {done}." + (f" Add --yes to {todo}." if self.out.json else ""))
        raise Unconfirmed(Answer(Exit.USAGE if self.out.json else Exit.GOOD, document))


class Answer(NamedTuple):
    """The result of a command: its exit status, and its own fields of the JSON document."""

    status: Exit
    document: dict[str, Any]


class Unconfirmed(Exception):
    """Ends a command with its answer, because nobody confirmed the change."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


class Text(click.ParamType):
    """A text. An empty one counts as missing, because make passes all its variables."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not value and param is not None and param.required:
            raise click.MissingParameter(ctx=ctx, param=param)
        return value or None


class Job(Text):
    """A job, by id or name. "0012" is the job 12, as everywhere (see targets.Target.of)."""

    name = "job"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        job = super().convert(value, param, ctx)
        return canonical(job) if job else job


TEXT = Text()
JOB = Job()

_COMMON = (
    click.Option(
        ["--stack"],
        type=TEXT,
        envvar=STACK,
        default=NAME,
        show_default=True,
        show_envvar=True,
        help="Name of the CloudFormation stack.",
    ),
    click.Option(["--region"], type=TEXT, help="AWS region of the stack."),
    click.Option(["--profile"], type=TEXT, help="AWS profile whose credentials are used."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document, for programs."),
)


def operation(function: Callable[..., Answer]) -> click.Command:
    """Turns a function into the command that its module is named for, with the common options.

    The function takes Given and its own options. Its docstring is the command's help.
    """
    return operations(function.__module__.rpartition(".")[2])(function)


def operations(name: str) -> Callable[[Callable[..., Answer]], click.Command]:
    """Does the same for a command with this name, such as a subcommand."""

    def made(function: Callable[..., Answer]) -> click.Command:
        @wraps(function)
        def call(
            stack: str | None, region: str | None, profile: str | None, as_json: bool, **own: Any
        ) -> int:
            context = click.get_current_context()
            out = context.find_object(Output) or Output()
            out.json = as_json
            given = Given(stack or NAME, region, profile, out)
            path = context.command_path.partition(" ")[2]
            return _run(path, given, lambda: function(given, **own))

        command = click.command(name, Helped, help=function.__doc__, context_settings=_CONTEXT)(call)
        command.params += _COMMON
        return command

    return made


_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


CHANGING = ("recompute", "accept", "redrive", "discard", "settings put", "forget")
"""The commands that change something."""

_READER_GONE = 128 + 13
"""As a shell reports a program that ended by SIGPIPE."""


def _run(path: str, given: Given, function: Callable[[], Answer]) -> int:
    """Runs a command and returns its exit status. Prints its document, and explains its errors."""
    out, answer = given.out, None
    try:
        try:
            with out.doing("Waiting for AWS"):
                answer = function()
        except Unconfirmed as ended:
            answer = ended.answer
        except Exception as error:  # noqa: BLE001  # _troubled raises bugs again
            answer = _troubled(error, given)
            if path == "recompute" and answer.status == Exit.WRONG:  # it would be a model that regressed
                answer = answer._replace(status=Exit.NO_ACCESS)
        out.document(_document(path, given.stack, answer))
        out.flush()
    except OSError as error:  # of the output
        if not isinstance(error, BrokenPipeError):  # such as a full disk
            return _unwritten(error, out)
        _stop_writing()
        # The reader has enough, such as `head`.
        # A pipeline must not take a result that it never got for a good one, or a change for made.
        return int(answer.status) if answer else _READER_GONE if path in CHANGING else int(Exit.GOOD)
    return int(answer.status)


def _document(path: str, stack: str | None, answer: Answer) -> dict[str, Any]:
    head = {"version": VERSION, "command": path, "stack": stack, "exit_status": int(answer.status)}
    return head | answer.document


def _unwritten(error: OSError, out: Output) -> int:
    """Explains an error of standard output, and returns the exit status."""
    _stop_writing()
    with suppress(OSError):
        out.say(f"✗ The output cannot be written: {error.strerror}.", "red")
    return int(Exit.USAGE)


def _stop_writing() -> None:
    """Makes the rest of the output vanish, because Python writes it again at its exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _troubled(error: Exception, given: Given) -> Answer:
    aws = type(error).__module__.startswith(("botocore.", "boto3."))
    if isinstance(error, BrokenPipeError | Unwritable) or not (
        aws or isinstance(error, Trouble | RecomputeError | OSError | UnicodeError)
    ):
        raise error
    return _explain(explained(error, given.profile), given.out)


def _explain(trouble: Trouble, out: Output) -> Answer:
    """Explains what is wrong to people, and returns the answer that explains it to programs."""
    out.explain(trouble)
    return Answer(trouble.status, {"error": {"message": str(trouble), "todo": trouble.todo}})


# --- The commands ----------------------------------------------------------------------------------------


_AFTER_THE_COMMAND = ("--stack", "--region", "--profile", "--json", "--job", "--model")
"""Options that people type before the command, as other tools want them."""


class Helped(click.Command):
    """Has its own help named after every wrong option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


class Helpful(Helped, click.Group):
    """Lists commands in the order they were added. Answers a mistyped one with the nearest known ones, and an
    option before a command with its place.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            option, first = error.option_name, self.list_commands(ctx)[0]
            if option not in _AFTER_THE_COMMAND:
                raise
            said = f"{option} comes after the command: {ctx.command_path} {first} {option}."
            raise click.UsageError(said, ctx) from error

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        typed, known = args[0], self.list_commands(ctx)
        if typed not in known and not typed.startswith("-"):
            path = " ".join([*ctx.command_path.split()[1:], repr(typed)])
            raise click.UsageError(f"There is no command {path}. {did_you_mean(typed, known)}", ctx)
        return super().resolve_command(ctx, args)


class Commands(Helpful):
    """Imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"arcanna_metrics_cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        with formatter.section("Exit status"):
            formatter.write_dl([(str(int(status)), meaning) for status, meaning in MEANINGS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [
            CompletionItem(name, help=line) for name, line in COMMANDS.items() if name.startswith(incomplete)
        ]


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"{NAME} {version()}")
        ctx.exit()


def version() -> str:
    """The project's version: from the installed package's metadata, or else from template.yaml."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed(NAME)
    except PackageNotFoundError:
        template = Path(__file__).parents[3] / "template.yaml"
        found = re.search(r"SemanticVersion: (\S+)", template.read_text(encoding="utf-8"))
        return f"{found[1] if found else 'unknown'} (not installed)"


@click.group(
    NAME,
    cls=Commands,
    invoke_without_command=True,
    context_settings=_CONTEXT,
    epilog="""All commands take --stack, --region, --profile and --json. Begin with arcanna-metrics doctor.

\b
For completion in bash (zsh and fish likewise), put this into ~/.bashrc:
  eval "$(_ARCANNA_METRICS_COMPLETE=bash_source arcanna-metrics)"
""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Operate a stack that keeps the metrics of Arcanna.ai models fresh."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None, out: Output | None = None) -> int:
    """Runs a command line, by default the process's. Returns its exit status. Raises KeyboardInterrupt."""
    out = out or Output()
    try:
        status = cli.main(
            None if arguments is None else list(arguments), NAME, standalone_mode=False, obj=out
        )
    except click.ClickException as error:
        return _misused(error, sys.argv[1:] if arguments is None else arguments, out)
    except OSError as error:  # of a help text
        return _unwritten(error, out)
    except click.Abort as error:  # click raises it for an interrupt
        raise error.__cause__ or error from None
    return int(status or 0)


def _misused(error: click.ClickException, arguments: Sequence[str], out: Output) -> int:
    out.json = "--json" in arguments
    context = getattr(error, "ctx", None)
    path = context.command_path if context else NAME
    answer = _explain(Trouble(Exit.USAGE, error.format_message(), f"type {path} --help"), out)
    out.document(_document(path.partition(" ")[2], None, answer))
    return int(answer.status)
