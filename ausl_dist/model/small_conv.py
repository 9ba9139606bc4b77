"""A small network for small pictures on a CPU, which keeps place: five 3 x 3 convolutions,
stride 8.

    images N 3 48 48 ──▶ 32, 48, 64, 96, 96 channels; halved at the first, third and fifth ──▶ map N 96 6 6

timm's small networks halve a picture five times, which leaves 2 x 2 cells of 48 pixels. This
one speaks as timm's networks do (`forward_features`, `forward_head`, `num_features`), so that
`backbones.Backbone` holds it like any other.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

WIDTHS = (32, 48, 64, 96, 96)
STRIDES = (2, 1, 2, 1, 2)


class SmallConv(nn.Module):
    """Five convolutions with batch norm and ReLU."""

    num_features = WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        inputs = (3, *WIDTHS[:-1])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for before, after, stride in zip(inputs, WIDTHS, STRIDES, strict=True)
            )
        )
        self.grad_checkpointing = False
        self.pretrained_cfg: dict[str, object] = {}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, images: Tensor) -> Tensor:
        """Map N 96 h w of images N 3 H W."""
        if self.grad_checkpointing and self.training:
            found: Tensor = checkpoint_sequential(
                self.stages, len(self.stages), images, use_reentrant=False
            )
            return found
        maps: Tensor = self.stages(images)
        return maps

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over places, N 96; there is no classifier."""
        return F.adaptive_avg_pool2d(features, 1).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable
