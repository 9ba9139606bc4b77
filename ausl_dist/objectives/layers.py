"""Layers that the heads of several objectives are made of: projector, decoder, recurrent cell,
normalised embedding.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ausl_dist.objectives.base import in_float32


def feed(module: nn.Module, inputs: Tensor) -> Any:
    """Apply a module to inputs cast to the type of its weights: 16 bits where the engine holds
    weights so, float32 otherwise.
    """
    return module(inputs.to(next(module.parameters()).dtype))


def embed(head: nn.Module, features: Tensor) -> Tensor:
    """Unit-length embeddings [..., E] in float32 of features [..., D].

    Frames 40 ms apart differ by 1e-3 to 1e-2 in squared distance, below what bfloat16 resolves
    near 1: hence no autocast here.
    """
    with in_float32(features):
        return F.normalize(feed(head, features).float(), dim=-1)


def cross_entropy_of_rows(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of each row: logits [..., C] and classes [...] give [...].

    As one list of rows: torch's loss over an image of classes has no deterministic kernel for a
    GPU.
    """
    rows = F.cross_entropy(logits.flatten(0, -2), target.flatten(), reduction="none")
    return rows.view(target.shape)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [..., h, w] in another size, bilinear and antialiased.

    As products with the weights of each row and column: the gradient of torch's own has no
    deterministic kernel for a GPU.
    """
    rows, columns = (
        F.interpolate(
            torch.eye(old, device=images.device)[None, None],
            (new, old),
            mode="bilinear",
            antialias=True,
        )[0, 0]
        for old, new in zip(images.shape[-2:], size, strict=True)
    )
    with in_float32(images):
        return rows @ images @ columns.T


def cell_means(maps: Tensor, cells: int) -> Tensor:
    """The means of `cells` x `cells` cells of maps N D h w: N D*cells*cells."""
    # Two products, not adaptive pooling: ONNX knows that for whole divisors alone, and its
    # gradient has no deterministic kernel for a GPU.
    rows, columns = (_shares_of_cells(side, cells).to(maps) for side in maps.shape[2:])
    return (rows @ maps @ columns.T).flatten(1)


def _shares_of_cells(side: int, cells: int) -> Tensor:
    """Weights cells x side, rows summing to 1; a pixel on a border counts for both, in parts."""
    edges = torch.linspace(0, side, cells + 1)
    pixels = torch.arange(side)
    upper = torch.minimum(edges[1:, None], pixels + 1.0)
    overlap = (upper - torch.maximum(edges[:-1, None], pixels * 1.0)).clamp(min=0)
    return overlap / overlap.sum(1, keepdim=True)


def learnt_tokens(count: int, width: int) -> nn.Embedding:
    """Learnt vectors, small at the start.

    In a layer of their own, since under ZeRO 3 a weight is whole only while its own layer runs.
    """
    tokens = nn.Embedding(count, width)
    nn.init.normal_(tokens.weight, std=0.02)
    return tokens


def all_of(tokens: nn.Embedding) -> Tensor:
    """Every learnt vector, N W."""
    vectors: Tensor = tokens(torch.arange(tokens.num_embeddings, device=tokens.weight.device))
    return vectors


def projector(*widths: int) -> nn.Sequential:
    """Linear layers with ReLU between them and no batch norm, which would let clips of a batch
    see each other.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PooledToMap(nn.Module):
    """A map again, N C s s, of pooled features N D.

    What is decoded from it has gone through the features that a consumer gets: the readout is
    trained with the map.
    """

    def __init__(self, inputs: int, channels: int = 64, side: int = 6) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, channels * side * side)
        self.channels, self.side = channels, side

    def forward(self, pooled: Tensor) -> Tensor:
        """N C s s of N D."""
        return F.gelu(self.linear(pooled)).unflatten(-1, (self.channels, self.side, self.side))


def unpooling(
    reads: str, feature_dim: int, map_dim: int | None
) -> tuple[PooledToMap | None, int]:
    """What a decoder reads: with `pooled` a map made of the pooled features, with `map` the last
    map itself (None); and its channels.
    """
    if reads == "map":
        return None, map_dim or feature_dim
    if reads != "pooled":
        raise ValueError(f"reads must be map or pooled, not {reads}")
    made = PooledToMap(feature_dim)
    return made, made.channels


class UpDecoder(nn.Sequential):
    """Maps N D h w to N `channels` 2^k h 2^k w by k steps of nearest doubling, 3 x 3
    convolution, group norm and GELU.
    """

    def __init__(self, inputs: int, widths: tuple[int, ...], channels: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise((inputs, *widths)):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(before, after, 3, padding=1),
                nn.GroupNorm(8, after),
                nn.GELU(),
            ]
        super().__init__(*layers, nn.Conv2d(widths[-1], channels, 1))


class ConvGRU(nn.Module):
    """One convolutional gated recurrent unit with 1 x 1 kernels, as in dense predictive coding
    (Han et al. 2019).

    u = sigmoid(W_u[x, h]), r = sigmoid(W_r[x, h]), n = tanh(W_h[x, r h]), h' = (1 - u) h + u n;
    orthogonal weights, zero biases, dropout on the new state.
    """

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.ModuleList(
            nn.Conv2d(inputs + width, width, 1) for _ in range(3)
        )  # u, r, n
        for gate in self.gates:
            nn.init.orthogonal_(gate.weight)  # type: ignore[arg-type]
            nn.init.zeros_(gate.bias)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """The next state, B W h w, of input B C h w and state B W h w."""
        both = torch.cat([x, state], 1)
        update, reset = torch.sigmoid(self.gates[0](both)), torch.sigmoid(self.gates[1](both))
        candidate = torch.tanh(self.gates[2](torch.cat([x, reset * state], 1)))
        return self.dropout((1 - update) * state + update * candidate)

    def start(self, x: Tensor) -> Tensor:
        """The zero state for inputs like `x`, B C h w."""
        return x.new_zeros(len(x), self.width, *x.shape[2:])
