"""Draw two panels of lines with bands as a small SVG file, for light and dark pages.

The same values give the same bytes. The picture has a background of its own, so that it can be
read on any page; its colours follow the reader's light or dark setting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor

from fedmosaic.experiments.statistics import Interval

WIDTH, HEIGHT = 500, 272
PANEL_WIDTH, PANEL_HEIGHT, TOP = 194, 174, 34
LEFTS = (36, 288)  # left edges of the two panels
STEPS = (1, 2, 5, 10, 20, 50)
STYLE = """
svg { color-scheme: light dark; font: 12px system-ui, sans-serif }
.paper { fill: #ffffff } .text { fill: #1f2328 } .soft { fill: #59636e }
.grid { stroke: #d8dee4 } .line { fill: none; stroke-width: 2 } .band { opacity: .16 }
.main { stroke: #0072b2; color: #0072b2 } .reference { stroke: #7f7f7f; color: #7f7f7f }
.band, .dot { fill: currentColor; stroke: none }
@media (prefers-color-scheme: dark) {
.paper { fill: #16191d } .text { fill: #e6edf3 } .soft { fill: #a0aab4 } .grid { stroke: #333b44 }
.main { stroke: #56b4e9; color: #56b4e9 } .reference { stroke: #9a9a9a; color: #9a9a9a }
}
"""

Curve = Sequence[Interval]


@dataclass(frozen=True)
class Line:
    """Describe a line of every panel.

    Attributes:
        label: its name in the legend.
        kind: ``main`` (blue) or ``reference`` (grey).
        curves: its points by the title of a panel.
    """

    label: str
    kind: str
    curves: Mapping[str, Curve]


def panel_limits(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return limits of the vertical axis that hold all means and intervals, multiples of 5."""
    low = min(point.mean - (point.half or 0.0) for curve in curves for point in curve)
    high = max(point.mean + (point.half or 0.0) for curve in curves for point in curve)
    return 5.0 * floor(low / 5), 5.0 * ceil(high / 5)


def line_chart(
    title: str, lines: Sequence[Line], limits: Mapping[str, tuple[float, float]], across: str
) -> str:
    """Return the picture as the text of an SVG file.

    Args:
        title: what the picture shows, for readers who do not see it.
        lines: the lines in drawing order.
        limits: limits of the vertical axis by the title of each of the two panels.
        across: name of the horizontal axis, whose values are 1, 2, 3, …
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
    ]
    for left, (name, (low, high)) in zip(LEFTS, limits.items(), strict=True):
        count = max(len(line.curves[name]) for line in lines)
        panel = _Panel(left, low, high, count)
        parts += panel.frame(name, across)
        for line in lines:
            parts += panel.line(line.kind, line.curves[name])
    parts += _legend(lines)
    return "\n".join([*parts, "</svg>", ""])


@dataclass(frozen=True)
class _Panel:
    left: int
    low: float
    high: float
    count: int

    def x(self, index: int) -> float:
        return self.left + PANEL_WIDTH * (index / max(1, self.count - 1))

    def y(self, value: float) -> float:
        return TOP + PANEL_HEIGHT * (self.high - value) / (self.high - self.low)

    def frame(self, name: str, across: str) -> list[str]:
        """Return the title, the grid and the labels of both axes."""
        middle, bottom = self.left + PANEL_WIDTH / 2, TOP + PANEL_HEIGHT
        parts = [f'<text class="text" x="{self.left}" y="{TOP - 12}">{escape(name)}</text>']
        step = next(s for s in STEPS if (self.high - self.low) / s <= 6)
        value = step * ceil(self.low / step)
        while value <= self.high:
            y = self.y(value)
            parts.append(
                f'<path class="grid" d="M{self.left} {y:.1f}h{PANEL_WIDTH}"/>'
                f'<text class="soft" x="{self.left - 7}" y="{y + 4:.1f}" text-anchor="end">'
                f"{value:g}</text>"
            )
            value += step
        for index in range(self.count):
            parts.append(
                f'<text class="soft" x="{self.x(index):.1f}" y="{bottom + 17}" '
                f'text-anchor="middle">{index + 1}</text>'
            )
        parts.append(
            f'<text class="soft" x="{middle:g}" y="{bottom + 33}" text-anchor="middle">'
            f"{escape(across)}</text>"
        )
        return parts

    def line(self, kind: str, curve: Curve) -> list[str]:
        """Return the band, the line and the dots of a curve."""
        means = [(self.x(i), self.y(point.mean)) for i, point in enumerate(curve)]
        upper = [(self.x(i), self.y(p.mean + (p.half or 0.0))) for i, p in enumerate(curve)]
        lower = [(self.x(i), self.y(p.mean - (p.half or 0.0))) for i, p in enumerate(curve)]
        parts = [f'<g class="{kind}">']
        if any(point.half for point in curve):
            parts.append(f'<path class="band" d="{_path([*upper, *reversed(lower)])}Z"/>')
        parts.append(f'<path class="line" d="{_path(means)}"/>')
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in means]
        return [*parts, "</g>"]


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _legend(lines: Sequence[Line]) -> list[str]:
    parts, x, y = [], LEFTS[0], HEIGHT - 10
    for line in reversed(lines):
        parts.append(
            f'<g class="{line.kind}"><path class="line" d="M{x} {y - 4}h18"/>'
            f'<circle class="dot" cx="{x + 9}" cy="{y - 4}" r="3"/></g>'
            f'<text class="text" x="{x + 25}" y="{y}">{escape(line.label)}</text>'
        )
        x += 50 + 7 * len(line.label)
    return parts
