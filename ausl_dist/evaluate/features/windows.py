"""The frames around a frame: what a video network is shown to judge it.

    frames T C H W of a clip, judged frame t ──▶ frames t - half … t … , `step` apart
        ──▶ video network, N W C H W ──▶ the tokens of the tubelet that t lies in ──▶ a row of features

Before the first frame and behind the last one these are repeated. A frame is judged by what the
network has at its own time, with all others in sight; their mean would blur it over seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

WINDOWS_A_PASS = 4  # always as many, so that a feature does not depend on what is beside it


@dataclass(frozen=True)
class Window:
    """Which frames a video network sees."""

    frames: int
    step: int  # frames of the corpus from one to the next

    def __post_init__(self) -> None:
        if self.frames < 1 or self.step < 1:
            raise ValueError(
                f"window: frames and step must be at least 1, not {self.frames} and {self.step}"
            )

    @property
    def slot(self) -> int:
        """Where in the window the judged frame stands."""
        return self.frames // 2

    def around(self, frame: int, length: int) -> list[int]:
        """The numbers of the frames of a clip of `length` that are shown to judge `frame`."""
        first = frame - self.slot * self.step
        wanted = range(first, first + self.frames * self.step, self.step)
        return [min(max(number, 0), length - 1) for number in wanted]


def window_of(backbone: nn.Module) -> Window | None:
    """What a network wants to see around a frame; None for one of single pictures."""
    return cast(Window | None, getattr(backbone, "window", None))


@torch.inference_mode()
def encode_windows(
    backbone: nn.Module,
    window: Window,
    frames: Tensor,
    judged: Sequence[int] | NDArray[np.int64],
) -> Tensor:
    """Features N D, on the CPU, of the judged frames of a clip T C H W, all of its frames in
    order.
    """
    device = next(backbone.parameters()).device
    parts = []
    for start in range(0, len(judged), WINDOWS_A_PASS):
        numbers = [int(number) for number in judged[start : start + WINDOWS_A_PASS]]
        filled = numbers + numbers[-1:] * (WINDOWS_A_PASS - len(numbers))
        shown = torch.stack([frames[window.around(number, len(frames))] for number in filled])
        pooled, _ = backbone(shown.to(device, torch.float32))  # of N W C H W
        parts.append(pooled[: len(numbers)].float().cpu())
    return torch.cat(parts)


def at_slot(tokens: Tensor, grid: tuple[int, int, int], slot: int, frames: int) -> Tensor:
    """The map N D h w of the tubelet that the judged frame lies in, of tokens N (t h w) D."""
    tubelet = slot * grid[0] // frames
    maps: Tensor = tokens.unflatten(1, grid)[:, tubelet]  # N h w D
    return maps.permute(0, 3, 1, 2)
