"""Starts `arcanna-metrics`, also as `python -m arcanna_metrics_cli`."""

from arcanna_metrics_cli.command_line import main
from arcanna_metrics_cli.endpoint import reach_loopback_directly
from arcanna_metrics_cli.process import run


def start() -> None:
    """Runs the command and exits with its status."""
    reach_loopback_directly()
    run(main)


if __name__ == "__main__":
    start()
