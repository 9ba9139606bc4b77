"""The teacher: an exponential moving average of the student, in fp32, outside the engine.

    after a good step:  teacher <- momentum * teacher + (1 - momentum) * student      (Tarvainen and
    Valpola, NeurIPS 2017)

It holds copies of the backbone and of the submodules that objectives list in `taught`. Every
rank holds all of it and computes the same update from the same weights. Batch norm in the
teacher uses the student's running statistics, never those of its own batch: batch statistics
would tell which features belong together (He et al., MoCo, CVPR 2020, section 3.3).
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ausl_dist.model.joint import JointModel
from ausl_dist.objectives.base import Features, Objective


class Teacher:
    """The slow copy of a model's backbone and taught heads.

    Deliberately no Module: the engine must not shard, cast or train it.
    """

    def __init__(self, model: JointModel, device: torch.device) -> None:
        """Begin as a copy of `model`, which must not be under an engine yet.

        Raises ValueError where objectives want different momenta.
        """
        pupils = [
            objective
            for objective in model.objectives.values()
            if isinstance(objective, Objective) and objective.needs_teacher
        ]
        momenta = {objective.teacher_momentum for objective in pupils}
        if len(momenta) != 1:
            wanted = {objective.label: objective.teacher_momentum for objective in pupils}
            raise ValueError(
                f"there is one teacher, and it has one momentum, but the objectives want {wanted}: "
                "give them the same"
            )
        self.momentum = momenta.pop()
        names = [
            "backbone",
            *(
                f"objectives.{objective.label}.{name}"
                for objective in pupils
                for name in objective.taught
            ),
        ]
        self._modules = {
            name: copy.deepcopy(model.get_submodule(name))
            .to(device)
            .float()
            .eval()
            .requires_grad_(False)
            for name in names
        }

    def encode(self, frames: Tensor) -> Features:
        """Features of frames B T C H W, without gradient."""
        with torch.no_grad():
            pooled, maps = self._modules["backbone"](frames.flatten(0, 1))
        return Features(
            pooled.unflatten(0, frames.shape[:2]), maps.unflatten(0, frames.shape[:2])
        )

    def module(self, name: str) -> nn.Module:
        """The copy of the submodule OBJECTIVE.NAME."""
        return self._modules[f"objectives.{name}"]

    @property
    def parameter_names(self) -> list[str]:
        """The student's names of what is averaged, in the order `update` wants their values."""
        return [
            f"{prefix}.{name}"
            for prefix, module in self._modules.items()
            for name, _ in module.named_parameters()
        ]

    @torch.no_grad()
    def update(
        self,
        weights: list[Tensor],
        buffers: Mapping[str, Tensor],
        momentum: float | None = None,
    ) -> None:
        """Move towards the student's `weights` (whole, fp32, in the order of
        `parameter_names`), and take over its buffers.

        `momentum` is that of this step, the objectives' own where none is given.
        """
        own: list[Tensor] = [
            parameter for module in self._modules.values() for parameter in module.parameters()
        ]
        torch._foreach_lerp_(
            own, weights, 1 - (self.momentum if momentum is None else momentum)
        )
        for prefix, module in self._modules.items():
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[f"{prefix}.{name}"])

    def state(self) -> dict[str, Tensor]:
        """All of its tensors, by the student's names."""
        return {
            f"{prefix}.{name}": tensor
            for prefix, module in self._modules.items()
            for name, tensor in module.state_dict().items()
        }

    @torch.no_grad()
    def load_state(self, stored: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave. Raises ValueError where it is of another teacher."""
        own = self.state()
        if own.keys() != stored.keys():
            raise ValueError(
                "the stored teacher is of another model: "
                f"{', '.join(sorted(own.keys() ^ stored.keys())[:4])} differ"
            )
        for name, tensor in own.items():
            tensor.copy_(stored[name])
