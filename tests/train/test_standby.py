"""A process that stands by has loaded what takes long: as a rank it loads nothing of it again."""

import sys
from pathlib import Path

import pytest

from tests.support.corpora import make_corpus
from tests.support.ranks import run_ranks
from tests.support.runs import make_run
from tests.support.tiny import RANKING

# What made a start of a rank slow: a second of processor time or more for each of them.
SLOW = (
    "networkx",
    "timm",
    "torch._dynamo",
    "torch._functorch",
    "torch._inductor",
    "torchvision",
)


def loaded_late(folder: Path) -> list[str]:
    """The modules of SLOW packages that a rank loads after `load_code`, to its last step."""
    from ausl_dist.train.loop import train
    from ausl_dist.train.run import open_run
    from ausl_dist.train.settings import load_settings
    from ausl_dist.train.standby import load_code
    from ausl_dist.train.startup import StartupClock

    settings = load_settings(folder)
    load_code(settings)
    loaded = set(sys.modules)
    with open_run(settings, folder, StartupClock()) as run:
        train(run)
    return sorted(name for name in set(sys.modules) - loaded if name.startswith(SLOW))


@pytest.mark.timeout(400)
def test_a_rank_that_stood_by_loads_nothing_slow(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path / "corpus", clips=4, frames=20, size=48)
    run = make_run(
        tmp_path / "run",
        corpus,
        steps=1,
        backbone={"name": "small_conv"},
        engine={"zero_stage": 1},
        objectives={"temporal_ranking": RANKING},
    )
    (late,) = run_ranks(loaded_late, 1, run)
    # two small modules of torch come late; without load_code's list it is some 190
    assert len(late) < 10, late
