"""A run whose corpus lost clips between two starts: it is resumed over its old order, and its
record says so.
"""

import json
from pathlib import Path

import pytest

from ausl_dist.corpus.takedown import Request, take_down
from tests.support.corpora import make_corpus
from tests.support.runs import losses, make_run, run_to_end


@pytest.mark.timeout(600)
def test_a_resume_after_a_take_down_is_possible_and_recorded(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", clips=16, frames=40, size=32)
    folder = make_run(tmp_path / "run", corpus, steps=3)
    run_to_end(folder, 1)
    take_down(str(corpus), Request(clips=("drawn-0-000002",)), date="2030-01-01")
    make_run(folder, corpus, steps=9)
    run_to_end(folder, 1)
    assert sorted(losses(folder)) == list(range(9))
    first, second = json.loads((folder / "record.json").read_text())["starts"]
    assert (first["step"], second["step"]) == (0, 3)
    assert first["corpora"] == second["corpora"]
    assert "taken_down_clips" not in first
    assert second["taken_down_clips"] == {"drawn": 1}
    missing = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    assert missing
    assert {line["reason"] for line in missing} == {"removed"}
