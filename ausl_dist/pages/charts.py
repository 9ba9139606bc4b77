"""Whole charts with caption and key, drawn with plot.py: curves, stacked areas, small
multiples, histograms.

    Series(name, xs, ys) ──▶ lines(...) / areas(...) / panels(...) ──▶ "<figure>…"

A y of None is a gap. Where there is nothing to draw there is no chart, and `is_flat` tells what
is better said in words: a curve that never moves.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ausl_dist.pages.plot import Margins, Plot, colour_class
from ausl_dist.pages.ticks import ticks_within

WIDTH, HEIGHT = 480, 220  # of a chart, pixels: three stand side by side on a usual screen
PANEL_WIDTH, PANEL_HEIGHT = 220, 100
CHART_MARGINS = Margins(left=58, top=10, bottom=38)
PANEL_MARGINS = Margins(left=46, right=8, top=6, bottom=8)
HISTOGRAM_MARGINS = Margins(left=22, right=22, top=6, bottom=22)  # half a label at each end
BINS = 24
MAX_DOTS = 40

Say = Callable[[float], str]


@dataclass(frozen=True)
class Series:
    """One curve; xs increase. `colour` keeps a thing's colour through several charts."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    colour: int | None = None

    @property
    def points(self) -> list[tuple[float, float]]:
        """The points that are no gap."""
        return [(x, y) for x, y in zip(self.xs, self.ys, strict=True) if y is not None]


@dataclass(frozen=True)
class Mark:
    """A moment: drawn as an upright line with its words as a tooltip."""

    x: float
    text: str
    bad: bool


def say_number(value: float) -> str:
    """A number on an axis."""
    return f"{value:.4g}"


def is_flat(series: Iterable[Series]) -> bool:
    """Whether no curve has anything to show: none of its values differs from another."""
    return all(len({y for _, y in one.points}) < 2 for one in series)


def lines(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    say: Say = say_number,
    marks: Sequence[Mark] = (),
) -> str:
    """Curves over one another; empty where there is nothing to draw."""
    values = [y for one in series for _, y in one.points]
    if not values:
        return ""
    low, high = _padded(min(values), max(values))
    plot = _chart([x for one in series for x in one.xs], low, high, x_label, say)
    for number, one in enumerate(series):
        for piece in _pieces(one):
            plot.line(piece, _style(one, number))
            if len(piece) == 1:  # no line: a run's first value, or one between gaps
                (x, y), *_ = piece
                plot.dot(x, y, _style(one, number), f"{x:,.6g}: {say(y)}")
    return _figure(plot, label, series, marks)


def image(one: Series, *, label: str, x_label: str, say: Say = say_number) -> str:
    """One curve as an SVG file of its own, a dot for each point where there are few."""
    ys = [y for _, y in one.points]
    low, high = _padded(min(ys), max(ys))
    plot = _chart(one.xs, low, high, x_label, say)
    for piece in _pieces(one):
        plot.line(piece, colour_class(0))
    if len(one.points) <= MAX_DOTS:
        for x, y in one.points:
            plot.dot(x, y, colour_class(0), f"{x:,.6g}: {say(y)}")
    return plot.file(label)


def areas(
    series: Sequence[Series],
    *,
    label: str,
    x_label: str,
    say: Say = say_number,
    marks: Sequence[Mark] = (),
) -> str:
    """Areas stacked on one another, the first at the bottom, all over the same xs; empty where
    all are nought.
    """
    if not any(y for one in series for y in one.ys):
        return ""
    xs = series[0].xs
    sums = [[0.0] * len(xs)]
    for one in series:
        sums.append([base + (y or 0.0) for base, y in zip(sums[-1], one.ys, strict=True)])
    plot = _chart(xs, 0.0, max(sums[-1]), x_label, say)
    for number, one in enumerate(series):
        upper = list(zip(xs, sums[number + 1], strict=True))
        plot.area(upper, list(zip(xs, sums[number], strict=True)), _style(one, number))
    return _figure(plot, label, series, marks)


