"""One plot as SVG text: no script, no network, readable by screen readers and on paper.

    Plot(width, height, x, y) ──axes, line, area, bar, interval, dash, dot, mark──▶ .svg(what it shows)

Places are given in data units. Colours are numbers, shared by every page (`COLOURS`); what a
mark stands for is its tooltip.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

# Okabe and Ito's palette: told apart also by those who do not see red and green alike.
COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#7f7f7f",
    "#b8a800",
)
_PALETTE = "\n".join(
    f".c{number} {{ --c: {colour}; }}" for number, colour in enumerate(COLOURS)
)
_COLOUR_CLASSES = ", ".join(f".c{number}" for number in range(len(COLOURS)))
# how the classes of a plot's parts look, on a page and in a file of its own
PLOT_STYLE = f"""svg text {{ font-size: 11px; fill: currentColor; }}
svg .grid {{ stroke: #8884; }}
svg .zero, svg .over {{ stroke: currentColor; }}
svg .interval {{ stroke-width: 1.5; }}
svg .mark {{ stroke: #56b4e9; stroke-dasharray: 3 3; stroke-width: 1.5; }}
svg .bad {{ stroke: #d55e00; stroke-width: 1.5; }}
svg .beside {{ stroke: #7a2f8f; stroke-width: 1.5; }}
svg :is({_COLOUR_CLASSES}) {{ fill: var(--c); stroke: var(--c); }}
svg polyline {{ fill: none !important; stroke-width: 1.5; stroke-linecap: round; }}
svg polygon {{ fill-opacity: .7; stroke: none !important; }}
{_PALETTE}"""

Range = tuple[float, float]
Point = tuple[float, float]
Tick = tuple[float, str]


@dataclass(frozen=True)
class Margins:
    """Room around the plot area, pixels."""

    left: float = 64
    right: float = 12
    top: float = 12
    bottom: float = 42


def colour_class(number: int) -> str:
    """The page's class of a colour; there are as many as the palette has, then they come again."""
    return f"c{number % len(COLOURS)}"


class Plot:
    """A plot area of `width` by `height` pixels over the ranges x and y."""

    def __init__(
        self, width: int, height: int, x: Range, y: Range, margins: Margins | None = None
    ) -> None:
        self._width, self._height = width, height
        self._x, self._y = x, y
        self._margins = margins or Margins()
        self._right = width - self._margins.right
        self._bottom = height - self._margins.bottom
        self._parts: list[str] = []

    def x_axis(self, ticks: Iterable[Tick], title: str = "") -> None:
        """Labels under the plot at these places, and what they are."""
        for value, label in ticks:
            self.under(value, 0, label)
        if title:
            middle = (self._margins.left + self._right) / 2
            self._text(middle, self._height - 6, title, "middle")

    def under(self, x: float, line: int, words: str) -> None:
        """Words in the n-th line under the plot."""
        self._text(self._place(x, 0)[0], self._bottom + 16 + 14 * line, words, "middle")

    def y_axis(self, ticks: Iterable[Tick], title: str = "") -> None:
        """A line across the plot at each tick, its label, and what they are."""
        left = self._margins.left
        for value, label in ticks:
            y = self._place(0, value)[1]
            self._stroke("zero" if value == 0 else "grid", (left, y), (self._right, y))
            self._text(left - 6, y + 4, label, "end")
        if title:
            middle = (self._margins.top + self._bottom) / 2
            turned = f'transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle"'
            self._parts.append(f"<text {turned}>{escape(title)}</text>")

    def line(self, points: Sequence[Point], style: str) -> None:
        """A curve; of a single point, a dot by the page's round line ends."""
        if points:
            drawn = points if len(points) > 1 else [points[0], points[0]]
            self._parts.append(f'<polyline class="{style}" points="{self._path(drawn)}"/>')

    def area(self, upper: Sequence[Point], lower: Sequence[Point], style: str) -> None:
        """What lies between two curves."""
        around = self._path([*upper, *reversed(lower)])
        self._parts.append(f'<polygon class="{style}" points="{around}"/>')

    def bar(self, left: float, right: float, value: float, style: str, tip: str) -> None:
        """From zero to the value."""
        (x0, y0), (x1, y1) = self._place(left, 0), self._place(right, value)
        top, height = min(y0, y1), max(abs(y1 - y0), 0.5)
        shape = f'x="{x0:.1f}" y="{top:.1f}" width="{x1 - x0:.1f}" height="{height:.1f}"'
        self._parts.append(f'<rect class="{style}" {shape}>{_tip(tip)}</rect>')

    def interval(self, x: float, low: float, high: float, style: str = "over") -> None:
        """An upright line between two values."""
        self._stroke(f"interval {style}", self._place(x, low), self._place(x, high))

    def dash(self, left: float, right: float, value: float, style: str, tip: str) -> None:
        """A short level line, for values to compare with."""
        self._stroke(style, self._place(left, value), self._place(right, value), tip)

    def mark(self, x: float, style: str, tip: str) -> None:
        """A moment: an upright line through the plot; nothing where it lies outside."""
        if self._x[0] <= x <= self._x[1]:
            across = self._place(x, 0)[0]
            self._stroke(style, (across, self._margins.top), (across, self._bottom), tip)

    def dot(self, x: float, y: float, style: str, tip: str) -> None:
        """A point with its words."""
        px, py = self._place(x, y)
        place = f'cx="{px:.1f}" cy="{py:.1f}" r="4"'
        self._parts.append(f'<circle class="{style}" {place}>{_tip(tip)}</circle>')

    def svg(self, describe: str) -> str:
        """The plot; `describe` is what a screen reader says of it."""
        size = f'viewBox="0 0 {self._width} {self._height}" style="max-width: {self._width}px"'
        label = escape(describe, quote=True)
        return f'<svg {size} role="img" aria-label="{label}">{"".join(self._parts)}</svg>'

    def file(self, describe: str) -> str:
        """The plot as an SVG file of its own, on white: an image for other pages to show."""
        size = f'viewBox="0 0 {self._width} {self._height}" width="{self._width}"'
        names = 'xmlns="http://www.w3.org/2000/svg" font-family="system-ui, sans-serif"'
        ground = f'<rect width="{self._width}" height="{self._height}" fill="white"/>'
        inside = f"<title>{escape(describe)}</title><style>{PLOT_STYLE}</style>{ground}"
        return f'<svg {names} {size} role="img">{inside}{"".join(self._parts)}</svg>\n'

    def _place(self, x: float, y: float) -> Point:
        (x0, x1), (y0, y1) = self._x, self._y
        wide, high = self._right - self._margins.left, self._bottom - self._margins.top
        across = self._margins.left + (x - x0) / (x1 - x0) * wide
        return across, self._bottom - (y - y0) / (y1 - y0) * high

    def _path(self, points: Sequence[Point]) -> str:
        return " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (self._place(*point) for point in points)
        )

    def _stroke(self, style: str, start: Point, end: Point, tip: str = "") -> None:
        ends = f'x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"'
        inside = f">{_tip(tip)}</line>" if tip else "/>"
        self._parts.append(f'<line class="{style}" {ends}{inside}')

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        self._parts.append(f"<text {place}>{escape(text)}</text>")


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>"
