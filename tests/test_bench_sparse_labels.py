"""The table of both stages says of how many runs each cell is, and leaves open what is not there."""

from typing import Any

from tools.bench_sparse_labels import PRETRAINED, RANDOM, Second, table


def rows(start: str, icc: float) -> dict[str, Any]:
    score = {"icc": {"mean": icc}, "mae": {"mean": 0.5}}
    constant = {"icc": {"mean": 0.0}, "mae": {"mean": 0.7}}
    return {start: score, "constant": constant}


def test_cells_have_spread_and_count() -> None:
    scores: dict[Second, dict[str, Any] | None] = {
        Second(PRETRAINED, 0.02, 0): rows(PRETRAINED, 0.1),
        Second(PRETRAINED, 0.02, 1): rows(PRETRAINED, 0.3),
        Second(RANDOM, 0.02, 0): rows(RANDOM, 0.05),
        Second(RANDOM, 1.0, 0): None,
    }
    lines = table(scores).splitlines()
    assert lines[0] == "| second stage from | 2 % | 100 % |"
    assert lines[2] == "| predictive_coding | 0.200 ± 0.141, 0.500 (2) | – |"
    assert lines[3] == "| landmark_deviation | – | – |"
    assert lines[4] == "| random weights | 0.050, 0.500 (1) | – |"
    assert lines[5] == "| constant | 0.000, 0.700 (1) | – |"
