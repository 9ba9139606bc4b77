"""The report as one HTML page: table, plots, folds, and everything it was made of; no script, no
file beside it.

report.json (report.to_json) ──▶ report.html
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ausl_dist.evaluate.report.published import PublishedRow, published_rows
from ausl_dist.pages.svg import Plot, round_ticks

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
STYLE = """
:root { color-scheme: light dark; --ink: light-dark(#1c2126, #e4e7ea); --soft: light-dark(#d9dee3, #3a4148);
  --page: light-dark(#fff, #15181b); --c0: light-dark(#1f6fb2, #5aa9e6); --c1: #8b949c; --c2: light-dark(#c98a1b, #e0ac4e);
  --c3: light-dark(#b5503c, #e08572); --c4: light-dark(#3e8a5a, #6cc08b); --mark: light-dark(#7a2f8f, #cc8fdd); }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page);
  max-width: 980px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .2rem .55rem; border-bottom: 1px solid var(--soft); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: currentColor; }
.grid { stroke: var(--soft); } .zero, .over { stroke: var(--ink); } .interval { stroke-width: 1.5; }
.c0 { fill: var(--c0); stroke: var(--c0); } .c1 { fill: var(--c1); stroke: var(--c1); } .c2 { fill: var(--c2); stroke: var(--c2); }
.c3 { fill: var(--c3); stroke: var(--c3); } .c4 { fill: var(--c4); stroke: var(--c4); } polyline { fill: none !important; stroke-width: 2; }
.mark { stroke: var(--mark); stroke-width: 1; } .diagonal { stroke: var(--soft); }
.key { display: inline-block; margin-right: 1.2rem; } .key i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
pre { overflow-x: auto; font-size: 12px; }
"""
COLOURS = 5


def to_html(report: Mapping[str, Any]) -> str:
    """The page of a report as `report.to_json` makes it."""
    data_set = report.get("corpus", {}).get("name") or "labelled corpus"
    name = report.get("backbone", {}).get("name", "backbone")
    title = f"{name} on {data_set}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(note)}</p>" for note in report.get("notes", ())),
        _table(report),
        _bars(report, published_rows(str(data_set), report["main_score"], report["action_units"])),
        _subjects(report),
        _label_rates(report),
        _alignment(report),
        _other_scores(report),
        _folds(report),
        _identity(report),
        _made_of(report),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{escape(title)}</title><style>{STYLE}</style>'
    )
    return (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
    )


def _table(report: Mapping[str, Any]) -> str:
    score = report["main_score"]
    header = [
        TITLES[score],
        "mean",
        "pooled",
        "95 %",
        *(f"AU{unit}" for unit in report["action_units"]),
    ]
    body = []
    for row in report["rows"]:
        folds, pooled = row["mean_of_folds"][score], row["pooled"][score]
        means = [_show(folds["mean"]), _show(pooled["mean"]), _interval(pooled["interval"])]
        body.append([row["name"], *means, *map(_show, folds["per_unit"])])
    return _html_table(header, body)


def _bars(report: Mapping[str, Any], published: Sequence[PublishedRow]) -> str:
    score, units, rows = report["main_score"], report["action_units"], report["rows"][:COLOURS]
    values = [value for row in rows for value in _numbers(row["pooled"][score])] + [
        f1 / 100 for row in published for f1 in row.f1
    ]
    ticks = round_ticks(min(0.0, *values), max(0.1, *values))
    plot = Plot(940, 320, (0, len(units)), (ticks[0], ticks[-1]))
    plot.y_axis(ticks, TITLES[score])
    plot.x_axis(
        ((column + 0.5, f"AU{unit}") for column, unit in enumerate(units)),
        "action unit; all test frames, intervals over subjects",
    )
    width = 0.84 / len(rows)
    for column, unit in enumerate(units):
        for number, row in enumerate(rows):
            value, intervals = (
                row["pooled"][score]["per_unit"][column],
                row["pooled"][score]["unit_intervals"],
            )
            if value is None:
                continue
            left = column + 0.08 + number * width
            low, high = intervals[column] if intervals else (None, None)
            plot.bar(
                left,
                left + 0.9 * width,
                value,
                f"c{number}",
                f"{row['name']}, AU{unit}: {_show(value)} {_interval((low, high))}",
            )
            if low is not None and high is not None:
                plot.interval(left + 0.45 * width, low, high)
        for line in published:
            tip = f"{line.name}, AU{unit}: {line.f1[column]:.1f} % ({line.read_in})"
            plot.dash(column + 0.05, column + 0.95, line.f1[column] / 100, "mark", tip)
    text = ""
    if published:
        named = "; ".join(
            f"{line.name} {sum(line.f1) / len(line.f1):.1f} ({line.read_in})" for line in published
        )
        text = (
            f"<p>Lines across: published rows, mean of folds in per cent: {escape(named)}. "
            "They are context, not a ranking: preprocessing, "
            "extra data and the choice of epoch and threshold differ, "
            "and several chose on the test fold.</p>"
        )
    return f"<h2>By action unit</h2>{_legend(rows)}{plot.svg('Main score by action unit')}{text}"


def _subjects(report: Mapping[str, Any]) -> str:
    """Each subject's score by the first row over that by the second."""
    first, second = report["rows"][:2]
    common = [
        (subject, second["per_subject"][subject], value)
        for subject, value in first["per_subject"].items()
    ]
    points = [(subject, x, y) for subject, x, y in common if x is not None and y is not None]
    if not points:
        return ""
    values = [value for _, x, y in points for value in (x, y)]
    ticks = round_ticks(min(0.0, *values), max(0.1, *values))
    ends = (ticks[0], ticks[-1])
    plot = Plot(560, 460, ends, ends)
    plot.y_axis(ticks, first["name"])
    plot.x_axis(((value, f"{value:g}") for value in ticks), second["name"])
    plot.line([(ends[0], ends[0]), (ends[1], ends[1])], "diagonal")
    for subject, x, y in points:
        plot.dot(x, y, "c0", f"{subject}: {first['name']} {_show(y)}, {second['name']} {_show(x)}")
    rows = [
        [subject, _show(y), _show(x)]
        for subject, x, y in sorted(points, key=lambda point: point[2])
    ]
    table = _html_table(["subject", first["name"], second["name"]], rows)
    score = escape(TITLES[report["main_score"]])
    note = (
        f"<p>{score} of each test subject alone, mean over action units; "
        f"above the line {escape(first['name'])} is better.</p>"
    )
    return (
        "<h2>By "
        f"subject</h2>{note}{plot.svg('Score of each subject')}{_folded('All subjects, worst first', table)}"
    )


def _label_rates(report: Mapping[str, Any]) -> str:
    curve = sorted(report.get("label_rates", ()), key=lambda point: point["share"])
    if not curve:
        return ""
    names = list(curve[0]["rows"])[:COLOURS]
    values = [value for point in curve for name in names for value in _numbers(point["rows"][name])]
    ticks = round_ticks(min(0.0, *values), max(0.1, *values))
    logs = [math.log10(point["share"]) for point in curve]
    plot = Plot(700, 320, (min(logs) - 0.1, max(logs) + 0.1), (ticks[0], ticks[-1]))
    plot.y_axis(ticks, TITLES[report["main_score"]])
    labels = [f"{100 * point['share']:g} %" for point in curve]
    plot.x_axis(zip(logs, labels, strict=True), "training frames that keep their labels")
    for number, name in enumerate(names):
        shift = 0.01 * number  # intervals of several rows stand beside each other
        points = zip(logs, curve, strict=True)
        found = [
            (log + shift, point["rows"][name])
            for log, point in points
            if point["rows"][name]["pooled"] is not None
        ]
        plot.line(((log, row["pooled"]) for log, row in found), f"c{number}")
        for log, row in found:
            if row["interval"]:
                low, high = row["interval"]
                plot.interval(log, low, high, f"c{number}")
            plot.dot(
                log,
                row["pooled"],
                f"c{number}",
                f"{name}: {_show(row['pooled'])} {_interval(row['interval'] or (None, None))}",
            )
    note = (
        f"<p>Labels drawn at random with seed {curve[0]['seed']}; all test frames, "
        "intervals over subjects.</p>"
    )
    return (
        "<h2>With fewer "
        f"labels</h2>{note}{_legend([{'name': name} for name in names])}{plot.svg('Score by share of labels')}"
    )


def _alignment(report: Mapping[str, Any]) -> str:
    lines = report.get("alignment", ())
    if not lines:
        return ""
    right = lines[0]["score"]
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines[1:]:
        kinds.setdefault(line["kind"], []).append(line)
    rows = [
        [f"{kind} {line['amount']:g}", _show(line["score"]), f"{line['score'] - right:+.3f}"]
        for kind in kinds
        for line in kinds[kind]
    ]
    values = [line["score"] for line in lines]
    ticks = round_ticks(min(0.0, *values), max(0.1, *values))
    plot = Plot(940, 260, (-0.5, len(rows) - 0.5), (ticks[0], ticks[-1]))
    plot.y_axis(ticks, TITLES[report["main_score"]])
    plot.x_axis(((number, row[0].split()[-1]) for number, row in enumerate(rows)), "; ".join(kinds))
    plot.dash(-0.5, len(rows) - 0.5, right, "mark", f"right crops: {_show(right)}")
    start = 0
    for number, (kind, found) in enumerate(kinds.items()):
        plot.line(
            ((start + place, line["score"]) for place, line in enumerate(found)), f"c{number}"
        )
        for place, line in enumerate(found):
            plot.dot(
                start + place,
                line["score"],
                f"c{number}",
                f"{kind} {line['amount']:g}: {_show(line['score'])}",
            )
        start += len(found)
    note = (
        f"<p>{escape(report['rows'][0]['name'])} on test crops that are shifted (share of the "
        "side), scaled (size of the face) or turned "
        f"(degrees); the level line is the score on right crops, {_show(right)}.</p>"
    )
    table = _html_table(["crop", TITLES[report["main_score"]], "change"], rows)
    legend = _legend([{"name": kind} for kind in kinds])
    return f"<h2>Alignment</h2>{note}{legend}{plot.svg('Score on disturbed crops')}{_folded('Numbers', table)}"


def _other_scores(report: Mapping[str, Any]) -> str:
    names = list(report["rows"][0]["pooled"])
    body = [
        [row["name"], *(_show(row["mean_of_folds"][name]["mean"]) for name in names)]
        for row in report["rows"]
    ]
    table = _html_table(["", *(TITLES[name] for name in names)], body)
    return f"<h2>Other scores</h2><p>Mean over action units, then over folds.</p>{table}"


def _folds(report: Mapping[str, Any]) -> str:
    score = report["main_score"]
    names = list(report["folds"])
    body = [
        [row["name"], *(_show(row["folds"][name]["scores"][score]["mean"]) for name in names)]
        for row in report["rows"]
    ]
    who = "".join(
        f"<li>{escape(name)}: {escape(', '.join(report['folds'][name]))}</li>" for name in names
    )
    table = _html_table([TITLES[score], *names], body)
    return f"<h2>Folds</h2>{table}{_folded('Test subjects', f'<ul>{who}</ul>')}"


def _identity(report: Mapping[str, Any]) -> str:
    leaks = report.get("identity_leak", {})
    if not leaks:
        return ""
    title = "<h2>Identity in the features</h2>"
    if "not measured" in leaks:
        return f"{title}<p>Not measured: {escape(leaks['not measured'])}.</p>"
    body = [[name, _show(leak["accuracy"]), _show(leak["chance"])] for name, leak in leaks.items()]
    note = (
        "<p>Share of frames whose subject a linear probe names, and the share that guessing "
        "would.</p>"
    )
    return f"{title}{note}{_html_table(['', 'named', 'chance'], body)}"


def _made_of(report: Mapping[str, Any]) -> str:
    wanted = {
        name: report[name]
        for name in ("backbone", "corpus", "frames_left_out", "settings")
        if name in report
    }
    text = escape(json.dumps(wanted, indent=1, ensure_ascii=False))
    return (
        f"<h2>What it was made of</h2>{_folded('Backbone, corpus, settings', f'<pre>{text}</pre>')}"
    )


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _legend(rows: Iterable[Mapping[str, Any]]) -> str:
    keys = [
        f'<i style="background: var(--c{number})"></i>{escape(row["name"])}'
        for number, row in enumerate(rows)
    ]
    return "<p>" + "".join(f'<span class="key">{key}</span>' for key in keys) + "</p>"


def _numbers(value: Any) -> list[float]:
    """Every number in a score of the report, intervals included."""
    if isinstance(value, Mapping):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [float(value)] if isinstance(value, int | float) else []


def _html_table(header: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in body
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _show(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(bounds: Sequence[float | None] | None) -> str:
    return "–" if bounds is None or None in bounds else f"[{_show(bounds[0])}, {_show(bounds[1])}]"
