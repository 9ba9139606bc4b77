"""Small plots as SVG text, for a page that is one file: axes, bars with intervals, lines and dots,
each with a tooltip of its numbers.
"""

import math
from collections.abc import Iterable, Sequence
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 42  # margins, pixels
Range = tuple[float, float]


class Plot:
    """A plot area; x and y are data units, styles are CSS classes of the page."""

    def __init__(self, width: int, height: int, x: Range, y: Range) -> None:
        self._size, self._x, self._y = (width, height), x, y
        self._parts: list[str] = []

    def x_axis(self, ticks: Iterable[tuple[float, str]], title: str) -> None:
        """Labels under the plot at these places, and what they are."""
        width, height = self._size
        for value, label in ticks:
            self._text(self._at(value, 0)[0], height - BOTTOM + 16, label, "middle")
        self._text((LEFT + width - RIGHT) / 2, height - 6, title, "middle")

    def y_axis(self, ticks: Sequence[float], title: str) -> None:
        """A line across the plot at each tick, its number, and what they are."""
        width, _ = self._size
        for value in ticks:
            y = self._at(0, value)[1]
            style = "zero" if value == 0 else "grid"
            self._parts.append(
                f'<line class="{style}" x1="{LEFT}" y1="{y:.1f}" x2="{width - RIGHT}" '
                f'y2="{y:.1f}"/>'
            )
            self._text(LEFT - 6, y + 4, f"{value:g}", "end")
        middle = (TOP + self._size[1] - BOTTOM) / 2
        self._parts.append(
            f'<text transform="translate(12 {middle:.1f}) rotate(-90)" '
            f'text-anchor="middle">{escape(title)}</text>'
        )

    def bar(self, left: float, right: float, value: float, style: str, tip: str) -> None:
        """From zero to the value."""
        (x0, y0), (x1, y1) = self._at(left, 0), self._at(right, value)
        shape = (
            f'x="{x0:.1f}" y="{min(y0, y1):.1f}" width="{x1 - x0:.1f}" '
            f'height="{max(abs(y1 - y0), 0.5):.1f}"'
        )
        self._parts.append(f'<rect class="{style}" {shape}>{_tip(tip)}</rect>')

    def interval(self, x: float, low: float, high: float, style: str = "over") -> None:
        (px, bottom), (_, top) = self._at(x, low), self._at(x, high)
        self._parts.append(
            f'<line class="interval {style}" x1="{px:.1f}" y1="{bottom:.1f}" x2="{px:.1f}" '
            f'y2="{top:.1f}"/>'
        )

    def dash(self, left: float, right: float, value: float, style: str, tip: str) -> None:
        """A short level line, for values to compare with."""
        (x0, y), (x1, _) = self._at(left, value), self._at(right, value)
        self._parts.append(
            f'<line class="{style}" x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" '
            f'y2="{y:.1f}">{_tip(tip)}</line>'
        )

    def line(self, points: Iterable[tuple[float, float]], style: str) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self._at(*point) for point in points))
        self._parts.append(f'<polyline class="{style}" points="{path}"/>')

    def dot(self, x: float, y: float, style: str, tip: str) -> None:
        px, py = self._at(x, y)
        self._parts.append(
            f'<circle class="{style}" cx="{px:.1f}" cy="{py:.1f}" r="4">{_tip(tip)}</circle>'
        )

    def svg(self, describe: str) -> str:
        """The plot; `describe` is what a screen reader says of it."""
        width, height = self._size
        attributes = (
            f'viewBox="0 0 {width} {height}" style="max-width: '
            f'{width}px" role="img" aria-label="{escape(describe, quote=True)}"'
        )
        return f"<svg {attributes}>{''.join(self._parts)}</svg>"

    def _at(self, x: float, y: float) -> tuple[float, float]:
        width, height = self._size
        (x0, x1), (y0, y1) = self._x, self._y
        across = (x - x0) / (x1 - x0) * (width - LEFT - RIGHT) + LEFT
        return across, height - BOTTOM - (y - y0) / (y1 - y0) * (height - TOP - BOTTOM)

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )


def round_ticks(low: float, high: float) -> list[float]:
    """About five round numbers that cover [low, high], zero among them where it lies inside."""
    span = max(high - low, 1e-6)
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _tip(text: str) -> str:
    return f"<title>{escape(text)}</title>"
