"""The faces on which a release is measured: those of videos that the user names, else rendered
ones.

    videos, pictures, folders ──found and aligned as the bundle will do it──▶ at most NUM_FACES crops
    nothing named ──▶ NUM_FACES heads of the built-in world, one frame of each

Real faces say more. Rendered ones are there on every machine, and the same on all of them.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ausl_dist.corpus.layouts import layout
from ausl_dist.corpus.sources import collect
from ausl_dist.release.faces import Faces, to_input
from ausl_dist.release.preprocessing import Preprocessing
from ausl_dist.world.head import BuiltinHead
from ausl_dist.world.render import World

NUM_FACES = 16
FRAMES_APART = 10  # between the faces taken from one video
RENDERED_SEED = 20


@dataclass(frozen=True)
class ReferenceFaces:
    """Aligned crops, and what they are."""

    crops: NDArray[np.uint8]  # N 256 256 3, RGB
    source: str

    def inputs(self, preprocessing: Preprocessing) -> Tensor:
        """As the backbone takes them: N 3 H W, normalised."""
        return torch.stack([to_input(crop, preprocessing) for crop in self.crops])


def reference_faces(
    places: Sequence[str], preprocessing: Preprocessing, models: Path | None = None
) -> ReferenceFaces:
    """Faces of the videos, pictures and folders named; rendered ones where none are.

    ValueError where fewer than two faces are found.
    """
    if not places:
        return ReferenceFaces(
            rendered_faces(), f"{NUM_FACES} rendered faces of as many identities"
        )
    sources = collect(places, layout("plain")).sources
    count = min(len(sources), NUM_FACES)
    chosen = [sources[i * len(sources) // count] for i in range(count)]
    crops: list[NDArray[np.uint8]] = []
    for source in chosen:
        found = Faces(source.location, preprocessing, models=models).aligned()
        crops += [
            face.crop
            for face in islice(found, 0, FRAMES_APART * -(-NUM_FACES // count), FRAMES_APART)
        ]
    if len(crops) < 2:
        raise ValueError(
            f"{len(crops)} faces were found in {', '.join(places)}, at least 2 are needed: "
            "name more videos with --faces"
        )
    crops = crops[:NUM_FACES]
    return ReferenceFaces(
        np.stack(crops),
        f"{len(crops)} faces found in {count} {'file' if count == 1 else 'files'}",
    )


@functools.lru_cache(maxsize=1)
def rendered_faces() -> NDArray[np.uint8]:
    """N 256 256 3, the same on every call."""
    world = World(BuiltinHead(), seconds=0.4, seed=RENDERED_SEED)
    clips = (world.clip(identity, 0) for identity in range(NUM_FACES))
    return np.stack([clip.frame(len(clip) // 2) for clip in clips])
