"""All objectives at once, balanced, with their teacher, train alike whether ZeRO keeps weights
whole or in pieces.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import build_model
from ausl_dist.train.engine import Engine
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.settings import EngineSettings, OptimizerSettings
from tests.support.ranks import run_ranks
from tests.support.tiny import IMAGE_SIZE, TRANSFORMER, make_batch
from tests.support.zero import as_if_large

OBJECTIVES = Path(__file__).parents[2] / "configs" / "objective"
# of the presets of flow one: a run has one gap, and one source of it
FILES = sorted(
    set(OBJECTIVES.glob("*.yaml")) - set(OBJECTIVES.glob("single_image_flow_*.yaml"))
)


def train(*stages: int) -> list[list[tuple[float, float]]]:
    objectives: dict[str, Any] = {
        path.stem: OmegaConf.to_container(OmegaConf.load(path)) for path in FILES
    }
    objectives["masked_video"] |= {
        "encoder": "drop",
        "decoder_width": 64,
        "decoder_layers": 1,
        "decoder_heads": 2,
    }
    device = start_ranks(EngineSettings())
    results = []
    for stage in stages:
        torch.manual_seed(0)
        model = build_model(
            BackboneSettings(TRANSFORMER, image_size=IMAGE_SIZE),
            objectives,
            dict.fromkeys(objectives, 1.0),
            0.9,
        )
        settings = EngineSettings(zero_stage=stage)  # type: ignore[arg-type]
        with as_if_large():
            engine = Engine(model, settings, OptimizerSettings(), device)
        outcomes = []
        for step in range(2):
            torch.manual_seed(step)
            outcomes.append(engine.train_step(make_batch(model.plan, 2, step=step), 1e-3))
        assert all(outcome.bad is None for outcome in outcomes)
        results.append([(outcome.loss, outcome.gradient_norm) for outcome in outcomes])
    return results


@pytest.mark.timeout(450)
def test_weights_in_pieces_change_nothing() -> None:
    whole, pieces = run_ranks(train, 1, 0, 3)[0]
    for expected, found in zip(whole, pieces, strict=True):
        assert found == pytest.approx(expected, rel=1e-3)
