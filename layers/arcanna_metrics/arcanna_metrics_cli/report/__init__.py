"""One HTML page of how a stack's models stand: a Gatherer looks at it, `build` makes the page."""

from arcanna_metrics_cli.report.gather import Gatherer
from arcanna_metrics_cli.report.page import build

__all__ = ["Gatherer", "build"]
