"""A backbone as the protocols see it, whoever trained it: from here on a released one and a
foreign one are treated alike.

bundle (released.open_bundle) ──┐
foreign file (adapters)       ──┴──▶ Entrant
    ──▶ features, fine-tuning, and the same network with random weights beside it
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ausl_dist.batch import View
from ausl_dist.evaluate.features.windows import Window, window_of


@dataclass(frozen=True)
class Entrant:
    """A frozen network in eval mode and the crop it wants.

    `backbone` maps images N 3 H W, normalised by `clip.PIXEL_MEAN` and `PIXEL_STD`, to pooled
    features N D and a map; `backbone.net` is the network whose layers fine-tuning tells apart,
    `backbone.dim` is D. One with a `window` maps the frames around each instead, N W 3 H W.
    """

    backbone: nn.Module
    # the same network with random weights, from torch's generator
    fresh: Callable[[], nn.Module] = field(repr=False)
    image_size: int
    view: View
    alignment: str | None  # of the crops it was trained on; None where it is not known
    description: dict[str, Any]

    @property
    def window(self) -> Window | None:
        """What it sees around a frame, where it is a network of video."""
        return window_of(self.backbone)

    def random_double(self, seed: int) -> nn.Module:
        """The same network with random weights of a fixed seed, in eval mode."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.fresh().eval()


def fastest_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
