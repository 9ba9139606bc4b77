"""The picture itself as features: what a probe reads without any network.

images N 3 H W ──mean of the colours──▶ 16 x 16 grey cells, N 256
"""

import torch.nn.functional as F
from torch import Tensor, nn

PIXELS = "grey pixels, 16 x 16"
SIDE = 16


class Pixels(nn.Module):
    """Stands where a backbone does; nothing in it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.grey = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.grey.weight, 1 / 3)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Grey cells, flat and as a map."""
        grey: Tensor = F.adaptive_avg_pool2d(self.grey(images), SIDE)
        return grey.flatten(1), grey
