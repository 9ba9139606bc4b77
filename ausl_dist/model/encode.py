"""Frozen features of frames, the same to the last bit whatever else is in the batch.

    frames [T, C, H, W] ──▶ passes of exactly PASS_FRAMES frames, the last one filled up ──▶ features [T, D]

Matrix products round differently for different batch shapes, so features of a clip would depend
on how many clips happened to share a batch. Here the shape of every pass is constant and passes
start at the clip's first frame: a feature depends on its clip alone. What is lost is the time
for filling up the last pass of each clip.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

PASS_FRAMES = 16


@torch.inference_mode()
def encode_frames(backbone: nn.Module, frames: Tensor) -> Tensor:
    """Pooled features [T, D] float32, on the CPU, of normalised frames [T, C, H, W]; the
    backbone must be in eval mode.
    """
    device = _device_of(backbone)
    return torch.cat([_one_pass(backbone, part, device) for part in frames.split(PASS_FRAMES)])


@torch.inference_mode()
def encode_stream(backbone: nn.Module, frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Features [n, D] for each pass over a stream of normalised frames [C, H, W]: bounded
    memory for any length.
    """
    device = _device_of(backbone)
    waiting: list[Tensor] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == PASS_FRAMES:
            yield _one_pass(backbone, torch.stack(waiting), device)
            waiting = []
    if waiting:
        yield _one_pass(backbone, torch.stack(waiting), device)


def _device_of(backbone: nn.Module) -> torch.device:
    if backbone.training:
        raise ValueError(
            "features are taken in eval mode: call backbone.eval() first, "
            "or batch statistics leak between clips"
        )
    return next(backbone.parameters()).device


def _one_pass(backbone: nn.Module, frames: Tensor, device: torch.device) -> Tensor:
    missing = PASS_FRAMES - len(frames)
    filled = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)]) if missing else frames
    pooled, _ = backbone(filled.to(device, torch.float32))
    features: Tensor = pooled[: len(frames)].float().cpu()
    return features
