"""One page must tell of a run, in progress, finished or dead, whatever is missing from its
folder.
"""

import dataclasses
import json
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ausl_dist.json_lines import append_json_line
from ausl_dist.observe.heartbeat import read_heartbeats, write_heartbeat
from ausl_dist.observe.history import append_event
from ausl_dist.observe.report import build_report
from ausl_dist.observe.settings import ObserveSettings
from tests.support.observing import observer, record

ROOT = Path(__file__).resolve().parents[2]


def make_run(run: Path) -> None:
    """Forty steps by two ranks, the second half after a restart; one skipped step, two unusable
    clips.
    """
    for attempt, steps in enumerate([range(25), range(20, 40)], 1):
        ranks = [
            observer(
                run,
                rank=rank,
                world_size=2,
                attempt=attempt,
                start_step=steps[0],
                total_steps=40,
            )
            for rank in range(2)
        ]
        for step in steps:
            for each in ranks:
                blocked = {"fetch": 0.01 * step, "decode": 0.02 * step}
                logs = {"ranking/loss": 1 / (step + 1), "contrast/loss": 2 / (step + 1)}
                each.step(
                    record(
                        step,
                        loss=3 / (step + 1),
                        logs=logs,
                        loader_blocked=blocked,
                        skipped=step == 30,
                    )
                )
        for each in ranks:
            each.close()
    append_event(
        run,
        "launcher",
        {"time": 1.0, "kind": "attempt_ended", "attempt": 1, "why": "node7 <fell> silent"},
    )
    place = {"corpus": "main", "place": "shard-000002.tar[0:100]", "clip": 3}
    append_json_line(
        run / "ledger.jsonl", {"reason": "decode", "detail": "no <keyframe>", **place}
    )
    (run / "config.yaml").write_text("name: demo\nsteps: 40\n")
    (run / "record.json").write_text(
        json.dumps({"starts": [{"attempt": 1, "hosts": ["node7"]}]})
    )


class Page(HTMLParser):
    """Text and tags of a page; raises where tags do not match."""

    VOID = ("meta", "br", "line", "polyline", "polygon")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.open, self.tags = "", [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID or (
            tag == "line" and not self.get_starttag_text().endswith("/>")
        ):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_finished_run_is_told_whole(tmp_path: Path) -> None:
    make_run(tmp_path)
    page = Page(build_report(tmp_path))
    for expected in (
        "finished, step 40 of 40",
        "1 step left out because loss or gradient was not finite, the last one step 30",
        "2 clips could not be used (decode); for instance main/shard-000002.tar[0:100], clip 3: "
        "no <keyframe>",
        "the run was started again once, the last time because node7 <fell> silent",
        "3.0000 → 0.0750",
        "ranking",
        "contrast",
        "attempt 2 starts at step 20 on 2 ranks",
        "steps: 40",
    ):
        assert expected in page.text, expected
    labels = [attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg"]
    assert "Loss, all objectives weighted" in labels
    assert "Where a step's time goes" in labels
    assert "Stall: share of time that stages kept the next waiting" in labels


def test_the_first_screen_answers_whether_it_learns_collapses_and_waits(tmp_path: Path) -> None:
    numbers = {"ranking/effective_rank": 7.0, "ranking/collapsed": 0.0}
    pairs = {f"ranking/accuracy_pair_{pair}": 0.5 for pair in range(10)}
    with observer(tmp_path, total_steps=40) as watching:
        for step in range(40):
            moving = {name: value + step / 100 for name, value in pairs.items()}
            logs = {"ranking/loss": 1 / (step + 1), **numbers, **moving}
            whole = {"clips": 8 * (step + 1)}
            watching.step(record(step, loss=1 / (step + 1), logs=logs, loader_counts=whole))
    append_json_line(tmp_path / "online.jsonl", {"step": 20, "probe_icc": 0.21, "knn_icc": 0.1})
    append_json_line(tmp_path / "online.jsonl", {"step": 40, "probe_icc": 0.31, "knn_icc": 0.2})
    html = build_report(tmp_path)
    first, _, rest = html.partition("<h2>")
    labels = re.findall('aria-label="([^"]*)"', first)
    assert labels[:5] == [
        "Loss",
        "Online probe",
        "Collapse: effective rank of features, 1 is collapsed",
        "Clips a second",
        "Where a step&#x27;s time goes",
    ]
    assert "Nothing is wrong" in first
    panels = re.findall('aria-label="([^"]*)"', rest)
    assert [panel for panel in panels if "pair" in panel] == [
        "accuracy pair (10), at the end 0.89 – 0.89"
    ]
    assert not [panel for panel in panels if panel.startswith("loss")], (
        "the loss is drawn twice"
    )
    assert "learning rate 0.001" in Page(html).text, "what never moves is said, not drawn"
    assert not [panel for panel in panels if panel.startswith("learning rate")]


def test_the_page_needs_no_network(tmp_path: Path) -> None:
    make_run(tmp_path)
    html = build_report(tmp_path)
    assert re.findall(r"https?://|@import|<script|<link|<img|url\(", html) == []


def test_a_dead_run_says_so(tmp_path: Path) -> None:
    make_run(tmp_path)
    for beat in read_heartbeats(tmp_path):
        write_heartbeat(tmp_path, dataclasses.replace(beat, standing="running"))
    far_ahead = 4_000_000_000.0
    text = Page(build_report(tmp_path, now=far_ahead)).text
    assert "dead since step 40 of 40" in text
    assert "fell silent without an end" in text


def test_a_run_in_progress_says_how_long_it_will_take(tmp_path: Path) -> None:
    with observer(tmp_path, total_steps=1000) as watching:
        for step in range(10):
            watching.step(record(step))
        wait_for_heartbeat(tmp_path)
        assert (
            "running, step 10 of 1,000, about 3 min 18 s left"
            in Page(build_report(tmp_path)).text
        )


def wait_for_heartbeat(run: Path) -> None:
    deadline = time.monotonic() + 10
    while not any(beat.steps_done == 10 for beat in read_heartbeats(run)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_has_only_a_config_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("name: demo\n")
    assert "not started yet" in Page(build_report(tmp_path)).text


def test_a_folder_that_is_no_run_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a run folder"):
        build_report(tmp_path)
    command = [sys.executable, "-m", "tools.report", str(tmp_path)]
    told = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 2
    assert told.stderr.startswith("error: ")


def test_a_long_run_is_thinned_to_a_page_of_reasonable_size(tmp_path: Path) -> None:
    with observer(tmp_path, ObserveSettings(enabled=False), total_steps=20_000) as watching:
        for step in range(20_000):
            watching.step(record(step))
    assert len(build_report(tmp_path)) < 2_000_000
