"""Key patterns of routes, and the templates of their targets.

In a pattern `*` matches anything, `?` one character, and `{name}` a path segment or the variable part of one.
`*` and `{name}` match as little as they can. In a template `{name}` is what the pattern's `{name}` matched:
str.format_map fills it in.
"""

import re

_PLACEHOLDER = re.compile(r"\{([a-z_]\w*)\}", re.ASCII | re.IGNORECASE)
_TOKEN = re.compile(rf"{_PLACEHOLDER.pattern}|(\?)|([^{{}}?]+)", re.ASCII | re.IGNORECASE)
_AMBIGUOUS = re.compile(r"\}(?:[*?]|[^/*]*\{)")


def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern's regular expression, which never takes more than quadratic time, whatever the key.

    What precedes a `*` is an atomic group: its first match is the one that ends earliest, which leaves the
    most to the rest, so that no other needs to be tried. This holds only while a path segment has no more
    than one placeholder, with text after it: see `problem`.
    """
    first, *others = pattern.split("*")
    *closed, last = [_regex(first), *(".*?" + _regex(other) for other in others)]
    return re.compile("".join(f"(?>{part})" for part in closed) + last, re.DOTALL)


def problem(pattern: str) -> str | None:
    """Why the pattern cannot be used; None if it can."""
    names = placeholders(pattern)
    if len(set(names)) < len(names):
        return "it has a placeholder twice"
    if _AMBIGUOUS.search(pattern):
        return (
            "it is ambiguous: after a placeholder there must be text or the end, and a path segment may have"
            " only one placeholder"
        )
    return stray_brace(pattern)


def _regex(part: str) -> str:
    return "".join(
        f"(?P<{name}>[^/]+?)" if name else "." if mark else re.escape(literal)
        for name, mark, literal in _TOKEN.findall(part)
    )


def placeholders(template: str) -> list[str]:
    """The names of a pattern's or template's placeholders."""
    return _PLACEHOLDER.findall(template)


def stray_brace(template: str) -> str | None:
    """Why the template cannot be used if a brace is not part of a placeholder; None if each one is."""
    stray = set("{}") & set(_PLACEHOLDER.sub("", template))
    return "it has a brace that is not part of a {name}" if stray else None
