"""What vision transformers of video have in common here: tubelets in, the judged frame's map out.

video N W 3 H W ──Conv3d──▶ tokens N (t h w) D ──the network's own blocks──▶ tokens
    ──at_slot──▶ map N D h w, and its mean N D
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.evaluate.features.windows import Window, at_slot


class VideoTokens(nn.Module):
    """A transformer over tubelets; one that follows says what happens to the tokens."""

    def __init__(self, *, width: int, tubelet: int, patch: int, window: Window) -> None:
        super().__init__()
        if window.frames % tubelet:
            raise ValueError(
                f"window.frames must be a multiple of the {tubelet} frames of a tubelet, "
                f"not {window.frames}"
            )
        self.dim, self.window = width, window
        size = (tubelet, patch, patch)
        self.patch_embed = nn.Conv3d(3, width, size, size)

    @property
    def net(self) -> nn.Module:
        return self

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled N D and map N D h w at the judged frame of windows N W 3 H W."""
        embedded = self.patch_embed(video.transpose(1, 2))  # N D t h w
        grid = (embedded.shape[2], embedded.shape[3], embedded.shape[4])
        tokens = self.encode(embedded.flatten(2).transpose(1, 2), grid)
        maps = at_slot(tokens, grid, self.window.slot, self.window.frames)
        return maps.mean((2, 3)), maps

    def encode(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Tokens N (t h w) D after all blocks and the last norm, of embedded ones."""
        raise NotImplementedError


class Attention(nn.Module):
    """Self-attention with one matrix for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, turned: Any = None) -> Tensor:
        """`turned` is done to queries and keys, N heads L d, first: rotary positions."""
        query, key, value = (
            self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )
        if turned is not None:
            query, key = turned(query), turned(key)
        mixed = F.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return found


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return found
