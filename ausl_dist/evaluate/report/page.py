"""The report as one HTML page: table, plots, folds, and everything it was made of; no script,
no file beside it.

report.json (report.to_json) ──▶ report.html
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ausl_dist.evaluate.report.plots import (
    ROWS,
    TITLES,
    alignment_plot,
    label_rates_plot,
    show,
    show_interval,
    subjects_plot,
    units_plot,
)
from ausl_dist.evaluate.report.published import PublishedRow, published_rows
from ausl_dist.pages.charts import key
from ausl_dist.pages.page import folded, note, page, section, table, verbatim
from ausl_dist.units import title_of


def to_html(report: Mapping[str, Any]) -> str:
    """The page of a report as `report.to_json` makes it."""
    data_set = str(report.get("corpus", {}).get("name") or "labelled corpus")
    name = report.get("backbone", {}).get("name", "backbone")
    title = f"{name} on {data_set}"
    published = published_rows(data_set, report["main_score"], report["action_units"])
    parts = [
        f"<h1>{escape(title)}</h1>",
        _table(report),
        *map(note, report.get("notes", ())),
        section("By action unit", _units(report, published)),
        section("By subject", _subjects(report)),
        section("With fewer labels", _label_rates(report)),
        section("Alignment", _alignment(report)),
        section("Other scores", _other_scores(report)),
        section("Folds", _folds(report)),
        section("Identity in the features", _identity(report)),
        section("What it was made of", _made_of(report)),
    ]
    return page(title, "".join(parts))


def _table(report: Mapping[str, Any]) -> str:
    score = report["main_score"]
    units = [title_of(unit) for unit in report["action_units"]]
    body = []
    for row in report["rows"]:
        folds, pooled = row["mean_of_folds"][score], row["pooled"][score]
        means = [show(folds["mean"]), show(pooled["mean"]), show_interval(pooled["interval"])]
        body.append([row["name"], *means, *map(show, folds["per_unit"])])
    return table([TITLES[score], "mean", "pooled", "95 %", *units], body, numbers=True)


def _units(report: Mapping[str, Any], published: Sequence[PublishedRow]) -> str:
    said = ""
    if published:
        named = "; ".join(
            f"{line.name} {sum(line.f1) / len(line.f1):.1f} ({line.read_in})"
            for line in published
        )
        said = (
            f"Lines across: published rows, mean of folds in per cent: {named}. "
            "They are context, not a ranking: preprocessing, extra data and the choice of epoch "
            "and threshold differ, and several chose on the test fold."
        )
    names = [row["name"] for row in report["rows"]]
    return _key(names) + units_plot(report, published) + note(said)


def _subjects(report: Mapping[str, Any]) -> str:
    """Each subject's score by the first row over that by the second."""
    first, second = report["rows"][:2]
    points = [
        (subject, second["per_subject"][subject], value)
        for subject, value in first["per_subject"].items()
        if value is not None and second["per_subject"][subject] is not None
    ]
    if not points:
        return ""
    said = (
        f"{TITLES[report['main_score']]} of each test subject alone, mean over action units; "
        f"above the line {first['name']} is better."
    )
    worst_first = sorted(points, key=lambda point: point[2])
    rows = [[subject, show(y), show(x)] for subject, x, y in worst_first]
    numbers = table(["subject", first["name"], second["name"]], rows, numbers=True)
    plot = subjects_plot(points, first["name"], second["name"])
    return note(said) + plot + folded("All subjects, worst first", numbers)


def _label_rates(report: Mapping[str, Any]) -> str:
    curve = sorted(report.get("label_rates", ()), key=lambda point: point["share"])
    if not curve:
        return ""
    said = (
        f"Labels drawn at random with seed {curve[0]['seed']}; all test frames, "
        "intervals over subjects."
    )
    names = list(curve[0]["rows"])
    return note(said) + _key(names) + label_rates_plot(curve, TITLES[report["main_score"]])


def _alignment(report: Mapping[str, Any]) -> str:
    lines = report.get("alignment", ())
    if not lines:
        return ""
    right, title = lines[0]["score"], TITLES[report["main_score"]]
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines[1:]:
        kinds.setdefault(line["kind"], []).append(line)
    rows = [
        [f"{kind} {line['amount']:g}", show(line["score"]), f"{line['score'] - right:+.3f}"]
        for kind in kinds
        for line in kinds[kind]
    ]
    said = (
        f"{report['rows'][0]['name']} on test crops that are shifted (share of the side), scaled "
        f"(size of the face) or turned (degrees); the level line is the score on right crops, "
        f"{show(right)}."
    )
    numbers = table(["crop", title, "change"], rows, numbers=True)
    plot = alignment_plot(right, kinds, title)
    return note(said) + _key(list(kinds)) + plot + folded("Numbers", numbers)


def _other_scores(report: Mapping[str, Any]) -> str:
    names = list(report["rows"][0]["pooled"])
    body = [
        [row["name"], *(show(row["mean_of_folds"][name]["mean"]) for name in names)]
        for row in report["rows"]
    ]
    titles = ["", *(TITLES[name] for name in names)]
    return note("Mean over action units, then over folds.") + table(titles, body, numbers=True)


def _folds(report: Mapping[str, Any]) -> str:
    score, names = report["main_score"], list(report["folds"])
    body = [
        [row["name"], *(show(row["folds"][name]["scores"][score]["mean"]) for name in names)]
        for row in report["rows"]
    ]
    who = [(name, ", ".join(report["folds"][name])) for name in names]
    scores = table([TITLES[score], *names], body, numbers=True)
    return scores + folded("Test subjects", table(("fold", "subjects"), who))


def _identity(report: Mapping[str, Any]) -> str:
    leaks = report.get("identity_leak", {})
    if not leaks:
        return ""
    if "not measured" in leaks:
        return note(f"Not measured: {leaks['not measured']}.")
    body = [
        [name, show(leak["accuracy"]), show(leak["chance"])] for name, leak in leaks.items()
    ]
    said = (
        "Share of frames whose subject a linear probe names, and the share that guessing would."
    )
    return note(said) + table(["", "named", "chance"], body, numbers=True)


def _made_of(report: Mapping[str, Any]) -> str:
    names = ("backbone", "corpus", "frames_left_out", "settings")
    wanted = {name: report[name] for name in names if name in report}
    text = json.dumps(wanted, indent=1, ensure_ascii=False)
    return folded("Backbone, corpus, settings", verbatim(text))


def _key(names: Sequence[str]) -> str:
    return key([(name, number) for number, name in enumerate(names[:ROWS])])
