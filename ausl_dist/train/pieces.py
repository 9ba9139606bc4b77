"""Tensors stored in pieces over several safetensors files, put together again for whoever asks,
however they were cut.

rank 0's file: "master/net.conv.weight@0"   [700]         whole("master")         ->
                                                          {"net.conv.weight": [1000]}
rank 1's file: "master/net.conv.weight@700" [300]         read("master", "net.conv.weight", 500, 500)
                                                          -> the second half
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor


def piece_key(kind: str, name: str, offset: int) -> str:
    """The name of a piece in its file."""
    return f"{kind}/{name}@{offset}"


@dataclass(frozen=True)
class _Part:
    offset: int
    length: int
    file: Path
    key: str


class StoredPieces:
    """An index over the pieces in `files`; tensors are flat: shapes are the reader's business."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._parts: dict[tuple[str, str], list[_Part]] = {}
        for path in files:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118 - not a mapping
                    kind, _, rest = key.partition("/")
                    name, _, offset = rest.rpartition("@")
                    part = _Part(int(offset), file.get_slice(key).get_shape()[0], path, key)
                    self._parts.setdefault((kind, name), []).append(part)
        for parts in self._parts.values():
            parts.sort(key=lambda part: part.offset)

    def names(self, kind: str) -> list[str]:
        """The tensors of a kind."""
        return [name for found, name in self._parts if found == kind]

    def length(self, kind: str, name: str) -> int:
        """Elements of a tensor. Raises ValueError where it is absent or pieces of it are."""
        end = 0
        for part in self._parts.get((kind, name), []):
            if part.offset != end:
                raise ValueError(f"{kind} of {name} lacks its elements from {end} on")
            end += part.length
        if not end:
            raise ValueError(f"{kind} of {name} is not in the checkpoint")
        return end

    def read(self, kind: str, name: str, offset: int, length: int) -> Tensor:
        """Elements `offset` to `offset + length` of a tensor, 1-d.

        Raises ValueError where they are not all there.
        """
        if offset + length > self.length(kind, name):
            raise ValueError(
                f"{kind} of {name} has {self.length(kind, name)} elements, not {offset + length}: "
                "it is of another model"
            )
        found = []
        for part in self._parts[kind, name]:
            first, last = (
                max(offset, part.offset),
                min(offset + length, part.offset + part.length),
            )
            if first < last:
                with safe_open(part.file, framework="pt") as file:
                    found.append(
                        file.get_slice(part.key)[first - part.offset : last - part.offset]
                    )
        return torch.cat(found)

    def whole(self, kind: str, prefix: str = "") -> dict[str, Tensor]:
        """All tensors of a kind whose names begin with `prefix`, flat."""
        names = [name for name in self.names(kind) if name.startswith(prefix)]
        return {name: self.read(kind, name, 0, self.length(kind, name)) for name in names}
