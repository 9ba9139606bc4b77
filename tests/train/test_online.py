"""Checkpoints are evaluated beside the run: one at a time, none twice, and a failure is told
without stopping anything.
"""

import time
from pathlib import Path

import pytest

from ausl_dist.run_folder import read_scores
from ausl_dist.train import online
from ausl_dist.train.online import OnlineEvaluation
from ausl_dist.train.settings import OnlineSettings

STAND_IN = """
import json, sys, time
from pathlib import Path
run, checkpoint = Path(sys.argv[1]), Path(sys.argv[2])
step = int(checkpoint.name.removeprefix("step-"))
while (run / "wait").exists():
    time.sleep(0.02)
if step == 30:
    sys.exit("cannot be read")
with open(run / "online.jsonl", "a") as file:
    file.write(json.dumps({"step": step, "probe_icc": step / 100, "knn_icc": 0.1, "seconds": 1.0}) + "\\n")
"""


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OnlineEvaluation:
    (tmp_path / "stand_in_evaluation.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(online, "MODULE", "stand_in_evaluation")
    return OnlineEvaluation(OnlineSettings(corpus="somewhere", every_steps=10), tmp_path)


def offer(evaluation: OnlineEvaluation, folder: Path, *steps: int) -> None:
    for step in steps:
        evaluation.offer(folder / f"step-{step:08d}", step)


def next_news(evaluation: OnlineEvaluation) -> tuple[dict[str, float], Path | None]:
    deadline = time.monotonic() + 100
    while (news := evaluation.news()) == ({}, None):
        assert time.monotonic() < deadline, evaluation.log_path.read_text()
        time.sleep(0.02)
    return news


def test_scores_come_in_one_after_the_other_and_what_waited_too_long_is_left_out(
    evaluation: OnlineEvaluation, tmp_path: Path
) -> None:
    (tmp_path / "wait").touch()
    # 5 is not its turn; 20 gives way to 40 while 10 is evaluated
    offer(evaluation, tmp_path, 5, 10, 20, 40)
    assert evaluation.news() == ({}, None)
    (tmp_path / "wait").unlink()
    assert next_news(evaluation) == ({"probe_icc": 0.1, "knn_icc": 0.1}, None)
    assert next_news(evaluation) == ({"probe_icc": 0.4, "knn_icc": 0.1}, None)
    assert sorted(read_scores(tmp_path)) == [10, 40]
    offer(evaluation, tmp_path, 10)  # after a resume
    assert evaluation.news() == ({}, None)
    evaluation.finish(0.0)


def test_a_failed_evaluation_is_told_and_one_that_takes_too_long_is_ended(
    evaluation: OnlineEvaluation, tmp_path: Path
) -> None:
    offer(evaluation, tmp_path, 30)
    assert next_news(evaluation) == ({}, tmp_path / "step-00000030")
    assert "cannot be read" in evaluation.log_path.read_text()
    (tmp_path / "wait").touch()
    offer(evaluation, tmp_path, 40)
    evaluation.finish(0.0)
    assert read_scores(tmp_path) == {}
