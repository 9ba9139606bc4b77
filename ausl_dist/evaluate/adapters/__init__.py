"""Other people's backbones under our protocol, one small file each:
`open_foreign(ForeignSettings(kind="mae", weights=FILE))`.
"""

from collections.abc import Callable

from ausl_dist.evaluate.adapters import mae, marlin, state_dict, timm_model
from ausl_dist.evaluate.adapters.base import ForeignSettings
from ausl_dist.evaluate.features.entrant import Entrant

KINDS: dict[str, Callable[[ForeignSettings], Entrant]] = {
    "timm": timm_model.open_entrant,
    "state_dict": state_dict.open_entrant,
    "mae": mae.open_entrant,
    "marlin": marlin.open_entrant,
}

__all__ = ["KINDS", "ForeignSettings", "open_foreign"]


def open_foreign(settings: ForeignSettings) -> Entrant:
    """The backbone that the settings name; ValueError, with what to give, where it cannot be
    opened.
    """
    return KINDS[settings.kind](settings)
