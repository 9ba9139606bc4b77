"""The card must show how the weights were trained: a curve, and one line from the record."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from ausl_dist.json_lines import append_json_line
from ausl_dist.release.bundle import write_bundle
from ausl_dist.release.picture import draw_training
from ausl_dist.release.trained import trained_line
from tests.support.run_folders import make_run

HOST = {"cpu": "A CPU", "cores": 64, "gpus": ["NVIDIA H100"] * 8, "driver": "580.65.06"}
START: dict[str, Any] = {
    "attempt": 1,
    "time": 1_800_000_000.0,
    "ended": None,
    "step": 0,
    "hosts": ["a"] * 8 + ["b"] * 8,
    "machines": {"a": HOST, "b": HOST},
    "commit": {"id": "0123456789abcdef", "dirty": True},
    "command": "python -m launch run experiment=demo",
}


def lose(run: Path, steps: range) -> None:
    for step in steps:
        line = {"step": step, "attempt": 1, "loss": 1 / (step + 1)}
        append_json_line(run / "metrics.jsonl", line)


def test_a_run_is_told_in_one_line() -> None:
    second = START | {
        "attempt": 2,
        "ended": {"time": 1_800_003_600.0, "step": 7, "how": "done"},
        "command": "python -m launch resume RUN",
    }
    assert trained_line({"starts": [START, second]}) == (
        "Trained from 2027-01-15 08:00 to 2027-01-15 09:00 (UTC) in 2 attempts; "
        "16 ranks on 2 hosts with NVIDIA H100, driver 580.65.06; "
        "commit 0123456789ab with changes of its own. "
        "Started by `python -m launch run experiment=demo`."
    )
    assert trained_line({}) == trained_line({"starts": [{"step": 0}]}) == ""


def test_the_picture_is_the_loss_and_where_there_is_a_probe_its_score(tmp_path: Path) -> None:
    assert draw_training(tmp_path, 7) is None
    lose(tmp_path, range(7))
    drawn = draw_training(tmp_path, 7)
    assert drawn is not None
    assert drawn.caption == "Training loss by step"
    lose(tmp_path, range(7, 9))  # what came after the release changes nothing
    assert draw_training(tmp_path, 7) == drawn
    for step, score in ((2, 0.1), (4, 0.3), (9, 0.5)):
        append_json_line(tmp_path / "online.jsonl", {"step": step, "probe_icc": score})
    drawn = draw_training(tmp_path, 7)
    assert drawn is not None
    assert drawn.caption == "probe_icc of the online probe by checkpoint"
    assert "0.5" not in [element.text for element in ET.fromstring(drawn.svg).iter()]


def test_the_card_shows_picture_and_record(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    lose(run, range(7))
    (run / "record.json").write_text(json.dumps({"starts": [START]}))
    write_bundle(run, tmp_path / "bundle")
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "![Training loss by step](training.svg)" in card
    assert "16 ranks on 2 hosts with NVIDIA H100" in card
    root = ET.parse(tmp_path / "bundle" / "training.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"  # an image only with its name space