def panels(
    groups: Sequence[tuple[str, Sequence[Series]]], *, label: str, say: Say = say_number
) -> str:
    """Small multiples: one little chart for each group of curves, its last value in its name."""
    drawn = [_panel(name, series, say) for name, series in groups if not is_flat(series)]
    if not drawn:
        return ""
    body = f'<div class="panels">{"".join(drawn)}</div>'
    return f"<figure><figcaption>{escape(label)}</figcaption>{body}</figure>"


def _panel(name: str, series: Sequence[Series], say: Say) -> str:
    points = [point for one in series for point in one.points]
    xs, ys = zip(*points, strict=True)
    low, high = _padded(min(ys), max(ys))
    plot = Plot(PANEL_WIDTH, PANEL_HEIGHT, _spread(xs), (low, high), PANEL_MARGINS)
    plot.y_axis([(value, say(value)) for value in ticks_within(low, high, 2)])
    for number, one in enumerate(series):
        for piece in _pieces(one):
            plot.line(piece, _style(one, number))
    last = [one.points[-1][1] for one in series if one.points]
    value = say(last[0]) if len(last) == 1 else f"{say(min(last))} – {say(max(last))}"
    caption = f"<span>{escape(name)} <b>{escape(value)}</b></span>"
    return f"<div>{caption}{plot.svg(f'{name}, at the end {value}')}</div>"


def histogram(values: Sequence[float], *, label: str) -> str:
    """How values spread, over bins of equal width; empty where there is none."""
    if not len(values):
        return ""
    counts, edges = np.histogram(values, BINS)
    ends = (float(edges[0]), float(edges[-1]))
    plot = Plot(PANEL_WIDTH, PANEL_HEIGHT + 18, ends, (0, int(counts.max())), HISTOGRAM_MARGINS)
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        if count:
            tip = f"{left:.4g} to {right:.4g}: {count}"
            plot.bar(float(left), float(right), count, colour_class(0), tip)
    plot.x_axis([(value, say_number(value)) for value in _told(values, ends)])
    return f"<figure><figcaption>{escape(label)}</figcaption>{plot.svg(label)}</figure>"


def _told(values: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """What stands under a histogram: round numbers; its ends where fewer than two lie inside."""
    low, high = float(min(values)), float(max(values))
    if low == high:
        return [low]
    inside = [value for value in ticks_within(*ends, 3) if ends[0] <= value <= ends[1]]
    return inside if len(inside) > 1 else [low, high]


def key(names: Sequence[tuple[str, int]]) -> str:
    """What the colours stand for: names with the numbers of their colours."""
    entries = "".join(
        f'<span><i class="{colour_class(colour)}"></i>{escape(name)}</span>'
        for name, colour in names
        if name
    )
    return f'<div class="key">{entries}</div>' if entries else ""


def _chart(xs: Sequence[float], low: float, high: float, x_label: str, say: Say) -> Plot:
    around = _spread(xs)
    plot = Plot(WIDTH, HEIGHT, around, (low, high), CHART_MARGINS)
    plot.y_axis([(value, say(value)) for value in ticks_within(low, high)])
    plot.x_axis([(value, f"{value:,.6g}") for value in ticks_within(*around)], x_label)
    return plot


def _figure(plot: Plot, label: str, series: Sequence[Series], marks: Sequence[Mark]) -> str:
    for one in marks:
        plot.mark(one.x, "bad" if one.bad else "mark", one.text)
    names = [(one.name, _colour(one, number)) for number, one in enumerate(series)]
    inside = f"<figcaption>{escape(label)}</figcaption>{plot.svg(label)}{key(names)}"
    return f"<figure>{inside}</figure>"


def _pieces(series: Series) -> list[list[tuple[float, float]]]:
    """The curve cut at its gaps."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(series.xs, series.ys, strict=True):
        if y is None:
            pieces.append([])
        else:
            pieces[-1].append((x, y))
    return [piece for piece in pieces if piece]


def _colour(series: Series, number: int) -> int:
    return number if series.colour is None else series.colour


def _style(series: Series, number: int) -> str:
    return colour_class(_colour(series, number))


def _spread(xs: Sequence[float]) -> tuple[float, float]:
    low, high = min(xs), max(xs)
    return low, high if high > low else low + 1


def _padded(low: float, high: float) -> tuple[float, float]:
    """A little air above and below; a constant gets a band of its own."""
    margin = 0.05 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin
