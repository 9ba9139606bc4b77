"""Other people's backbones under our protocol, one small file each:
`open_foreign(ForeignSettings(kind="auto", weights=FILE))`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ausl_dist.evaluate.adapters import (
    avf_mae,
    dinov3,
    hugging_face,
    mae,
    marlin,
    state_dict,
    timm_model,
    vjepa,
)
from ausl_dist.evaluate.adapters.base import ForeignSettings, Kind, read_tensors
from ausl_dist.evaluate.features.entrant import Entrant

KINDS: dict[str, Callable[[ForeignSettings], Entrant]] = {
    "timm": timm_model.open_entrant,
    "state_dict": state_dict.open_entrant,
    "mae": mae.open_entrant,
    "marlin": marlin.open_entrant,
    "dinov3": dinov3.open_entrant,
    "vjepa": vjepa.open_entrant,
    "avf_mae": avf_mae.open_entrant,
    "hugging_face": hugging_face.open_entrant,
}
# by the names of tensors; the first that knows them
BY_NAMES: dict[Kind, Callable[[set[str]], bool]] = {
    "dinov3": dinov3.recognises,
    "avf_mae": avf_mae.recognises,
    "marlin": marlin.recognises,
    "mae": mae.recognises,
    "vjepa": vjepa.recognises,
}

__all__ = ["KINDS", "ForeignSettings", "open_foreign"]


def open_foreign(settings: ForeignSettings) -> Entrant:
    """The backbone that the settings name; ValueError, with what to give, where it cannot be
    opened.
    """
    if settings.kind == "auto":
        settings = dataclasses.replace(settings, kind=kind_of(settings))
    return KINDS[settings.kind](settings)


def kind_of(settings: ForeignSettings) -> Kind:
    """What a file or folder holds, by what stands in it; ValueError where that says nothing."""
    if hugging_face.recognises(Path(settings.weights or "")):
        return "hugging_face"
    names = set(read_tensors(settings.file))
    for kind, recognises in BY_NAMES.items():
        if recognises(names):
            return kind
    raise ValueError(
        f"{settings.weights} is of none of the layouts {', '.join(BY_NAMES)}: kind=timm with its "
        "name=, or kind=state_dict with mapping=, reads others"
    )
