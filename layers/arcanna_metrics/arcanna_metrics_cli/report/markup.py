"""HTML and SVG elements that escape their content and attributes."""

import re

from markupsafe import Markup, escape

NO_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters that no HTML document may contain."""


def element(tag: str, /, *children: str, **attributes: str | float) -> Markup:
    """An element. Escapes children that are not Markup.

    `class_` becomes `class`, and `aria_label` becomes `aria-label`.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(number(value)))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{tag}{shown}>{join(*children)}</{tag}>")  # noqa: S704 - all parts are escaped


def join(*children: str) -> Markup:
    """The children one after the other, escaped if they are not Markup."""
    return Markup("").join(child if isinstance(child, Markup) else clean(child) for child in children)


def clean(text: str) -> str:
    """The text with replacements for characters that no HTML document may contain."""
    return NO_CHARACTERS.sub("\ufffd", text)


def visible(value: object) -> object:
    """A value as a template shows it: nothing for None, and cleaned text."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return clean(value)
    return "" if value is None else value


def number(value: str | float) -> str:
    """A coordinate in tenths of a pixel; other text as it is."""
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
