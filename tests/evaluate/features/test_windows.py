"""A video network judges a frame with those around it in sight, and by what it has at its own
time.
"""

import numpy as np
import torch
from torch import Tensor, nn

from ausl_dist.evaluate.features.windows import Window, at_slot, encode_windows


class Recalls(nn.Module):
    """Features are the frames' numbers, which stand in their pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        return video[:, :, 0, 0, 0] + self.nothing, video


def test_the_window_is_centred_and_its_edges_are_repeated() -> None:
    frames = torch.arange(10.0).view(10, 1, 1, 1).expand(-1, 3, 2, 2)
    found = encode_windows(Recalls(), Window(4, 3), frames, np.array([0, 5, 9]))
    assert found.tolist() == [[0, 0, 0, 3], [0, 2, 5, 8], [3, 6, 9, 9]]


def test_a_row_does_not_depend_on_what_is_judged_beside_it() -> None:
    torch.manual_seed(0)

    class Sums(Recalls):
        def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
            return video.flatten(1) @ torch.ones(4 * 12, 5), video

    frames = torch.randn(9, 3, 2, 2)
    whole = encode_windows(Sums(), Window(4, 1), frames, np.arange(9))
    alone = encode_windows(Sums(), Window(4, 1), frames, np.array([6]))
    assert torch.equal(whole[6:7], alone)


def test_the_tubelet_of_the_judged_frame_is_read() -> None:
    tokens = torch.arange(8.0).view(1, 8, 1).repeat(1, 1, 2)  # two tubelets of 2 x 2
    assert at_slot(tokens, (2, 2, 2), slot=2, frames=4)[0, 0].tolist() == [[4, 5], [6, 7]]
    assert at_slot(tokens, (2, 2, 2), slot=1, frames=4)[0, 0].tolist() == [[0, 1], [2, 3]]
