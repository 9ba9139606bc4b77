"""The joint model: one backbone, every active objective, one forward and one loss.

    Batch ──▶ slots without a clip get another clip's pixels ──▶ backbone, once per view
        ──▶ objectives ──▶ weighted sum

What crosses ranks does so inside the objectives' helpers (`objectives.base`); the model itself
knows no ranks.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ausl_dist.batch import Batch, Needs
from ausl_dist.model.backbones import Backbone, BackboneSettings, build_backbone
from ausl_dist.model.balance import GradientBalance, gradient_report
from ausl_dist.model.objective_settings import build_objective
from ausl_dist.objectives.base import BatchView, Features, Loss, Objective, TeacherLike


class ModelOutput(NamedTuple):
    loss: (
        Tensor  # scalar: this rank's share; the mean over ranks is the loss of the global batch
    )
    logs: dict[str, Tensor]  # "objective/name" -> detached scalar; to be averaged over ranks
    # "backbone" and the objectives' own -> N D, detached, for collapse watching
    embeddings: dict[str, Tensor]


class JointModel(nn.Module):
    """A backbone and its objectives behind one `forward(batch)`.

    `weights` maps each objective's name to its weight in the sum; the loop may change them
    between steps. With a `balance_decay` they are shares of the pull at the features instead
    (see `balance`).
    """

    def __init__(
        self,
        backbone: Backbone,
        objectives: Mapping[str, Objective],
        weights: Mapping[str, float],
        balance_decay: float | None = None,
    ) -> None:
        super().__init__()
        if set(objectives) != set(weights):
            raise ValueError(
                f"mixture must name the objectives exactly: objectives {sorted(objectives)}, "
                f"mixture {sorted(weights)}"
            )
        self.backbone = backbone
        self.objectives = nn.ModuleDict(objectives)
        self.weights = dict(weights)
        self.balance = (
            None if balance_decay is None else GradientBalance([*objectives], balance_decay)
        )
        self.plan = Needs.union(objective.needs() for objective in objectives.values())
        # A teacher is no submodule: the engine must neither shard, cast nor train it.
        self.teacher: TeacherLike | None = None
        for name, objective in objectives.items():
            objective.label = name

    @property
    def needs_teacher(self) -> bool:
        """Whether some objective looks at the teacher."""
        return any(objective.needs_teacher for objective in self.objectives.values())

    def forward(self, batch: Batch) -> ModelOutput:
        """Loss, logs and embeddings of a batch.

        Slots of weight 0 change nothing; a batch of nothing else gives a loss of 0 with
        gradients of 0, and leaves batch norm alone.
        """
        seen, losses = self._losses(batch)
        total = torch.stack(
            [weight * losses[name].value for name, weight in self.weights.items()]
        ).sum()
        # Parameters that no objective used today still get a gradient, of zeros: ranks must
        # never differ in which gradients exist. Under ZeRO 3 (ds_id) a weight is there only
        # while its own module runs, so there rule 3 of `objectives.base` stands alone.
        unused = [features.pooled.float().sum() for features in seen.encoded()]
        unused += [
            p.float().sum()
            for p in self.objectives.parameters()
            if p.requires_grad and not hasattr(p, "ds_id")
        ]
        logs = {f"{name}/loss": loss.value.detach() for name, loss in losses.items()}
        logs |= {
            f"{name}/{key}": value.detach()
            for name, loss in losses.items()
            for key, value in loss.logs.items()
        }
        if self.balance is not None:
            logs |= {
                f"{name}/pull": norm
                for name, norm in zip(self.balance.names, self.balance.norms(), strict=True)
            }
        embeddings = (
            {"backbone": seen.encoded()[0].pooled.detach().flatten(0, 1)}
            if seen.encoded()
            else {}
        )
        embeddings |= {
            name: loss.embedding.detach()
            for name, loss in losses.items()
            if loss.embedding is not None
        }
        return ModelOutput(total + 0.0 * torch.stack(unused).sum(), logs, embeddings)

    def gradient_report(self, batch: Batch) -> dict[str, float]:
        """Norms of the objectives' gradients on the backbone, and cosines between them (see
        `balance`); all ranks must call it.

        Changes nothing: neither gradients, nor banks, batch norm or random state.
        """
        statistics = self.batch_norm_statistics()
        before = [statistic.clone() for statistic in statistics]
        with random_state_kept(batch.weight.device):
            _, losses = self._losses(batch)
            report = gradient_report(
                {name: weight * losses[name].value for name, weight in self.weights.items()},
                self.backbone,
            )
        for statistic, value in zip(statistics, before, strict=True):
            statistic.copy_(value)
        self.after_step(False)
        return report

    def after_step(self, taken: bool) -> None:
        """Tell every objective whether the optimizer took the step."""
        for objective in self.objectives.values():
            objective.after_step(taken)  # type: ignore[operator]
        if self.balance is not None:
            self.balance.after_step(taken)

    def batch_norm_statistics(self) -> list[Tensor]:
        """The running means, variances and counts of every batch norm, in a fixed order."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        return [buffer for module in norms for buffer in module.buffers(recurse=False)]

    def _losses(self, batch: Batch) -> tuple[BatchView, dict[str, Loss]]:
        valid = batch.valid
        with _batch_norm_unmoved(self.backbone) if not valid else contextlib.nullcontext():
            own = dict(self.objectives.named_children())
            filled = _filled(batch, valid)
            seen = BatchView(filled, self.plan.views, self.encode, self.teacher, own)
            return seen, {
                name: self.objectives[name](part) for name, part in self._parts(seen).items()
            }

    def _parts(self, seen: BatchView) -> dict[str, BatchView]:
        """What each objective is shown: the same for all, unless pulls are measured and
        balanced.
        """
        balance = self.balance
        if balance is None:
            return dict.fromkeys(self.weights, seen)
        factors = balance.factors(self.weights)
        return {
            name: seen.tapped(functools.partial(balance.tap, name, factor))
            for name, factor in factors.items()
        }

    def encode(self, frames: Tensor, visible: Tensor | None = None) -> Features:
        """Pooled features B T D and maps B T M h w of frames B T C H W; `visible` as the
        backbone's.
        """
        # B T C H W -> (B T) C H W
        pooled, maps = self.backbone(
            frames.flatten(0, 1), None if visible is None else visible.flatten(0, 1)
        )
        return Features(
            pooled.unflatten(0, frames.shape[:2]), maps.unflatten(0, frames.shape[:2])
        )


