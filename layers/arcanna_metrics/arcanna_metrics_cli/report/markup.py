"""HTML and SVG elements that escape all they are given."""

import re

from markupsafe import Markup, escape

NO_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What no HTML document may contain."""


def element(tag: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """An element. Children that are no Markup are escaped; `None` leaves an attribute out.

    Of attribute names, a trailing underscore is cut and others become hyphens: `class_`, `aria_label`.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(number(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{shown}>{join(*children)}</{tag}>")  # noqa: S704 - all parts are escaped


def join(*children: str) -> Markup:
    """The children one after the other, escaped where they are no Markup."""
    return Markup("").join(child if isinstance(child, Markup) else clean(child) for child in children)


def clean(text: str) -> str:
    """The text without what no document may contain."""
    return NO_CHARACTERS.sub("\ufffd", text)


def visible(value: object) -> object:
    """What a template shows of a value: nothing of None, and of text what a document may contain."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value)
    return "" if value is None else value


def number(value: str | float) -> str:
    """A coordinate with a precision that is enough for pixels."""
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


def counted(count: int, noun: str) -> str:
    """The count with its noun in the number that fits."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
