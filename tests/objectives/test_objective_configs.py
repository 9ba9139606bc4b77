"""Configs of objectives: every experiment fits together, and a new objective is one file and
one YAML.
"""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from ausl_dist.batch import Needs
from ausl_dist.corpus.settings import CorpusSettings
from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import build_model
from ausl_dist.model.objective_settings import build_objective
from ausl_dist.settings import from_mapping
from ausl_dist.train.settings import RunSettings
from launch.compose import CONFIGS, choices, compose
from tests.support.tiny import LAYER_NORM, losses_of_a_few_steps, make_batch
from tools.build_corpus import read_settings

URL = "data.corpora.main.url=s3://bucket/corpus"

BRIGHTNESS = """
from torch import nn
from ausl_dist.batch import PLAIN, Needs
from ausl_dist.objectives.base import Loss, Objective

class Brightness(Objective):
    def __init__(self, *, feature_dim, power=1):
        super().__init__()
        self.power, self.head = power, nn.Linear(feature_dim, 1)

    def needs(self):
        return Needs(views={PLAIN: (0,)})

    def forward(self, seen):
        guess = self.head(seen.pooled(PLAIN, (0,)))[:, 0, 0]
        truth = seen.pixels(PLAIN, (0,)).mean(dim=(1, 2, 3, 4)) ** self.power
        return Loss(seen.mean((guess - truth) ** 2))
"""


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes_and_its_objectives_take_their_settings(
    experiment: str,
) -> None:
    settings = from_mapping(RunSettings, compose([f"experiment={experiment}", URL]).run)
    for name, objective in settings.objectives.items():
        assert build_objective(objective, feature_dim=256).needs().views, name


def test_the_joint_run_decodes_and_encodes_little_more_than_one_objective_does() -> None:
    settings = from_mapping(RunSettings, compose(["experiment=joint", URL]).run)
    needs = [
        build_objective(objective, feature_dim=64).needs()
        for objective in settings.objectives.values()
    ]
    plan = Needs.union(needs)
    # the teacher's view, and one for all students
    assert sorted(len(offsets) for offsets in plan.views.values()) == [
        8,
        16,
    ]
    singles = sum(len(offsets) for need in needs for offsets in need.views.values())
    assert sum(map(len, plan.views.values())) <= 0.6 * singles


def test_a_new_objective_is_one_file_and_one_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "brightness_of_mine.py").write_text(BRIGHTNESS)
    configs = shutil.copytree(CONFIGS, tmp_path / "configs")
    (configs / "objective" / "brightness.yaml").write_text(
        "_target_: brightness_of_mine.Brightness\npower: 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AUSL_OBJECTIVES", "brightness_of_mine")
    words = [
        "mixture=none",
        "mixture.brightness=0.5",
        "objectives.brightness.power=2",
        "name=mine",
        "steps=5",
        URL,
    ]
    settings = from_mapping(RunSettings, compose(words, configs).run)
    torch.manual_seed(0)
    model = build_model(
        BackboneSettings(LAYER_NORM, image_size=32), settings.objectives, settings.mixture
    )
    batch = make_batch(model.plan, 4)
    losses = losses_of_a_few_steps(model, batch)
    assert losses[-1] < losses[0]
    sys.modules.pop("brightness_of_mine", None)


def test_both_stages_of_sparse_labels_see_the_builders_usual_clip_at_one_stride() -> None:
    usual = CorpusSettings().clip_frames
    plans = []
    for experiment, objective in (
        ("predictive_coding", "predictive_coding"),
        ("sparse_labels", "action_units"),
    ):
        settings = from_mapping(RunSettings, compose([f"experiment={experiment}", URL]).run)
        plan = Needs.union(
            [build_objective(settings.objectives[objective], feature_dim=8).needs()]
        )
        assert plan.window <= usual, experiment
        plans.append(plan.offsets)
    assert plans[0] == plans[1]


def test_long_clips_are_built_by_the_advice_of_the_experiment_that_needs_them() -> None:
    words = (CONFIGS / "experiment" / "predictive_coding_block.yaml").read_text().split()
    advice = [word for word in words if word.startswith("clips.")]
    settings = read_settings(None, advice)
    run = from_mapping(RunSettings, compose(["experiment=predictive_coding_block", URL]).run)
    needs = build_objective(run.objectives["predictive_coding"], feature_dim=256).needs()
    assert Needs.union([needs]).window <= settings.min_frames