def build_model(
    backbone: BackboneSettings,
    objectives: Mapping[str, Mapping[str, Any]],
    mixture: Mapping[str, float],
    balance_decay: float | None = None,
) -> JointModel:
    """Build backbone and objectives from settings; each objective is a mapping with `_target_`.

    Weights come from torch's generator.
    """
    built = build_backbone(backbone)
    heads = {
        name: build_objective(settings, feature_dim=built.dim, map_dim=built.map_dim)
        for name, settings in objectives.items()
    }
    return JointModel(built, heads, mixture, balance_decay)


def random_state_kept(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """What is drawn inside leaves torch's generators of host and device as they were.

    Torch would do so for every GPU that it sees, and open each of them from every rank.
    """
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def stored_buffers(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that belong to a module's state: those in its state_dict."""
    stored = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers() if name in stored}


def _filled(batch: Batch, valid: list[int]) -> Batch:
    """The batch with every invalid slot filled from a valid one, weights unchanged.

    Zeros in a slot would enter batch norm's statistics, and zero landmarks would make empty
    regions. Without any valid clip the pixels become a ramp: anything finite and not constant,
    so that no norm in an objective divides by zero.
    """
    if len(valid) == len(batch):
        return batch
    if not valid:
        ramps = {
            view: torch.linspace(-1, 1, frames.numel(), device=frames.device).view_as(frames)
            for view, frames in batch.frames.items()
        }
        return dataclasses.replace(batch, frames=ramps)
    source = [slot if slot in valid else valid[slot % len(valid)] for slot in range(len(batch))]
    return dataclasses.replace(batch.select(source), keys=batch.keys, weight=batch.weight)


@contextlib.contextmanager
def _batch_norm_unmoved(module: nn.Module) -> Iterator[None]:
    """Batch norm uses its running statistics, and leaves them alone."""
    norms = [
        part for part in module.modules() if isinstance(part, _BatchNorm) and part.training
    ]
    try:
        for norm in norms:
            norm.training = False
        yield
    finally:
        for norm in norms:
            norm.training = True
