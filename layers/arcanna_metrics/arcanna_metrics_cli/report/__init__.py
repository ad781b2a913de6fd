"""The report, one HTML page about a stack's models. A Gatherer reads the stack, `build` makes the page."""

from arcanna_metrics_cli.report.gather import Gatherer
from arcanna_metrics_cli.report.page import build

__all__ = ["Gatherer", "build"]
