"""Any network of timm's: with a local file under timm's own names, or with the weights that
timm knows for NAME or NAME.TAG.
"""

from typing import Any, cast

from ausl_dist.evaluate.adapters.base import (
    ForeignSettings,
    entrant,
    load_exactly,
    read_tensors,
)
from ausl_dist.evaluate.features.entrant import Entrant
from ausl_dist.model.backbones import Backbone, BackboneSettings, build_backbone, import_timm

HEADS = ("fc.", "head.", "classifier.")


def open_entrant(settings: ForeignSettings) -> Entrant:
    """The network; without `weights` timm downloads its own, in its usual way."""
    own = BackboneSettings(settings.name.split(".")[0], settings.side)
    backbone = build_backbone(own)  # says which names are near a misspelt one
    if settings.weights is None:
        size = {"img_size": settings.side} if hasattr(backbone.net, "patch_embed") else {}
        backbone = Backbone(
            import_timm().create_model(settings.name, pretrained=True, num_classes=0, **size)
        )
    else:
        tensors = {
            name: value
            for name, value in read_tensors(settings.file).items()
            if not name.startswith(HEADS)
        }
        load_exactly(backbone.net, tensors, settings)
    known = cast(dict[str, Any], backbone.net.pretrained_cfg)
    mean, std = (
        (settings.pixel_mean, settings.pixel_std)
        if settings.weights
        else (known["mean"], known["std"])
    )
    return entrant(
        settings,
        lambda: build_backbone(own),
        backbone,
        image_size=settings.side,
        mean=mean,
        std=std,
    )
