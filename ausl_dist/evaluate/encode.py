"""Frozen features of frames, the same to the last bit whatever else is in the batch.

    frames [T, C, H, W] ──▶ passes of exactly PASS_FRAMES frames, the last one filled up ──▶ features [T, D]

Matrix products round differently for different batch shapes, so features of a clip would depend on how many clips happened to share a
batch. Here the shape of every pass is constant and passes start at the clip's first frame: a feature depends on its clip alone. What is
lost is the time for filling up the last pass of each clip.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

PASS_FRAMES = 16


def encode_frames(backbone: nn.Module, frames: Tensor) -> Tensor:
    """Pooled features [T, D] float32, on the CPU, of normalised frames [T, C, H, W]; the backbone must be in eval mode."""
    return torch.cat(list(encode_stream(backbone, frames)), dim=0)


@torch.inference_mode()
def encode_stream(backbone: nn.Module, frames: Iterable[Tensor]) -> Iterator[Tensor]:
    """Features [n, D] for each pass over a stream of normalised frames [C, H, W]: bounded memory for any length."""
    if backbone.training:
        raise ValueError("features are taken in eval mode: call backbone.eval() first, or batch statistics leak between clips")
    device = next(backbone.parameters()).device
    waiting: list[Tensor] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == PASS_FRAMES:
            yield _one_pass(backbone, waiting, device)
            waiting = []
    if waiting:
        yield _one_pass(backbone, waiting, device)


def _one_pass(backbone: nn.Module, frames: list[Tensor], device: torch.device) -> Tensor:
    filled = torch.stack(frames + frames[-1:] * (PASS_FRAMES - len(frames)))
    pooled, _ = backbone(filled.to(device, torch.float32))
    features: Tensor = pooled[: len(frames)].float().cpu()
    return features
