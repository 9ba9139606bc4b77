"""The optimizer and its parameter groups: which weights decay, and which learn at another rate
than the rest.

    named parameters ──▶ groups of equal (learning rate scale, decays or not) ──▶ fused AdamW or Adam, or SGD

Biases, norms, other vectors and what the backbone itself names (`no_weight_decay`) do not
decay. With `layer_decay` each layer of the backbone learns at that share of the rate of the
layer after it (Clark et al., ELECTRA, ICLR 2020); heads learn at `head_rate` of the full rate.
"""

import torch
from torch import nn

from ausl_dist.model.backbones import import_timm
from ausl_dist.model.joint import JointModel
from ausl_dist.train.settings import OptimizerSettings

BACKBONE, NET = "backbone.", "backbone.net."


def make_optimizer(model: JointModel, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """The optimizer over everything trainable; each group carries `rate_scale`, and `decays`."""
    groups = parameter_groups(model, settings)
    if settings.kind == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    # Fused: one pass over the flat tensors that ZeRO makes of the weights; on a CPU too, where
    # the other ways fill memory with temporaries. Adam takes the decay as a part of the
    # gradient, which its step sizes then wash out.
    kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)


def set_values(
    optimizer: torch.optim.Optimizer, learning_rate: float, weight_decay: float
) -> None:
    """Set the learning rate and decay of a step in every group, as the group's own share of
    them.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_scale"]
        group["weight_decay"] = weight_decay if group["decays"] else 0.0


def parameter_groups(model: JointModel, settings: OptimizerSettings) -> list[dict[str, object]]:
    """Groups of parameters, decaying ones first, in an order that depends on names alone."""
    undecayed = {NET + name for name in getattr(model.backbone.net, "no_weight_decay", set)()}
    scales = _rate_scales(model.backbone.net, settings.layer_decay)
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim >= 2 and name not in undecayed
            scale = (
                scales.get(name.removeprefix(NET), 1.0)
                if name.startswith(BACKBONE)
                else settings.head_rate
            )
            groups.setdefault((decays, scale), []).append(parameter)
    ordered = sorted(groups.items(), key=lambda item: item[0], reverse=True)
    decay = {True: settings.weight_decay, False: 0.0}
    return [
        {
            "params": parameters,
            "weight_decay": decay[decays],
            "decays": decays,
            "rate_scale": scale,
        }
        for (decays, scale), parameters in ordered
    ]


def _rate_scales(net: nn.Module, layer_decay: float) -> dict[str, float]:
    """The share of the full learning rate of each backbone parameter; empty where all learn
    alike.
    """
    if layer_decay == 1.0:
        return {}
    if not hasattr(net, "group_matcher"):
        raise ValueError(
            "optimizer.layer_decay needs a backbone of timm, which knows its layers: set it to 1.0"
        )
    layers: dict[str, int] = import_timm().models.group_parameters(
        net,
        net.group_matcher(coarse=False),  # type: ignore[operator]
        reverse=True,
    )
    last = max(layers.values())
    return {name: layer_decay ** (last - layer) for name, layer in layers.items()}
