"""Fine-tuning: the whole network learns from the training labels, its early layers more slowly
than its late ones.

    training table ──▶ pictures of its rows ──▶ backbone ──▶ linear layer, or a model over time
        ──▶ loss where labels are ──▶ Finetuned

With `window` above 1 this is the second stage of Sanchez et al. (ACCV 2020): a spatio-temporal
network trained end to end, the loss taken at the few frames that are labelled; the form of the
loss and the recurrent layer are our choice. Layer-wise decay of the learning rate is that of
BEiT and MAE (He et al., CVPR 2022).
"""

import copy
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ausl_dist.evaluate.features.entrant import fastest_device
from ausl_dist.evaluate.features.table import FeatureTable
from ausl_dist.evaluate.folds.sealed import Decided
from ausl_dist.evaluate.predictors.base import Task
from ausl_dist.evaluate.predictors.networks import Network
from ausl_dist.evaluate.predictors.pictures import PictureStore
from ausl_dist.evaluate.predictors.training import (
    Inputs,
    Trainee,
    TrainingSchedule,
    predict,
    train,
)
from ausl_dist.model.backbones import import_timm


@dataclass(frozen=True)
class FinetuneSettings:
    """How a backbone is fine-tuned."""

    # adjacent frames that a model over time reads together; 1: single frames, and a linear
    # layer
    window: int = 1
    max_epochs: int = 10
    batch_frames: int = 64
    # of the new layers; each layer of the backbone below has `layer_decay` times that of the
    # one above
    learning_rate: float = 5e-4
    layer_decay: float = 0.75
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps; a cosine follows
    flip: bool = True  # mirror images at random
    hidden: int = 256  # of the model over time
    dropout: float = 0.2
    folds: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if (
            min(self.window, self.max_epochs, self.batch_frames, self.hidden) < 1
            or self.folds < 2
        ):
            raise ValueError(
                "window, max_epochs, batch_frames and hidden must be at least 1, folds at least 2"
            )
        if (
            not 0 < self.layer_decay <= 1
            or not 0 <= self.warmup < 1
            or not 0 <= self.dropout < 1
        ):
            raise ValueError("layer_decay must lie in (0, 1], warmup and dropout in [0, 1)")

    @property
    def course(self) -> TrainingSchedule:
        return TrainingSchedule(
            self.window, self.batch_frames, self.max_epochs, self.folds, self.seed
        )


class _Tuned(nn.Module):
    """Images B T C H W to raw outputs B T K."""

    def __init__(self, backbone: nn.Module, units: int, settings: FinetuneSettings) -> None:
        super().__init__()
        self.backbone = backbone
        dim = int(cast(int, backbone.dim))
        self.head: nn.Module = nn.Linear(dim, units)
        if settings.window > 1:
            self.head = Network(
                dim, units, hidden=settings.hidden, dropout=settings.dropout, recurrent=True
            )

    def forward(self, images: Tensor) -> Tensor:
        pooled, _ = self.backbone(images.flatten(0, 1))  # BT D
        out: Tensor = self.head(pooled.unflatten(0, images.shape[:2]))
        return out


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned network, all decisions made; it predicts from the pictures of a table's
    rows.
    """

    task: Task
    action_units: tuple[int, ...]
    threshold: NDArray[np.float64]
    decided: Decided = field(repr=False)
    model: nn.Module = field(repr=False)
    pictures: PictureStore = field(repr=False)
    settings: FinetuneSettings = field(default_factory=FinetuneSettings)

    def predict(self, table: FeatureTable) -> NDArray[np.float32]:
        """Intensity clipped to 0-5, or probability, [N, K]."""
        inputs = _pictures_of(table, self.pictures, self.settings)
        return predict(
            self.model.to(fastest_device()),
            table,
            np.arange(len(table)),
            self.task,
            self.settings.course,
            inputs,
        )


def fit_finetune(
    table: FeatureTable,
    task: Task,
    backbone: nn.Module,
    pictures: PictureStore,
    settings: FinetuneSettings,
) -> Finetuned:
    """Fine-tune a copy of the backbone on a training table; its features are not used, its
    pictures are.
    """

    def build(steps: int) -> Trainee:
        model = _Tuned(
            copy.deepcopy(backbone).requires_grad_(True), len(table.action_units), settings
        ).to(fastest_device())
        optimizer = torch.optim.AdamW(
            parameter_groups(model, settings), lr=settings.learning_rate
        )
        return Trainee(
            model,
            optimizer,
            torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: _schedule(step, steps, settings.warmup)
            ),
        )

    trained = train(
        table, task, settings.course, build, _pictures_of(table, pictures, settings)
    )
    return Finetuned(
        task,
        table.action_units,
        trained.threshold,
        trained.decided(table, task, "finetune"),
        trained.model.cpu(),
        pictures,
        settings,
    )


def parameter_groups(model: nn.Module, settings: FinetuneSettings) -> list[dict[str, object]]:
    """Groups with their own learning rate: the head at the full one, each layer of the backbone
    below at `layer_decay` of the one above.
    """
    import_timm()
    from timm.optim import param_groups_layer_decay

    net = cast(nn.Module, cast(nn.Module, model.backbone).net)
    groups = param_groups_layer_decay(
        net, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
    )
    for group in groups:
        group["lr"] = settings.learning_rate * settings.layer_decay * group.pop("lr_scale")
    head = {
        "params": list(cast(nn.Module, model.head).parameters()),
        "lr": settings.learning_rate,
        "weight_decay": settings.weight_decay,
    }
    return [*groups, head]


def _schedule(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: a straight rise, then half a cosine."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + float(np.cos(np.pi * (step - rise) / max(1, steps - rise))))


def _pictures_of(
    table: FeatureTable, pictures: PictureStore, settings: FinetuneSettings
) -> Inputs:
    positions, device = pictures.positions(table), fastest_device()

    def inputs(rows: Tensor, training: bool) -> Tensor:
        images = pictures.read(positions[rows.numpy()])  # B T C H W
        if training and settings.flip:
            mirrored = torch.rand(len(images)) < 0.5  # all frames of a window alike
            images = torch.where(mirrored[:, None, None, None, None], images.flip(-1), images)
        return images.to(device)

    return inputs
