"""`make deploy URL=https://arcanna.example.com`: builds, deploys, stores the key, runs the doctor.

Exits with 0 if the stack is deployed, 1 if SAM could not build or deploy it, and 2 if an argument or the
shell's AWS credentials are wrong. With 2, nothing was built or changed.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from samtranslator.yaml_helper import yaml_parse

from arcanna_metrics_cli.endpoint import reach_loopback_directly
from arcanna_metrics_cli.process import run
from tests.tools.deploy.account import Account, Stack
from tests.tools.deploy.given import Given, Wrong, as_override, asked_key, check_together, read

WORDS = ("URL", "EMAIL", "BUCKET", "STACK", "KEY_FILE", "ARGS")


class Failed(Exception):
    """SAM failed and has printed why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns the exit status."""
    words = _words(arguments)
    try:
        template: dict[str, Any] = yaml_parse(Path("template.yaml").read_text())  # type: ignore[no-untyped-call]
        given = read(words, template)
        account = Account.of_the_shell()
        stack = account.stack(given.stack)
        values = _checked(given, account, stack, template)
        key = _key(given, account, stack, values)
        _say(
            f"{'A new stack' if stack.is_new else 'An update of the stack'} {stack.name}, in the account"
            f" {account.number} and the region {account.region}."
        )
    except Wrong as error:
        _say(f"✗ {error}")  # without a full stop, so that the command can be copied
        return 2
    except (BotoCoreError, ClientError) as error:
        _say(f"✗ {error}")
        return 2
    try:
        _deploy(given, account.region, template, values)
        deployed = account.stack(given.stack)
        if key:
            account.put_key(deployed.outputs["ApiKeySecretArn"], key)
            _say(f"The key is in the secret {deployed.outputs['ApiKeySecretArn']}.")
    except Failed as failed:
        _say(f"✗ {failed}")
        return 1
    except (Wrong, BotoCoreError, ClientError) as error:
        _say(f"✗ The stack is deployed, but: {error}. Type the same again.")
        return 1
    _say("\nWhat stops it from working, if anything (make doctor):")
    well = _doctor(account.region, given.stack)
    _tell_what_is_next(deployed, well=well)
    return 0


def _checked(given: Given, account: Account, stack: Stack, template: Mapping[str, Any]) -> Mapping[str, str]:
    """The value of every parameter after the deployment. Raises Wrong."""
    if stack.is_new and "ArcannaBaseUrl" not in given.overrides:
        raise Wrong(
            f"There is no stack {given.stack} in {account.region} yet, and the first deployment needs the"
            " address of Arcanna. Type make deploy URL=https://arcanna.example.com"
        )
    values = check_together(template, stack.parameters, given.overrides)
    if bucket := given.overrides.get("TrainingDataBucketName"):
        account.check_bucket(bucket)
    return values


def _key(given: Given, account: Account, stack: Stack, values: Mapping[str, str]) -> str | None:
    """The key for the secret. None if the secret stays unchanged. Raises Wrong."""
    if values.get("ApiKeySecretField"):
        if given.key:
            raise Wrong(
                "KEY_FILE would replace the whole secret, of which the key is only the field"
                f" {values['ApiKeySecretField']}. Put the key there yourself, and leave KEY_FILE out"
            )
        return None
    if given.key or values["ApiKeySecretArn"]:  # of another region or account, perhaps; the doctor looks
        return given.key
    # The stack's own secret is empty at first.
    own = None if stack.parameters.get("ApiKeySecretArn") else stack.outputs.get("ApiKeySecretArn")
    return asked_key() if own is None or account.is_empty(own) else None


def _deploy(given: Given, region: str, template: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """Raises Failed."""
    sam = str(Path(sys.executable).parent / "sam")
    architecture, default = values["Architecture"], template["Parameters"]["Architecture"]["Default"]
    build = [sam, "build"]
    if architecture != default:
        build += ["--parameter-overrides", as_override("Architecture", architecture)]
    # Not samconfig.toml, where `sam deploy --guided` keeps the answers for one stack.
    deploy = [
        sam,
        "deploy",
        "--config-file",
        "samconfig.yaml",
        "--stack-name",
        given.stack,
        "--s3-prefix",  # without it, `sam delete` would also delete the artifacts of other stacks
        given.stack,
        "--region",
        region,
    ]
    deploy += ["--no-confirm-changeset", "--no-fail-on-empty-changeset"]
    if given.overrides:
        deploy += ["--parameter-overrides", *(as_override(*item) for item in given.overrides.items())]
    for command in (build, deploy):
        _say(f"\n$ {shlex.join([_typed(command[0]), *command[1:]])}")
        if subprocess.run(command, env=_environment(region), check=False).returncode:  # noqa: S603
            raise Failed(
                f"sam {command[1]} failed. Its message is above. Mend the cause, then type the same again"
            )


def _typed(program: str) -> str:
    """The command as typed in the project's folder."""
    path = Path(program)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else program


def _doctor(region: str, stack: str) -> bool:
    command = [sys.executable, "-m", "arcanna_metrics_cli", "doctor", f"--stack={stack}"]
    return not subprocess.run(command, env=_environment(region), check=False).returncode  # noqa: S603


def _environment(region: str) -> dict[str, str]:
    """The environment of SAM, without the variables that make sets for the project's own Python."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k not in WORDS}
    return {
        **kept,
        "AWS_DEFAULT_REGION": region,
        "SAM_CLI_TELEMETRY": os.environ.get("SAM_CLI_TELEMETRY", "0"),
    }


def _tell_what_is_next(stack: Stack, *, well: bool) -> None:
    bucket = stack.outputs["TrainingDataBucket"]
    _say(f"\n{stack.name} is deployed" + ("." if well else ", but the lines with ✗ need your attention."))
    _say(
        "Next, upload labelled alerts of a job (1234 is its id in Arcanna) and see its metrics become fresh."
        " S3 may not report what is uploaded in the first five minutes of a new bucket:"
    )
    _say(f"  aws s3 cp alerts.csv s3://{bucket}/training-data/1234/")
    _say(f"  make status{'' if stack.name == 'arcanna-metrics' else f' STACK={stack.name}'}")
    _say("Links:")
    for name, value in stack.outputs.items():
        if name.endswith("Link"):
            _say(f"  {stack.described[name]}:\n    {value}")


def _say(text: str) -> None:
    print(text, flush=True)  # SAM's output follows


def _words(arguments: Sequence[str] | None) -> dict[str, str]:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.deploy", description=__doc__)
    for word in WORDS:
        option = f"--{word.lower().replace('_', '-')}"
        parser.add_argument(option, default="arcanna-metrics" if word == "STACK" else "", dest=word)
    return vars(parser.parse_args(arguments))


if __name__ == "__main__":
    reach_loopback_directly()
    run(main)
