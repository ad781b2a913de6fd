"""HTML and SVG elements that escape all they are given."""

import html
import re

NO_CHARACTERS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
"""What no HTML document may contain."""


class Markup(str):
    """Text that is markup, and so is not escaped again."""

    __slots__ = ()


def element(tag: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """An element. Children that are no Markup are escaped; `None` leaves an attribute out.

    Of attribute names, a trailing underscore is cut and others become hyphens: `class_`, `aria_label`.
    """
    shown = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag == "meta":
        return Markup(f"<{tag}{shown}>")
    return Markup(f"<{tag}{shown}>{join(*children)}</{tag}>")


def join(*children: str) -> Markup:
    """The children one after the other, escaped where they are no Markup."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def escape(text: str) -> str:
    """The text as it may stand in an element or an attribute."""
    return html.escape(NO_CHARACTERS.sub("\ufffd", text))


def name(text: str, **attributes: str) -> Markup:
    """A name that comes from outside: whichever way it is written, what stands around it stays in place."""
    return element("bdi", text, **attributes)


def number(value: str | float) -> str:
    """A coordinate with a precision that is enough for pixels."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def seconds(value: float) -> str:
    """A time or duration for people."""
    return f"{value:.1f} s"


def counted(count: int, noun: str) -> str:
    """The count with its noun in the number that fits."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
