"""The plots of an evaluation's page: bars by action unit, subjects against each other, scores
by share of labels and on disturbed crops.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ausl_dist.evaluate.report.published import PublishedRow
from ausl_dist.pages.plot import COLOURS, Margins, Plot, Tick, colour_class
from ausl_dist.pages.ticks import ticks_around
from ausl_dist.units import title_of

TITLES = {
    "icc": "ICC(3,1)",
    "mae": "MAE",
    "mse": "MSE",
    "pcc": "PCC",
    "f1": "F1 at 0.5",
    "f1_chosen": "F1 chosen",
    "f1_skew_normalised": "F1 skew-normalised",
    "f1_always_on": "F1 always on",
    "accuracy": "accuracy",
    "auc": "AUC",
    "average_precision": "AP",
}
ROWS = len(COLOURS)  # drawn at most
# of a picture of rows: pixels a row, and its name's letters a line and lines at most
ROW_WIDTH, NAME_WIDTH, NAME_LINES = 96, 15, 5

Lines = Mapping[
    str, Sequence[Mapping[str, Any]]
]  # of the alignment meter, by kind of disturbance


def units_plot(report: Mapping[str, Any], published: Sequence[PublishedRow]) -> str:
    """A bar for each row and action unit, its interval, and published rows as lines across."""
    score, units, rows = report["main_score"], report["action_units"], report["rows"][:ROWS]
    values = [value for row in rows for value in _numbers(row["pooled"][score])]
    values += [f1 / 100 for row in published for f1 in row.f1]
    plot = _plot(940, 320, (0, len(units)), values, TITLES[score])
    ticks = [(column + 0.5, title_of(unit)) for column, unit in enumerate(units)]
    plot.x_axis(ticks, "action unit; all test frames, intervals over subjects")
    width = 0.84 / len(rows)
    for number, row in enumerate(rows):
        _bars_of(plot, row, row["pooled"][score], units, number, width)
    for line in published:
        for column, (unit, f1) in enumerate(zip(units, line.f1, strict=True)):
            tip = f"{line.name}, {title_of(unit)}: {f1:.1f} % ({line.read_in})"
            plot.dash(column + 0.05, column + 0.95, f1 / 100, "beside", tip)
    return plot.svg("Main score by action unit")


def _bars_of(
    plot: Plot,
    row: Mapping[str, Any],
    pooled: Mapping[str, Any],
    units: Sequence[int],
    number: int,
    width: float,
) -> None:
    intervals = pooled["unit_intervals"] or [None] * len(units)
    for column, (unit, value) in enumerate(zip(units, pooled["per_unit"], strict=True)):
        if value is None:
            continue
        left = column + 0.08 + number * width
        tip = (
            f"{row['name']}, {title_of(unit)}: {show(value)} {show_interval(intervals[column])}"
        )
        plot.bar(left, left + 0.9 * width, value, colour_class(number), tip)
        _interval(plot, left + 0.45 * width, intervals[column], "over")


def rows_picture(report: Mapping[str, Any]) -> str:
    """The main score of each row with its interval over subjects, as a picture that stands
    alone.
    """
    score, rows = report["main_score"], report["rows"]
    values = [value for row in rows for value in _numbers(row["pooled"][score]["mean"])]
    values += [
        value for row in rows for value in _numbers(row["pooled"][score]["interval"] or [])
    ]
    plot = _plot(
        100 + ROW_WIDTH * len(rows), 380, (0, len(rows)), values, TITLES[score], bottom=120
    )
    for number, row in enumerate(rows):
        pooled, middle = row["pooled"][score], number + 0.5
        tip = f"{row['name']}: {show(pooled['mean'])} {show_interval(pooled['interval'])}"
        if pooled["mean"] is not None:
            plot.bar(middle - 0.3, middle + 0.3, pooled["mean"], colour_class(number), tip)
        _interval(plot, middle, pooled["interval"], "over")
        for line, words in enumerate(textwrap.wrap(row["name"], NAME_WIDTH)):
            plot.under(middle, line, words)
        plot.under(middle, NAME_LINES, show(pooled["mean"]))
    return plot.file(f"{TITLES[score]} of each row, intervals over subjects")


def subjects_plot(points: Sequence[tuple[str, float, float]], first: str, second: str) -> str:
    """A dot for each subject (name, score by the second row, score by the first)."""
    values = [value for _, x, y in points for value in (x, y)]
    ticks = ticks_around(min(0.0, *values), max(0.1, *values))
    plot = _plot(560, 460, (ticks[0], ticks[-1]), values, first)
    plot.x_axis(_labelled(ticks), second)
    plot.line([(ticks[0], ticks[0]), (ticks[-1], ticks[-1])], "grid")
    for subject, x, y in points:
        tip = f"{subject}: {first} {show(y)}, {second} {show(x)}"
        plot.dot(x, y, colour_class(0), tip)
    return plot.svg("Score of each subject")


def label_rates_plot(curve: Sequence[Mapping[str, Any]], title: str) -> str:
    """The score of each row over the share of labels, on a logarithmic axis."""
    names = list(curve[0]["rows"])[:ROWS]
    values = [
        value for point in curve for name in names for value in _numbers(point["rows"][name])
    ]
    logs = [math.log10(point["share"]) for point in curve]
    plot = _plot(700, 320, (min(logs) - 0.1, max(logs) + 0.1), values, title)
    labels = [f"{100 * point['share']:g} %" for point in curve]
    plot.x_axis(list(zip(logs, labels, strict=True)), "training frames that keep their labels")
    for number, name in enumerate(names):
        shift = 0.01 * number  # intervals of several rows stand beside each other
        rows = [point["rows"][name] for point in curve]
        found = [
            (log + shift, row)
            for log, row in zip(logs, rows, strict=True)
            if row["pooled"] is not None
        ]
        plot.line([(log, row["pooled"]) for log, row in found], colour_class(number))
        for log, row in found:
            _interval(plot, log, row["interval"], colour_class(number))
            tip = f"{name}: {show(row['pooled'])} {show_interval(row['interval'])}"
            plot.dot(log, row["pooled"], colour_class(number), tip)
    return plot.svg("Score by share of labels")


def alignment_plot(right: float, kinds: Lines, title: str) -> str:
    """The score over each kind of disturbance, side by side; level, that on right crops."""
    amounts = [line["amount"] for lines in kinds.values() for line in lines]
    values = [right, *(line["score"] for lines in kinds.values() for line in lines)]
    plot = _plot(940, 260, (-0.5, len(amounts) - 0.5), values, title)
    ticks = [(number, f"{amount:g}") for number, amount in enumerate(amounts)]
    plot.x_axis(ticks, "; ".join(kinds))
    plot.dash(-0.5, len(amounts) - 0.5, right, "beside", f"right crops: {show(right)}")
    place = 0
    for number, (kind, lines) in enumerate(kinds.items()):
        points = [(place + step, line["score"]) for step, line in enumerate(lines)]
        plot.line(points, colour_class(number))
        for (x, y), line in zip(points, lines, strict=True):
            plot.dot(x, y, colour_class(number), f"{kind} {line['amount']:g}: {show(y)}")
        place += len(lines)
    return plot.svg("Score on disturbed crops")


def show(value: float | None) -> str:
    """A score in a table."""
    return "–" if value is None else f"{value:.3f}"


def show_interval(bounds: Sequence[float | None] | None) -> str:
    """An interval in a table."""
    return (
        "–" if bounds is None or None in bounds else f"[{show(bounds[0])}, {show(bounds[1])}]"
    )


def _plot(
    width: int,
    height: int,
    x: tuple[float, float],
    values: Sequence[float],
    title: str,
    *,
    bottom: float = Margins.bottom,
) -> Plot:
    """A plot whose upright axis holds these scores, and nought."""
    ticks = ticks_around(min([0.0, *values]), max([0.1, *values]))
    plot = Plot(width, height, x, (ticks[0], ticks[-1]), Margins(bottom=bottom))
    plot.y_axis(_labelled(ticks), title)
    return plot


def _labelled(ticks: Sequence[float]) -> list[Tick]:
    return [(value, f"{value:g}") for value in ticks]


def _interval(plot: Plot, x: float, bounds: Sequence[float | None] | None, style: str) -> None:
    if bounds and bounds[0] is not None and bounds[1] is not None:
        plot.interval(x, bounds[0], bounds[1], style)


def _numbers(value: Any) -> list[float]:
    """Every number in a score of the report, intervals included."""
    if isinstance(value, Mapping):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []
