"""`make local`: the stack, the reference server and a live report on this machine, until interrupted.

Ports and the bucket's name are the same each time, so that open pages and saved commands keep working. If a
port is in use, the stack takes another one.
"""

import logging
import os
import shlex
import socket
import sys
import time
from pathlib import Path

from arcanna_metrics_cli.deployed import Deployed
from arcanna_metrics_cli.process import run
from arcanna_metrics_cli.report import Gatherer, build
from arcanna_metrics_cli.report.watch import Watch
from tests.support.arcanna.platform import Behaviour
from tests.support.installation import Installation, Ports, alone, installation
from tests.support.local_cloud.cloud import PROJECT
from tests.tools.arcanna import ARCANNA, BUCKET, HOWS, JOBS

PORTS = Ports(aws=8566, arcanna=8666)
REPORT = 8765
COMMAND = PROJECT / "build" / "command" / "bin" / "arcanna-metrics"
REFRESH = 2.0
"""Seconds."""


def main(name: str) -> None:
    """Runs until interrupted. Logs are in build/`name`, variables in build/`name`.env."""
    from moto.moto_api._internal import mock_random  # after tests.support.this_machine

    logging.getLogger("moto").setLevel(logging.CRITICAL)  # moto's interpreter logs every Choice as an error
    mock_random.seed(name)  # moto's names of resources, such as the bucket's, are random
    file = Path("build", f"{name}.env")
    with alone(name, f"Another make local is running. Use it (. {file}), or end it with Ctrl-C first."):
        ports = Ports(_free(PORTS.aws), _free(PORTS.arcanna))
        with installation(JOBS, Behaviour(delay=0.5, duration=3.0), name, ports) as here:
            os.environ |= here.cloud.variables
            looks = Gatherer(Deployed(here.cloud.variables["STACK"]))
            watch = Watch(lambda: build(looks.look(time.time()), refresh=REFRESH), REFRESH, _free(REPORT))
            watch.start()
            commands = _commands(PROJECT / "build" / name / "bin")
            file.write_text(_environment(here, commands), encoding="utf-8")
            try:
                print(_welcome(here, watch.url, file), flush=True)
                while True:
                    time.sleep(1)  # Python handles a signal to another thread only between two sleeps
            finally:
                file.unlink(missing_ok=True)  # a shell that reads it later would find no stack behind it
                watch.stop()


def _free(port: int) -> int:
    """The port, or 0 if it is in use."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return port
    except OSError:
        return 0


def _commands(folder: Path) -> Path:
    """Fills a folder for PATH with `arcanna` and `arcanna-metrics`, so that scripts also find them."""
    folder.mkdir(parents=True, exist_ok=True)
    python, root = shlex.quote(sys.executable), shlex.quote(str(PROJECT))
    arcanna = folder / "arcanna"
    arcanna.write_text(
        f"#!/bin/sh\ncd {root} && PYTHONPATH=layers/arcanna_metrics exec {python} -m tests.tools.arcanna"
        ' "$@"\n',
        encoding="utf-8",
    )
    arcanna.chmod(0o755)
    (folder / COMMAND.name).unlink(missing_ok=True)
    (folder / COMMAND.name).symlink_to(COMMAND)
    return folder


def _environment(here: Installation, commands: Path) -> str:
    """The commands that set up a POSIX shell for an operator of this stack."""
    variables = {**here.cloud.variables, ARCANNA: here.arcanna.url, BUCKET: here.bucket}
    exports = "\n".join(f"export {key}={shlex.quote(value)}" for key, value in variables.items())
    return (
        "# Variables of the stack that make local runs. Read them in a shell: . build/local.env\n"
        "unset AWS_PROFILE AWS_DEFAULT_PROFILE HTTP_PROXY http_proxy\n"
        f"{exports}\n"
        f'export PATH={shlex.quote(str(commands))}:"$PATH"\n'
    )


def _welcome(here: Installation, report: str, file: Path) -> str:
    hows = "\n".join(f"  arcanna {name:<15} {how.says}" for name, how in HOWS.items())
    return f"""
The live report is {report}
Arcanna is {here.arcanna.url}, the bucket {here.bucket}.
Ctrl-C stops everything.

In another shell:

  . {file}

  make status             how fresh each model is; or arcanna-metrics status, recompute, redrive, accept ...
  arcanna upload          new training data of job 1234: a recompute follows; or arcanna upload 77
  arcanna upload --worse  training data that makes the model worse

Break Arcanna, watch the report, and try the remedies of functions/RUNBOOK.md:

{hows}
  arcanna malformed       a message that becomes a dead letter (Dead letters)

After arcanna slow, Arcanna stays busy with the long recompute until arcanna well.
The logs are in {file.with_suffix("") / "logs"}. Links to the AWS console lead nowhere here.
The settings make runs fast; settings put replaces them all. To keep them: settings show, edit, put.
To get them back, start make local again.
"""


if __name__ == "__main__":
    run(lambda: main(*(sys.argv[1:] or ["local"])))
