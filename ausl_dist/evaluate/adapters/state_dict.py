"""A torch state dict of a network that timm has, under other names: `mapping` turns beginnings
of names into timm's.

mapping: {"encoder.": "", "encoder.stem.": "conv1."}    the longest beginning counts; names that
begin with none are left out
"""

from collections.abc import Mapping

from torch import Tensor

from ausl_dist.evaluate.adapters.base import (
    ForeignSettings,
    entrant,
    load_exactly,
    read_tensors,
)
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.model.backbones import BackboneSettings, build_backbone


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The timm network `settings.name` with the renamed tensors, all of them needed and all of
    them used.
    """
    own = BackboneSettings(settings.name, settings.side)
    backbone = build_backbone(own)
    load_exactly(backbone.net, renamed(read_tensors(settings.file), settings.mapping), settings)
    fresh = lambda: build_backbone(own)  # noqa: E731
    return entrant(
        settings,
        fresh,
        backbone,
        image_size=settings.side,
        mean=settings.pixel_mean,
        std=settings.pixel_std,
    )


def renamed(tensors: Mapping[str, Tensor], mapping: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors under timm's names; without a mapping as they are."""
    if not mapping:
        return dict(tensors)
    result = {}
    for name, value in tensors.items():
        beginnings = [beginning for beginning in mapping if name.startswith(beginning)]
        if beginnings:
            beginning = max(beginnings, key=len)
            result[mapping[beginning] + name.removeprefix(beginning)] = value
    return result
