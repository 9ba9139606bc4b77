"""The page must say what the report says, draw every value where it belongs, and be one
harmless file.
"""

import re
from dataclasses import replace
from functools import cache
from xml.etree import ElementTree

import numpy as np
import pytest

from ausl_dist.evaluate.compare import CompareSettings, Comparison, compare
from ausl_dist.evaluate.report.page import to_html
from ausl_dist.evaluate.report.published import _ROWS, DISFA_UNITS, published_rows
from ausl_dist.evaluate.report.tables import to_json
from tests.support.evaluation_tables import make_table

POINT = {"pretrained": {"mean_of_folds": 0.4, "pooled": 0.5, "interval": [0.3, 0.6]}}


@cache
def compared(task: str) -> Comparison:
    table = make_table(noise=2, frames=20)
    tables = {
        "pretrained": table,
        "random <weights>": replace(table, features=table.features[:, ::-1].copy()),
    }
    folds = [("P1", table.subjects[:3]), ("P2", table.subjects[3:])]
    return compare(tables, CompareSettings(task=task, resamples=50), folds=folds)  # type: ignore[arg-type]


def report(task: str = "intensity", **context: object) -> dict:
    return to_json(
        compared(task),
        backbone={"name": "<script>alert(1)</script>"},
        corpus={"name": "made up"},
        **context,
    )


@pytest.mark.parametrize("task", ["intensity", "occurrence"])
def test_the_page_is_one_file_without_scripts_and_names_are_only_text(task: str) -> None:
    page = to_html(report(task))
    assert "<script" not in page
    assert not re.search(r"(src|href|url\()", page)
    assert "random &lt;weights&gt;" in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)  # well formed
    assert page.count("<svg") == 2  # by action unit, by subject


def test_every_row_of_every_unit_has_its_bar_and_its_interval() -> None:
    made = report()
    page = to_html(made)
    for row in made["rows"]:
        for unit, value in zip(
            made["action_units"], row["pooled"]["icc"]["per_unit"], strict=True
        ):
            assert (
                f"{row['name'].replace('<', '&lt;').replace('>', '&gt;')}, AU{unit}: {value:.3f} ["
                in page
            )
    assert page.count('class="interval over"') == len(made["rows"]) * len(made["action_units"])
    assert all(f"{subject}: pretrained" in page for subject in made["subjects"])


def test_label_rates_and_alignment_are_drawn_where_they_were_measured() -> None:
    curve = [{"share": share, "seed": 7, "rows": POINT} for share in (0.02, 1.0)]
    meter = [
        {"kind": "none", "amount": 0.0, "score": 0.5},
        *({"kind": "turn", "amount": a, "score": 0.3} for a in (-5.0, 5.0)),
    ]
    leak = {"pretrained": {"accuracy": 0.9, "chance": 0.125}}
    page = to_html(report(label_rates=curve, alignment=meter, identity_leak=leak))
    assert "<td>0.900</td><td>0.125</td>" in page
    assert "With fewer labels" in page
    assert "seed 7" in page
    assert ">2 %<" in page
    assert "turn -5: 0.300" in page
    assert "-0.200" in page
    assert page.count("<svg") == 4
    assert "Not measured: one clip each." in to_html(
        report(identity_leak={"not measured": "one clip each"})
    )


def test_published_rows_stand_beside_exactly_their_units_and_their_average_is_that_of_the_row() -> (
    None
):
    assert len(published_rows("disfa", "f1", DISFA_UNITS)) > 5
    assert published_rows("disfa", "f1", DISFA_UNITS[:-1]) == ()
    assert published_rows("disfa", "icc", DISFA_UNITS) == ()
    for (_, units), rows in _ROWS.items():
        assert all(
            len(row.f1) == len(units) and all(0 < value < 100 for value in row.f1)
            for row in rows
        )
    averages = {row.name: np.mean(row.f1) for row in published_rows("disfa", "f1", DISFA_UNITS)}
    assert averages["CLP, TIP 2023"] == pytest.approx(57.4, abs=0.05)
    assert averages["FMAE-IAT ViT-L"] == pytest.approx(70.1, abs=0.05)


def test_a_published_row_is_drawn_with_its_value_and_source() -> None:
    made = report("occurrence")
    made["corpus"]["name"], made["action_units"] = "disfa", list(DISFA_UNITS)
    for row in made["rows"]:
        for score in (*row["pooled"].values(), *row["mean_of_folds"].values()):
            score["per_unit"] = [0.5] * 8
            score["unit_intervals"] = [[0.4, 0.6]] * 8
    assert "FMAE-IAT ViT-L, AU26: 71.3 % (tables of FMAE-IAT)" in to_html(made)
