"""Curves on logarithmic axes, as SVG: small panels with one legend. The same figures give the same bytes."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

COLUMNS, WIDTH, HEIGHT, LEFT, ABOVE, GAP = 3, 230, 180, 48, 30, 34
COLOURS = ("#888888", "#b58900", "#268bd2", "#6c71c4", "#2aa198", "#859900", "#cb4b16", "#d33682")
STRONG = ("#dc322f", "#000000", "#f08a88")
Point = tuple[float, float]


class Curve(NamedTuple):
    """A named curve. `mark` is an emphasised point on it."""

    name: str
    points: Sequence[Point]
    mark: Point | None


class Panel(NamedTuple):
    """Some curves on the same axes."""

    title: str
    curves: Sequence[Curve]


def drawn(panels: Sequence[Panel], across: str, up: str, strong: Sequence[str] = ()) -> str:
    """The picture. `strong` curves are thicker and have their own colours."""
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    others = iter(COLOURS)
    colours = {name: STRONG[strong.index(name)] if name in strong else next(others) for name in names}
    rows = -(-len(panels) // COLUMNS)
    width = COLUMNS * (LEFT + WIDTH) + GAP
    below = ABOVE + rows * (HEIGHT + ABOVE + GAP)
    box = f"0 0 {width} {below + 18 * -(-len(names) // 3) + 40}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="18">{escape(up)} (up) over {escape(across)} (across); dots: defaults</text>',
    ]
    for number, panel in enumerate(panels):
        x = LEFT + number % COLUMNS * (LEFT + WIDTH)
        y = 2 * ABOVE + number // COLUMNS * (HEIGHT + ABOVE + GAP)
        lines += _panel(panel, x, y, colours, strong)
    for number, name in enumerate(names):
        x, y = LEFT + number % 3 * (LEFT + WIDTH), below + 30 + number // 3 * 18
        thick = 3 if name in strong else 1.5
        lines.append(f'<path d="M{x} {y}h24" stroke="{colours[name]}" stroke-width="{thick}"/>')
        lines.append(f'<text x="{x + 30}" y="{y + 4}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, x: float, y: float, colours: dict[str, str], strong: Sequence[str]) -> Iterator[str]:
    points = [point for curve in panel.curves for point in curve.points]
    lowest, highest = ([f(p[n] for p in points) for n in (0, 1)] for f in (min, max))
    highest[0] = min(highest[0], 40.0)

    def place(point: Point) -> Point:
        parts = [
            math.log(min(max(value, low), high) / low) / math.log(high / low)
            for value, low, high in zip(point, lowest, highest, strict=True)
        ]
        return x + WIDTH * parts[0], y + HEIGHT * (1 - parts[1])

    yield f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#cccccc"/>'
    yield f'<text x="{x}" y="{y - 6}" font-weight="bold">{escape(panel.title)}</text>'
    for axis in (0, 1):
        for value in _ticks(lowest[axis], highest[axis]):
            at = place((value, lowest[1]) if axis == 0 else (lowest[0], value))[axis]
            if axis == 0:
                yield f'<path d="M{at:.1f} {y}v{HEIGHT}" stroke="#eeeeee"/>'
                yield f'<text x="{at:.1f}" y="{y + HEIGHT + 13}" text-anchor="middle">{value:g}</text>'
            else:
                yield f'<path d="M{x} {at:.1f}h{WIDTH}" stroke="#eeeeee"/>'
                yield f'<text x="{x - 4}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    for curve in panel.curves:
        inside = [place(point) for point in sorted(curve.points) if point[0] <= highest[0]]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in inside)
        thick = 2.5 if curve.name in strong else 1.2
        yield (
            f'<polyline points="{path}" fill="none" stroke="{colours[curve.name]}" stroke-width="{thick}"/>'
        )
        if curve.mark:
            px, py = place(curve.mark)
            yield f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colours[curve.name]}"/>'


def _ticks(low: float, high: float) -> Iterator[float]:
    """The values 1, 2 and 5 of each decade."""
    for decade in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in (1, 2, 5):
            if low <= (value := step * 10.0**decade) <= high:
                yield value
