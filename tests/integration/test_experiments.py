"""Every experiment of configs/ trains from shards in an object store: its own backbone,
objectives, optimizer and clip, at a small size.
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ausl_dist.model.joint import build_model
from ausl_dist.settings import from_mapping
from ausl_dist.shards import storage
from ausl_dist.stream.loader import Loader
from ausl_dist.train.engine import Engine
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.settings import EngineSettings, RunSettings
from launch.compose import choices, compose
from launch.object_store import ObjectStore
from tests.support.corpora import make_corpus
from tests.support.ranks import run_ranks

FRAMES = 128  # predictive coding over blocks spans 118
STEPS = 2


@pytest.fixture(scope="module")
def corpus(object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = make_corpus(tmp_path_factory.mktemp("corpus"), clips=6, frames=FRAMES, size=48)
    object_store.make_bucket("experiments")
    for path in folder.iterdir():
        storage.upload(path, f"s3://experiments/drawn/{path.name}")
    return "s3://experiments/drawn"


def losses(url: str, experiments: list[str], scratch: Path) -> dict[str, list[float]]:
    """The losses of the first steps of every experiment, on one rank."""
    torch.set_num_threads(1)
    device = start_ranks(EngineSettings())
    return {
        experiment: list(_train(experiment, url, scratch, device)) for experiment in experiments
    }


def _train(experiment: str, url: str, scratch: Path, device: torch.device) -> list[float]:
    words = [
        f"experiment={experiment}",
        f"data.corpora.main.url={url}",
        "data.image_size=32",
        "cluster.ranks=1",
        "data.lanes=1",
        "data.clips_per_lane=2",
    ]
    settings = from_mapping(RunSettings, compose([*words, "data.shuffle_window=4"]).run)
    objectives = {
        name: {**own, "bank_size": 64} if "bank_size" in own else own
        for name, own in settings.objectives.items()
    }
    model = build_model(settings.backbone, objectives, settings.mixture)
    engine = Engine(
        model,
        replace(settings.engine, zero_stage=1, gradient_accumulation=1),
        settings.optimizer,
        device,
    )
    with Loader(
        settings.data, model.plan, seed=0, rank=0, world_size=1, run_folder=scratch
    ) as loader:
        return [engine.train_step(next(loader), 1e-4).loss for _ in range(STEPS)]


@pytest.mark.timeout(500)
def test_every_experiment_trains_from_the_object_store(corpus: str, tmp_path: Path) -> None:
    experiments = choices("experiment")
    (found,) = run_ranks(losses, 1, corpus, experiments, tmp_path)
    assert list(found) == experiments
    for experiment, values in found.items():
        assert len(values) == STEPS
        assert all(math.isfinite(value) for value in values), experiment
