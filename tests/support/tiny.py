"""Small models and made-up batches for tests of objectives, model and engine."""

from typing import Any

import numpy as np
import torch

from ausl_dist.batch import Batch, Needs
from ausl_dist.model.backbones import BackboneSettings
from ausl_dist.model.joint import JointModel, build_model
from ausl_dist.model.readout import ReadoutSettings
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.stream.motion import measured_flow

LAYER_NORM = "test_convnext"  # timm's own test models: 0.2 to 0.4 M weights
BATCH_NORM = "test_resnet"
TRANSFORMER = "test_vit"
IMAGE_SIZE = 32

RANKING: dict[str, Any] = {
    "_target_": "ausl_dist.objectives.temporal_ranking.TemporalRanking",
    "n_far": 3,
    "embedding_dim": 16,
}


def make_model(
    *,
    backbone: str = LAYER_NORM,
    seed: int = 0,
    readout: Any = "mean",
    **objectives: dict[str, Any],
) -> JointModel:
    """A joint model of tiny size, by default of temporal ranking alone; equal seeds give equal
    weights.
    """
    objectives = objectives or {"temporal_ranking": RANKING}
    torch.manual_seed(seed)
    return build_model(
        BackboneSettings(backbone, image_size=IMAGE_SIZE, readout=ReadoutSettings(readout)),
        objectives,
        dict.fromkeys(objectives, 1.0),
    )


def make_batch(
    plan: Needs,
    clips: int,
    *,
    step: int = 0,
    seed: int = 0,
    image_size: int = IMAGE_SIZE,
    num_units: int = 12,
) -> Batch:
    """A batch of smooth random video: each frame is the one before, changed a little, so that
    time can be learnt from it.
    """
    generator = torch.Generator().manual_seed(1000 * seed + step)
    start = torch.randn(clips, 1, 3, 4, 4, generator=generator)
    drift = 0.06 * torch.randn(clips, 1, 3, 4, 4, generator=generator)
    batch = Batch.random(
        plan, clips, image_size=image_size, num_units=num_units, generator=torch.Generator()
    )
    batch.step, batch.keys = step, tuple(f"clip-{step}-{slot}" for slot in range(clips))
    for view, offsets in plan.views.items():
        coarse = start + drift * torch.tensor(offsets).view(1, -1, 1, 1, 1)
        fine = torch.nn.functional.interpolate(
            coarse.flatten(0, 1), size=image_size, mode="bilinear"
        )
        noise = 0.05 * torch.randn(fine.shape, generator=generator)
        batch.frames[view] = (fine + noise).unflatten(0, coarse.shape[:2])
        if plan.landmarks:
            batch.landmarks[view] = _face(image_size) + torch.randn(
                clips, len(offsets), 68, 2, generator=generator
            )
        if plan.mean_face:
            batch.mean_face[view] = _face(image_size).expand(clips, 68, 2).clone()
        if plan.action_units:
            batch.action_units[view] = torch.randint(
                -1, 6, (clips, len(offsets), num_units), generator=generator, dtype=torch.int8
            )
        if view in plan.flow_measured:
            batch.flow[view] = measured(
                batch.frames[view], plan.positions(view, (0, plan.flow_gap))
            )
        elif plan.flow_gap:
            batch.flow[view] = torch.randn(clips, len(offsets), 2, 16, 16, generator=generator)
    return batch


def measured(frames: torch.Tensor, pair: list[int]) -> torch.Tensor:
    """Motion B 1 2 S S between two frames of each clip of normalised frames, as a loader gives
    it.
    """
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    colours = ((frames[:, pair] * std + mean) * 255).round().clamp(0, 255).byte()
    pictures = np.ascontiguousarray(colours.permute(0, 1, 3, 4, 2).numpy())
    return torch.from_numpy(np.stack([measured_flow(*both) for both in pictures]))[:, None]


def losses_of_a_few_steps(model: JointModel, batch: Batch, steps: int = 6) -> list[float]:
    """Train on one batch with plain torch; the loss before each step."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(steps):
        loss = model(batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _face(image_size: int) -> torch.Tensor:
    """68 points about where a face's would be."""
    from ausl_dist.faces.landmarks import ANCHORS, CROP_SIZE, TEMPLATE

    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    points[ANCHORS] = torch.from_numpy(TEMPLATE).float() / CROP_SIZE
    return points * image_size
