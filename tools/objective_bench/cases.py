"""What is trained: the joint run, each objective for itself with the recipe that small pictures want,
labels, and nothing at all.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch

from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.randomness import stable_hash
from ausl_dist.settings import from_mapping
from ausl_dist.train.process_group import start_ranks
from ausl_dist.train.settings import RunSettings
from ausl_dist.world.expressions import ACTION_UNITS
from launch.compose import compose
from launch.ports import free_ports

RANDOM, JOINT, LABELS = "random", "joint", "action_units"
CROP = (0.58, 0.64)  # of the frame's side, as in experiment=joint_small
MILD = {
    "crop": list(CROP),
    "centre": 0.66,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
}
MILD |= {"flip": 0.5, "grey": 0.0, "blur": 0.0}
# What each objective wants in small runs where it is no part of the joint one: frames further
# apart, since a small picture moves little from frame to frame, and a teacher as fast as the
# run is short.
RECIPES: dict[str, list[str]] = {
    "landmark_deviation": [],
    "temporal_contrast": ["stride=6", "teacher_momentum=0.99"],
    "temporal_ranking": ["n_far=7", "spacing=6", "batch_norm=merged", "crop=per_clip"],
    "cross_identity_reconstruction_deviation": ["teacher_momentum=0.99", "bank_size=4096"],
    "predictive_coding": ["stride=6", "reads=pooled"],
    "predictive_coding_in_clip": [],
    "roi_inpainting_deviation": [],
    "single_image_flow_stored": [],
    "masked_video_deviation": [],
    LABELS: [
        "task=intensity",
        f"units={list(ACTION_UNITS)}".replace(" ", ""),
        "frames=8",
        "stride=6",
    ],
}
SINGLE = [name for name in RECIPES if name != LABELS]


def settings_of(
    corpus: str, *, steps: int, size: int, backbone: str | None, words: list[str]
) -> RunSettings:
    """The joint run, small, on the corpus at a URL, with pictures of `size` pixels."""
    own = [
        "experiment=joint_small",
        "engine=zero0",
        "cluster.ranks=1",
        *([f"backbone={backbone}"] if backbone else []),
        f"data.corpora.main.url={corpus}",
        f"steps={steps}",
        f"data.image_size={size}",
        f"optimizer.warmup_steps={steps // 20}",
    ]
    return from_mapping(RunSettings, compose([*own, *words]).run)


def start(settings: RunSettings) -> torch.device:
    """Make this process a run's only rank; its device."""
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_ports(1)[0]),
    }
    return start_ranks(settings.engine)


def model_of(case: str, settings: RunSettings) -> JointModel:
    """The joint run's model, or one objective's with its own recipe; equal seeds, equal weights."""
    torch.manual_seed(stable_hash(settings.seed, "weights"))
    if case == JOINT:
        return build_model(
            settings.backbone, settings.objectives, settings.mixture, settings.balance_decay
        )
    own = settings.objectives.get(case) or _single(case)
    return build_model(settings.backbone, {case: own}, {case: 1.0})


def _single(case: str) -> Mapping[str, Any]:
    """The settings of an objective that is no part of the joint run."""
    words = ["mixture=none", f"+mixture.{case}=1.0", "name=single", "steps=1"]
    words += ["data.corpora.main.url=none"]
    own: Mapping[str, Any] = compose(words).run["objectives"][case]
    for key in ("view", "key_view"):
        if key in own:
            words += [
                f"++objectives.{case}.{key}.{name}={value}".replace(" ", "")
                for name, value in MILD.items()
            ]
    words += [f"++objectives.{case}.{word}" for word in RECIPES[case]]
    found: Mapping[str, Any] = compose(words).run["objectives"][case]
    return found
