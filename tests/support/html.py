"""An HTML document as a tree of elements."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "input"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str | None]
    children: list["Element | str"] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, tag: str | None = None, class_: str | None = None) -> list["Element"]:
        """All descendants, in the order of the document."""
        inside = [
            found for child in self.children if isinstance(child, Element) for found in (child, *child.all())
        ]
        return [e for e in inside if tag in (None, e.tag) and (class_ is None or class_ in e.classes)]


class _Parser(HTMLParser):
    """Builds the tree. Every element must be closed, unless it is a void element."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attributes))
        self._open[-1].children.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)

    def close(self) -> None:
        super().close()
        assert self._open == [self.root]


def parse(document: str) -> Element:
    """The root of the document. Raises AssertionError if an element is not closed."""
    parser = _Parser()
    parser.feed(document)
    parser.close()
    return parser.root


def vocabulary(document: Element) -> set[tuple[str, str]]:
    """All element names with the names of their attributes."""
    return {(e.tag, name) for e in document.all() for name in ("", *e.attributes)}
