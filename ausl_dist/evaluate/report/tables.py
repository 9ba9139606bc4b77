"""A comparison as people and programs read it: a plain-text or Markdown table, report.json, and
a page with plots (page.py).

Scores that live between 0 and 1 are printed as they are; no score is printed without the row of
the constant beside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from ausl_dist.evaluate.compare import Comparison, ComparisonRow
from ausl_dist.evaluate.predictors.probe import Probe
from ausl_dist.evaluate.report.page import to_html
from ausl_dist.evaluate.scores.rows import Score, per_subject
from ausl_dist.files import write_atomically, write_json
from ausl_dist.release.head import PROBE_NAME
from ausl_dist.units import title_of

REPORT_VERSION = 1


def to_json(comparison: Comparison, **context: Any) -> dict[str, Any]:
    """The whole comparison as plain values; `context` (corpus, backbone, settings) goes in
    front.
    """
    return {
        "version": REPORT_VERSION,
        **context,
        "task": comparison.task,
        "main_score": comparison.main,
        "action_units": list(comparison.rows[0].predictions.action_units),
        "frames": len(comparison.rows[0].predictions.values),
        "subjects": list(comparison.subjects),
        "folds": {name: list(subjects) for name, subjects in comparison.folds},
        "rows": [_row_json(row) for row in comparison.rows],
        "gains": {name: gain.to_json() for name, gain in comparison.gains.items()},
        "notes": [*_notes(comparison), *_context_notes(context)],
    }


def _row_json(row: ComparisonRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "pooled": {name: score.to_json() for name, score in row.scores.items()},
        "mean_of_folds": {name: row.mean_of_folds(name).to_json() for name in row.scores},
        "folds": {
            result.fold: {
                "decided": dict(result.predictor.decided.decisions),
                "scores": {name: score.to_json() for name, score in result.scores.items()},
            }
            for result in row.folds
        },
        "per_subject": {
            subject: _finite(value) for subject, value in per_subject(row.predictions).items()
        },
    }


def to_markdown(comparison: Comparison, **context: Any) -> str:
    """The main score per action unit as a Markdown table, its mean with interval, and sentences
    that say what was held out and left out.
    """
    header, body = _cells(comparison)
    lines = [
        _markdown_row(header),
        _markdown_row(["---"] * len(header)),
        *(_markdown_row(row) for row in body),
    ]
    return "\n".join([*lines, "", *_notes(comparison), *_context_notes(context)]) + "\n"


def to_text(comparison: Comparison) -> str:
    """The same table with aligned columns, for a terminal."""
    header, body = _cells(comparison)
    widths = [max(len(row[column]) for row in [header, *body]) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, *body]
    ]
    return "\n".join([*lines, *_notes(comparison)]) + "\n"


def write_report(comparison: Comparison, folder: Path, **context: Any) -> None:
    """report.json, .md and .html, predictions-NAME.csv of each row, and the linear probes of
    the first row for a release to take over.
    """
    report = to_json(comparison, **context)
    write_json(folder / "report.json", report)
    write_atomically(folder / "report.md", to_markdown(comparison, **context))
    write_atomically(folder / "report.html", to_html(report))
    for row in comparison.rows:
        row.predictions.save(folder / f"predictions-{row.name.replace(' ', '-')}.csv")
    probes = [
        result.predictor
        for result in comparison.rows[0].folds
        if isinstance(result.predictor, Probe)
    ]
    if probes:
        # F D K, F K
        weight, bias = (
            np.stack([probe.weight for probe in probes]),
            np.stack([probe.bias for probe in probes]),
        )
        write_atomically(folder / PROBE_NAME, save({"bias": bias, "weight": weight}))


def _cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    units = comparison.rows[0].predictions.action_units
    extra = (
        ["mae", "pcc"]
        if comparison.task == "intensity"
        else ["f1_chosen", "auc", "average_precision"]
    )
    titles = {
        "f1_chosen": "F1 chosen",
        "auc": "AUC",
        "average_precision": "AP",
        "mae": "MAE",
        "pcc": "PCC",
    }
    header = [
        _title(comparison),
        *(title_of(unit) for unit in units),
        "mean",
        "pooled",
        "95 %",
        *(titles[name] for name in extra),
    ]
    body = []
    for row in comparison.rows:
        main, pooled = row.mean_of_folds(comparison.main), row.scores[comparison.main]
        cells = [
            row.name,
            *(_show(value) for value in main.per_unit),
            _show(main.mean),
            _show(pooled.mean),
            _interval(pooled),
        ]
        body.append([*cells, *(_show(row.mean_of_folds(name).mean) for name in extra)])
    return header, body


def _title(comparison: Comparison) -> str:
    return "ICC(3,1)" if comparison.task == "intensity" else "F1 at 0.5"


def _notes(comparison: Comparison) -> Iterator[str]:
    frames, folds = len(comparison.rows[0].predictions.values), comparison.folds
    tested = sum(len(subjects) for _, subjects in folds)
    yield (
        f"{len(comparison.subjects)} identities, {tested} of them tested on ({frames} frames) in "
        f"{len(folds)} fold(s) that share nobody; "
        "every decision was made on training identities before the test was read. "
        "'mean' is over folds, 'pooled' over all test frames; "
        "intervals are over identities."
    )
    for name, gain in comparison.gains.items():
        interval = f", 95 % {_interval(gain)}" if gain.interval else ""
        yield f"{comparison.rows[0].name} - {name}: {gain.mean:+.3f}{interval}"


def _context_notes(context: Mapping[str, Any]) -> Iterator[str]:
    left_out = context.get("frames_left_out")
    if left_out:
        yield (
            f"{left_out['labelled'] + left_out['without_picture']} labelled frames: "
            f"{left_out['without_picture']} have no picture, in "
            f"{left_out['without_face']} no face was found; these are in no score."
        )
    if "readout" in context.get("backbone", {}):
        yield f"Readout of the map: {context['backbone']['readout']}."
    if "note" in context.get("backbone", {}):
        yield f"Backbone: {context['backbone']['note']}."
    for name, leak in context.get("identity_leak", {}).items():
        if isinstance(leak, Mapping):
            yield (
                f"Identity in the features, {name}: {leak['accuracy']:.3f} of frames named, "
                f"chance {leak['chance']:.3f}."
            )


def _interval(score: Score) -> str:
    return (
        "–"
        if score.interval is None
        else f"[{_show(score.interval[0])}, {_show(score.interval[1])}]"
    )


def _show(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "–"


def _finite(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
