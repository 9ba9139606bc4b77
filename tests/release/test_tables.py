"""The table that a user opens in a spreadsheet: one row per face and frame, whole or not there
at all.
"""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch

from ausl_dist.release.tables import TableWriter


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    features = torch.randn(2, 3)
    with TableWriter(tmp_path / "f.csv", 3) as table:
        table.write('a, "b".mp4', [(4, 0, 0.16), (5, 0, 0.2)], features)
    rows = list(csv.DictReader((tmp_path / "f.csv").open(newline="")))
    assert [row["frame"] for row in rows] == ["4", "5"]
    assert rows[0]["video"] == 'a, "b".mp4'
    read = torch.tensor([[float(row[f"f{index:04d}"]) for index in range(3)] for row in rows])
    torch.testing.assert_close(read, features, atol=1e-6, rtol=1e-6)


def test_scores_stand_before_the_features_under_their_own_names(tmp_path: Path) -> None:
    with TableWriter(tmp_path / "f.csv", 1, ["AU12_intensity"]) as table:
        table.write("a", [(0, 0, 0.0)], torch.tensor([[3.5, -1.0]]))
    (row,) = csv.DictReader((tmp_path / "f.csv").open(newline=""))
    assert (float(row["AU12_intensity"]), float(row["f0000"])) == (3.5, -1.0)


def test_an_error_leaves_no_half_table(tmp_path: Path) -> None:
    def half() -> None:
        with TableWriter(tmp_path / "f.csv", 3) as table:
            table.write("a", [(0, 0, 0.0)], torch.zeros(1, 3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert list(tmp_path.iterdir()) == []


def test_other_formats_are_refused_with_those_that_work(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.csv or \.parquet"):
        TableWriter(tmp_path / "f.xlsx", 3)


@pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed"
)
def test_parquet_holds_the_same(tmp_path: Path) -> None:
    import pyarrow.parquet

    features = torch.randn(2, 3)
    with TableWriter(tmp_path / "f.parquet", 3) as table:
        table.write("a", [(0, 0, 0.0), (1, 0, 0.04)], features)
    read = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pydict()
    torch.testing.assert_close(torch.tensor([read[f"f{i:04d}"] for i in range(3)]).T, features)
