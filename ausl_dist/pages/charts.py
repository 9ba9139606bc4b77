"""Line and area charts as inline SVG: no script, no network, readable by screen readers and on
paper.

    Series(name, xs, ys) ──▶ lines(...) / areas(...) ──▶ "<svg …>"

A y of None is a gap. Marks are vertical lines at an x: restarts, faults.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 34
# Okabe and Ito's palette: told apart also by those who do not see red and green alike.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a800")
TICKS = 5


@dataclass(frozen=True)
class Series:
    """One curve; xs increase."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]


@dataclass(frozen=True)
class Mark:
    """A moment: drawn as a vertical line with its words as a tooltip."""

    x: float
    text: str
    bad: bool


def lines(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    say: Callable[[float], str] = lambda y: f"{y:.4g}",
    marks: Sequence[Mark] = (),
) -> str:
    """Curves over one another; empty where there is nothing to draw."""
    values = [y for one in series for y in one.ys if y is not None]
    if not values:
        return ""
    low, high = _padded(min(values), max(values))
    frame = _Frame.around([x for one in series for x in one.xs], low, high)
    drawn = [_polyline(one, frame, COLOURS[i % len(COLOURS)]) for i, one in enumerate(series)]
    return _picture(frame, drawn, [one.name for one in series], label, x_label, say, marks)


def areas(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    say: Callable[[float], str] = lambda y: f"{y:.4g}",
    marks: Sequence[Mark] = (),
) -> str:
    """Areas stacked on one another, the first at the bottom; all series have the same xs."""
    if not series or not series[0].xs:
        return ""
    xs = series[0].xs
    bottoms = [[0.0] * len(xs)]
    for one in series:
        bottoms.append([base + (y or 0.0) for base, y in zip(bottoms[-1], one.ys, strict=True)])
    frame = _Frame.around(xs, 0.0, max(max(bottoms[-1]), 1e-12))
    drawn = []
    for i in range(len(series)):
        upper = [
            f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, bottoms[i + 1], strict=True)
        ]
        lower = [f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, bottoms[i], strict=True)]
        drawn.append(
            f'<polygon points="{" ".join([*upper, *reversed(lower)])}" '
            f'fill="{COLOURS[i % len(COLOURS)]}" fill-opacity="0.7"/>'
        )
    return _picture(frame, drawn, [one.name for one in series], label, x_label, say, marks)


@dataclass(frozen=True)
class _Frame:
    """From values to pixels."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    @classmethod
    def around(cls, xs: Sequence[float], y_low: float, y_high: float) -> "_Frame":
        low, high = min(xs), max(xs)
        return cls(low, high if high > low else low + 1, y_low, y_high)

    def x(self, value: float) -> float:
        return LEFT + (value - self.x_low) / (self.x_high - self.x_low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.y_high - value) / (self.y_high - self.y_low) * (HEIGHT - TOP - BOTTOM)


def _polyline(series: Series, frame: _Frame, colour: str) -> str:
    pieces: list[list[str]] = [[]]
    for x, y in zip(series.xs, series.ys, strict=True):
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append(f"{frame.x(x):.1f},{frame.y(y):.1f}")
    # A single point has no line; a round cap makes it a dot.
    style = f'fill="none" stroke="{colour}" stroke-width="1.5" stroke-linecap="round"'
    return "".join(
        f'<polyline points="{" ".join(piece if len(piece) > 1 else piece * 2)}" {style}/>'
        for piece in pieces
        if piece
    )


def _picture(
    frame: _Frame,
    drawn: list[str],
    names: list[str],
    label: str,
    x_label: str,
    say: Callable[[float], str],
    marks: Sequence[Mark],
) -> str:
    grid = []
    for value in ticks(frame.y_low, frame.y_high):
        y = frame.y(value)
        grid.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        grid.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(say(value))}</text>'
        )
    below = f'y="{HEIGHT - BOTTOM + 16}" text-anchor="middle"'
    grid += [
        f'<text x="{frame.x(value):.1f}" {below}>{value:,.6g}</text>'
        for value in ticks(frame.x_low, frame.x_high)
    ]
    grid.append(
        f'<text x="{(WIDTH + LEFT) / 2:.0f}" y="{HEIGHT - 4}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    flags = [
        f'<line class="{"bad" if mark.bad else "mark"}" x1="{frame.x(mark.x):.1f}" '
        f'x2="{frame.x(mark.x):.1f}" y1="{TOP}" '
        f'y2="{HEIGHT - BOTTOM}"><title>{escape(mark.text)}</title></line>'
        for mark in marks
        if frame.x_low <= mark.x <= frame.x_high
    ]
    key = "".join(
        f'<span><i style="background:{COLOURS[i % len(COLOURS)]}"></i>{escape(name)}</span>'
        for i, name in enumerate(names)
        if name
    )
    svg = (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join([*grid, *drawn, *flags])}</svg>'
    )
    return (
        f"<figure><figcaption>{escape(label)}</figcaption>{svg}<div "
        f'class="key">{key}</div></figure>'
    )


def ticks(low: float, high: float, count: int = TICKS) -> list[float]:
    """Round numbers between two values, about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    """A little air above and below; a constant gets a band of its own."""
    margin = 0.05 * (high - low) or max(abs(high) * 0.1, 1e-9)
    return low - margin, high + margin
