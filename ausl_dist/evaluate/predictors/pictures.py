"""The pictures of a corpus on the local disk, as a backbone sees them, for training that reads
each of them many times.

    for clip in writer.passing(clips): ...      ──▶ one file of bytes, 3 S S for each frame
    writer.close().of(table, rows)              ──▶ normalised images, whichever rows are asked for

Frames are rounded back to bytes: a 130,000-frame data set at 224 pixels takes 20 GB, in floats
it would take 80.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.stream.scan import ScannedClip

MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))


@dataclass(frozen=True)
class PictureStore:
    """Frames on disk, found by the clip and the frame number of a table's row."""

    pixels: NDArray[np.uint8] = field(repr=False)  # M 3 S S, mapped from the file
    # clip -> number of its first frame here, its frame numbers
    places: dict[str, tuple[int, NDArray[np.int64]]] = field(repr=False)

    def positions(self, table: FeatureTable) -> NDArray[np.int64]:
        """Where each row's picture lies, [N]."""
        found = np.zeros(len(table), np.int64)
        for index in np.unique(table.clip):
            first, numbers = self.places[table.clips[index]]
            rows = np.flatnonzero(table.clip == index)
            found[rows] = first + np.searchsorted(numbers, table.frame[rows])
        return found

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """Normalised images [..., 3, S, S] at these positions."""
        pixels = torch.from_numpy(self.pixels[positions.reshape(-1)]).float() / 255
        return ((pixels - MEAN) / STD).unflatten(0, positions.shape)


class PictureWriter:
    """Writes the pictures of clips while they pass on their way to somewhere else."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._places: dict[str, tuple[int, NDArray[np.int64]]] = {}
        self._count = self._side = 0

    def passing(self, clips: Iterable[ScannedClip]) -> Iterator[ScannedClip]:
        """The same clips."""
        for clip in clips:
            pixels = ((clip.frames * STD + MEAN) * 255).round().clamp(0, 255).to(torch.uint8)
            self._file.write(pixels.numpy().tobytes())
            self._places[clip.key] = (self._count, clip.numbers)
            self._count, self._side = self._count + len(pixels), pixels.shape[-1]
            yield clip

    def close(self) -> PictureStore:
        """What was written; the file must stay while it is read."""
        self._file.close()
        shape = (self._count, 3, self._side, self._side)
        return PictureStore(np.memmap(self._path, np.uint8, "r", shape=shape), self._places)
