"""A stack that exercises the local cloud: its template, its functions and its layer."""

from pathlib import Path

TEMPLATE = Path(__file__).parent / "template.yaml"
