"""The 2d3d-ResNet of dense predictive coding: an image network in its first half, a video
network in its second.

    block N L 3 H W ──▶ stem, two 2D stages ──▶ two stages of 3 x 3 x 3 kernels, time halved twice
        ──▶ mean over time ──▶ N 256 h w

Han, Xie, Zisserman 2019, after the authors' code: stem 1 x 7 x 7 and pooling as in ResNet-18;
the last stage has 256 channels, not 512, and no ReLU at the end, so that features may be
predicted as they are. At 128 pixels h = w = 4. Their batch norm never uses running statistics;
here these are kept, which changes nothing in training and lets a released network see one clip
at a time.

It speaks as timm's networks do (`forward_features`, `forward_head`, `num_features`), so that
`backbones.Backbone` holds it like any other. A single frame is a block of length 1: all other
objectives can share it.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class ResNet2d3d(nn.Module):
    """ResNet of basic blocks, 2D in stages 1 and 2, 3D in 3 and 4; `depths` are the numbers of
    blocks.
    """

    takes_blocks = True
    num_features = 256

    def __init__(self, depths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        widths, times = (64, 128, 256, 256), (1, 1, 3, 3)
        before = 64
        stages = []
        for stage, (depth, width, time) in enumerate(zip(depths, widths, times, strict=True)):
            stride = (2 if time == 3 else 1, *([1, 1] if stage == 0 else [2, 2]))
            blocks = [
                BasicBlock(
                    before if i == 0 else width,
                    width,
                    time,
                    stride if i == 0 else (1, 1, 1),
                    last=stage == 3 and i == depth - 1,
                )
                for i in range(depth)
            ]
            stages.append(nn.Sequential(*blocks))
            before = width
        self.stages = nn.ModuleList(stages)
        self.grad_checkpointing = False
        self.pretrained_cfg: dict[str, object] = {}
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, blocks: Tensor) -> Tensor:
        """Map N 256 h w of blocks N L 3 H W or frames N 3 H W."""
        video = blocks.transpose(1, 2) if blocks.ndim == 5 else blocks[:, :, None]  # N 3 L H W
        x = F.max_pool3d(F.relu(self.bn1(self.conv1(video))), (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for stage in self.stages:
            x = (
                cast(Tensor, checkpoint(stage, x, use_reentrant=False))
                if self.grad_checkpointing and x.requires_grad
                else stage(x)
            )
        return x.mean(2)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Mean over places, N 256; there is no classifier."""
        return features.mean((2, 3))

    def forward(self, blocks: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(blocks))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable


class BasicBlock(nn.Module):
    """Two convolutions of `time` x 3 x 3 and a shortcut; the network's `last` one ends without
    ReLU.
    """

    def __init__(
        self, inputs: int, width: int, time: int, stride: tuple[int, ...], *, last: bool
    ) -> None:
        super().__init__()
        kernel, padding = (time, 3, 3), (time // 2, 1, 1)
        stride3 = (stride[0], stride[1], stride[2])
        self.conv1 = nn.Conv3d(inputs, width, kernel, stride3, padding, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, kernel, 1, padding, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        same = inputs == width and stride3 == (1, 1, 1)
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv3d(inputs, width, 1, stride3, bias=False), nn.BatchNorm3d(width)
            )
        )
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.shortcut(x)
        return y if self.last else torch.relu(y)


VIDEO_NETWORKS: dict[str, Callable[[], ResNet2d3d]] = {
    "resnet18_2d3d": lambda: ResNet2d3d((2, 2, 2, 2)),
    "resnet34_2d3d": lambda: ResNet2d3d((3, 4, 6, 3)),
}
