"""Starts `arcanna-metrics`, also as `python -m arcanna_metrics_cli`."""

import sys


def start() -> None:
    """Runs the command and exits with its status."""
    # An interrupt before `run` handles it, such as during these imports, prints no traceback.
    sys.excepthook = lambda kind, *e: None if kind is KeyboardInterrupt else sys.__excepthook__(kind, *e)

    from arcanna_metrics_cli.command_line import main
    from arcanna_metrics_cli.endpoint import reach_loopback_directly
    from arcanna_metrics_cli.process import run

    reach_loopback_directly()
    run(main)


if __name__ == "__main__":
    start()
