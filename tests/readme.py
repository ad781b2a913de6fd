"""The README as data, for tests that hold it against the code and the template."""

import re
from functools import cache
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


@cache
def _text() -> str:
    return README.read_text()


def section(title: str) -> str:
    """A section with its subsections. Raises ValueError where there is none."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", _text(), re.MULTILINE)
    if not found:
        raise ValueError(f"the README has no section {title!r}")
    rest = _text()[found.end() :]
    return re.split(rf"^#{{1,{len(found[1])}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def headings(text: str) -> list[str]:
    """The headings of its subsections."""
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def table(text: str, first_column: str) -> list[list[str]]:
    """The rows of the table whose first column has that name, cell by cell."""
    _, _, rest = text.partition(f"\n| {first_column} |")
    rows = re.match(r"[^\n]*\n\|[- |]+\n((?:\|.*\n)*)", rest)
    if not rows:
        raise ValueError(f"there is no table of {first_column!r}")
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in rows[1].splitlines()]
