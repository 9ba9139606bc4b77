"""What a recurrent head adds to a linear one: a memory of the frames before, of each person
apart.

    feature maps n D h w with their rows (frame, track) ──▶ 1 x 1 convolution
        ──▶ ConvGRU, one state for each chain ──▶ means over cells of places n W*cells*cells

It looks at time as in training (`ausl_dist.objectives.action_units`, context=gru): a chain is
every `stride`-th frame of one track, and after `frames` of them, or where one is missing, its
state begins anew. Frames go through one by one, so that nothing depends on how a video is cut
into passes.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ausl_dist.objectives.layers import ConvGRU, cell_means

# remembered at a time; the one that was longest without a frame is forgotten first
MAX_CHAINS = 512
MAX_WINDOW = 4096  # frames; no clip is longer
MAX_CELLS = 16  # a side
Row = tuple[int, int, float]  # frame number, track, seconds


@dataclass(frozen=True)
class Context:
    """The window that a recurrent head was trained on."""

    frames: int
    stride: int
    cells: int = 1  # a side: the head sees the mean of each

    def __post_init__(self) -> None:
        if not (1 <= self.frames <= MAX_WINDOW and 1 <= self.stride <= MAX_WINDOW):
            raise ValueError(
                f"frames and stride must lie in [1, {MAX_WINDOW}], "
                f"not {self.frames} and {self.stride}"
            )
        if not 1 <= self.cells <= MAX_CELLS:
            raise ValueError(f"cells must lie in [1, {MAX_CELLS}], not {self.cells}")


@dataclass(frozen=True)
class _Link:
    frame: int
    length: int  # of the chain up to here
    state: Tensor  # 1 W h w


Memory = OrderedDict[tuple[int, int], _Link]  # by track and phase of the stride


class OverTime(nn.Module):
    """The part of a recurrent head below its linear layer; its parameters are named as in the
    objective.
    """

    def __init__(self, dim: int, width: int, context: Context) -> None:
        super().__init__()
        self.context = context
        self.reduce = nn.Conv2d(dim, width, 1)
        self.gru = ConvGRU(width, width, dropout=0.0)

    @torch.inference_mode()
    def forward(self, rows: list[Row], maps: Tensor, memory: Memory) -> Tensor:
        """What the linear layer is to see of each row, n W*cells*cells, of maps n D h w; `memory` is read
        and brought up to date.
        """
        means = []
        for (frame, track, _), features in zip(rows, maps, strict=True):
            chain = (track, frame % self.context.stride)
            before = memory.pop(chain, None)
            x = torch.relu(self.reduce(features[None]))
            if (
                before is None
                or before.frame != frame - self.context.stride
                or before.length == self.context.frames
            ):
                before = _Link(frame, 0, self.gru.start(x))
            state = self.gru(x, before.state)
            memory[chain] = _Link(frame, before.length + 1, state)
            means.append(self._seen(state)[0])
            if len(memory) > MAX_CHAINS:
                memory.popitem(last=False)
        return torch.stack(means)

    def _seen(self, state: Tensor) -> Tensor:
        cells = self.context.cells
        return state.mean((2, 3)) if cells == 1 else cell_means(state, cells)
