"""The documentation as data, for tests that compare it with the code and the template."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "events/README.md", "functions/RUNBOOK.md", "layers/README.md")


@cache
def _text() -> str:
    return "\n".join((ROOT / name).read_text() for name in NAMES)


def section(title: str) -> str:
    """A section of any page, with its subsections. Raises ValueError if there is no such section."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", _text(), re.MULTILINE)
    if not found:
        raise ValueError(f"no page has a section {title!r}")
    rest = _text()[found.end() :]
    return re.split(rf"^#{{1,{len(found[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def headings(text: str) -> list[str]:
    """The headings of the subsections in the text."""
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def anchor_of(heading: str) -> str:
    """The fragment of a link to this heading."""
    return heading.lower().replace(" ", "-")


def table(text: str, first_column: str) -> list[list[str]]:
    """The cells of each row of the table whose first column has that name."""
    _, _, rest = text.partition(f"\n| {first_column} |")
    rows = re.match(r"[^\n]*\n\|[- |]+\n((?:\|.*\n)*)", rest)
    if not rows:
        raise ValueError(f"there is no table of {first_column!r}")
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows[1].splitlines()]


def runbook() -> list[str]:
    """The sections of the runbook."""
    text = (ROOT / "functions/RUNBOOK.md").read_text()
    return re.findall(r"^## (.+)$", text, re.MULTILINE)
