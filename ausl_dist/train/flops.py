"""What a step costs in arithmetic, counted once by torch's own counter, and the share of the
device's peak that this is.

    model that no engine has yet ──forward of a made-up batch──▶ FLOPs of one clip: each objective
    alone, and all jointly

A multiplication and an addition count as two; matrix products, convolutions and attention are
counted, the small rest is not. The backward pass is taken as twice the forward, and what
activation checkpointing computes again is not counted: that is the MFU of Chowdhery et al.
(PaLM, JMLR 2023, appendix B). The counter's own figure for the backward of a depthwise
convolution is far too high.
"""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ausl_dist.batch import Batch
from ausl_dist.model.joint import JointModel, random_state_kept
from ausl_dist.objectives.base import Features
from ausl_dist.train.settings import EngineSettings
from ausl_dist.train.teacher import Teacher

JOINT = "joint"
CLIPS = 2  # contrastive losses need two

# Dense teraflops of the data sheets: 16 bits, TF32, fp32. The longest name that fits counts.
PEAK_TERAFLOPS = {
    "V100": (125.0, 15.7, 15.7),
    "A10": (125.0, 62.5, 31.2),
    "A100": (312.0, 156.0, 19.5),
    "L40S": (362.0, 183.0, 91.6),
    "H100": (989.0, 494.7, 67.0),
    "H100 PCIe": (756.0, 378.0, 51.0),
    "H200": (989.0, 494.7, 67.0),
}


def peak_flops(settings: EngineSettings, device_name: str | None) -> float | None:
    """FLOPs a second of the device at the run's precision: as set, else by its name; None where
    nobody knows.
    """
    if settings.peak_teraflops is not None:
        return settings.peak_teraflops * 1e12
    words = f"{device_name or ''} ".replace("-", " ")
    fitting = [name for name in PEAK_TERAFLOPS if f"{name} " in words]
    if not fitting:
        return None
    half, tf32, full = PEAK_TERAFLOPS[max(fitting, key=len)]
    in_fp32 = tf32 if settings.tf32 else full
    return 1e12 * (in_fp32 if settings.precision == "fp32" else half)


def count_flops(model: JointModel, image_size: int, num_units: int) -> dict[str, float]:
    """FLOPs of training on one clip: of each objective by itself on the backbone, and `joint`
    of all together.

    Leaves weights, banks, batch norm and random state as they were. All ranks must call it.
    """
    statistics = model.batch_norm_statistics()
    before = [statistic.clone() for statistic in statistics]
    alone = {
        name: JointModel(model.backbone, {name: objective}, {name: 1.0})  # type: ignore[dict-item]
        for name, objective in model.objectives.items()
    }
    with random_state_kept(next(model.parameters()).device):
        counts = {
            name: _count(part, image_size, num_units)
            for name, part in {**alone, JOINT: model}.items()
        }
    for statistic, value in zip(statistics, before, strict=True):
        statistic.copy_(value)
    return counts


class _CountedTeacher:
    """A teacher that knows what its features cost: they have no backward."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.flops = 0

    def encode(self, frames: Tensor) -> Features:
        with FlopCounterMode(display=False) as counter:
            features = self._teacher.encode(frames)
        self.flops += counter.get_total_flops()
        return features

    def module(self, name: str) -> nn.Module:
        return self._teacher.module(name)


@torch.no_grad()
def _count(model: JointModel, image_size: int, num_units: int) -> float:
    device = next(model.parameters()).device
    noise = Batch.random(model.plan, CLIPS, image_size=image_size, num_units=num_units)
    batch = noise.to(device)
    before, teacher = (
        model.teacher,
        _CountedTeacher(Teacher(model, device)) if model.needs_teacher else None,
    )
    model.teacher = teacher
    try:
        with FlopCounterMode(display=False) as counter:
            model(batch)
    finally:
        model.teacher = before
        model.after_step(False)
    without_backward = 0 if teacher is None else teacher.flops
    return (3 * (counter.get_total_flops() - without_backward) + without_backward) / CLIPS
