"""A run that went back and left out what spoilt it is bit for bit a run that never took those
steps, on all ranks, killed or not.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from ausl_dist.batch import Needs, View
from ausl_dist.files import read_json
from ausl_dist.objectives.base import BatchView, Loss, Objective
from ausl_dist.train.exits import Exit
from ausl_dist.train.loop import train
from ausl_dist.train.run import open_run
from ausl_dist.train.settings import load_settings
from ausl_dist.train.stability import DivergedError
from tests.support.corpora import make_corpus
from tests.support.ranks import run_ranks
from tests.support.runs import make_run, metrics

STEPS = 14
LAST = f"step-{STEPS:08d}"
NOT_FINITE, HIGH = (4, 5), (9, 10)  # steps, each a run long enough to go back


class Spoilt(Objective):
    """Learns something; at chosen steps its loss is not finite, or high, with a gradient to
    match.
    """

    def __init__(self, *, feature_dim: int, not_finite: list[int], high: list[int]) -> None:
        super().__init__()
        self.head = nn.Linear(feature_dim, 1)
        self.not_finite, self.high = not_finite, high

    def needs(self) -> Needs:
        return Needs(views={View(): (0, 1)})

    def forward(self, seen: BatchView) -> Loss:
        values = (self.head(seen.pooled(View(), (0, 1))) - 1).square().mean((1, 2))
        factor = (
            math.nan if seen.step in self.not_finite else 1e6 if seen.step in self.high else 1.0
        )
        return Loss(seen.mean(values * factor))


def spoilt_run(
    folder: Path,
    corpus: Path,
    spoilt: tuple[int, ...] = (),
    high: tuple[int, ...] = (),
    max_times: int = 3,
) -> Path:
    return make_run(
        folder,
        corpus,
        steps=STEPS,
        objectives={
            "temporal_ranking": {
                "_target_": f"{__name__}.Spoilt",
                "not_finite": list(spoilt),
                "high": list(high),
            }
        },
        checkpoint={"keep_last": 9},
        watch={"max_bad_steps": 2},
        rewind={
            "max_times": max_times,
            "window_steps": 3,
            "spike_steps": 2,
            "spike_deviations": 1000.0,
        },
    )


def train_all(back: Path, without: Path, given_up: Path) -> list[str]:
    """Train the runs one after the other in this process, the first one twice; returns how each
    ended.
    """
    # DeepSpeed joins a process to its group once
    torch.distributed.destroy_process_group = _stay
    ends = [train_one(folder) for folder in (back, without, given_up)]
    if torch.distributed.get_rank() == 0:
        as_if_killed_while_it_went_back(back)
    torch.distributed.barrier()
    return [*ends, train_one(back)]


def _stay(group: object = None) -> None:
    pass


def train_one(folder: Path) -> str:
    try:
        with open_run(load_settings(folder), folder) as run:
            return train(run).name
    except DivergedError as error:
        return str(error)


def as_if_killed_while_it_went_back(folder: Path) -> None:
    """It has written down that it goes back from step 10 to 9, and a checkpoint of the way that
    it gives up is still there.
    """
    checkpoints = folder / "checkpoints"
    (checkpoints / LAST).rename(folder / LAST)
    (checkpoints / "step-00000012").rename(checkpoints / "step-00000010")


def tensors(checkpoint: Path) -> dict[str, bytes]:
    files = sorted(checkpoint.glob("*.safetensors"))
    return {
        f"{path.name}:{name}": tensor.numpy().tobytes()
        for path in files
        for name, tensor in load_file(path).items()
    }


@pytest.mark.timeout(1800)
def test_what_spoilt_a_run_is_left_out_as_if_it_had_never_been(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", clips=12, frames=10, size=48)
    back = spoilt_run(tmp_path / "back", corpus, NOT_FINITE, HIGH)
    without = spoilt_run(tmp_path / "without", corpus)
    rewinds = [
        {"first": first, "last": last, "reason": "", "to_step": 0, "attempt": 1}
        for first, last in (NOT_FINITE, HIGH)
    ]
    (without / "record.json").write_text(json.dumps({"starts": [], "rewinds": rewinds}))
    given_up = spoilt_run(tmp_path / "given_up", corpus, NOT_FINITE, max_times=0)
    for ends in run_ranks(train_all, 2, back, without, given_up, timeout_seconds=1200):
        assert [ends[0], ends[1], ends[3]] == [Exit.DONE.name] * 3
        assert "left out (loss), steps 4 to 5; the run has gone back 0 times" in ends[2]

    written = read_json(back / "record.json")["rewinds"]
    assert [(each["first"], each["last"], each["to_step"]) for each in written] == [
        (4, 5, 3),
        (9, 10, 9),
    ]
    wanted = tensors(without / "checkpoints" / LAST)
    assert tensors(back / LAST) == wanted
    assert tensors(back / "checkpoints" / LAST) == wanted, (
        "killed while it went back, it came to another end"
    )
    assert not (back / "checkpoints" / "step-00000010").exists()
    assert losses_at_last(back) == losses_at_last(without)
    bad = [json.loads(line) for line in (back / "bad_batches.jsonl").read_text().splitlines()]
    assert {(line["step"], line["rank"], line["bad"]) for line in bad} == {
        (step, rank, kind)
        for steps, kind in ((NOT_FINITE, "loss"), (HIGH, "spike"))
        for step in steps
        for rank in (0, 1)
    }


def losses_at_last(folder: Path) -> dict[int, float]:
    """The loss of each step as the run came to it last."""
    return {
        line["step"]: line["loss"]
        for line in metrics(folder)
        if line["step"] not in (*NOT_FINITE, *HIGH)
    }
