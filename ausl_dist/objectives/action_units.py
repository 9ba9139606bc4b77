"""Action units: the supervised loss on frames that carry labels, alone or beside
self-supervised objectives.

    features ──▶ (ConvGRU over the frames before) ──▶ linear head ──┐
    (related tokens of the units' regions ──▶ linear head)
        ────────┴─▶ loss where the label is known; -1 counts nowhere

`task`:

* detection: a unit is present from intensity `positive_from` on (2 on DISFA; 1 where labels are
  occurrence). Binary cross-entropy, weighted by w_i = K / r_i / sum_j 1 / r_j where the units'
  positive rates r are given, plus `dice` times the mean of w_i (1 - (2 sum p y + 1) / (sum p^2
  + sum y^2 + 1)). Both are the published code of JAA-Net (Shao et al.), as the papers of this
  field have them.
* intensity: mean squared error on the scale of 0 to 5.
* ordinal: probabilities of the six levels; cross-entropy to a Gaussian of 0.5 levels around the
  label, plus the squared error of the mean level.

This makes two papers' set-ups of the self-supervised objectives: RTATL (Yan et al., ACM MM
2021) is this loss, detection, beside `roi_inpainting` and `single_image_flow`, where the head
sees the tokens of `roi_inpainting`, too (`regions`): fact of the paper is that regional
features with relations between units, and motion in the global feature, serve the recognition;
our decision, that a unit's score is the sum of a linear map of the global feature and one of
the mean of its two tokens, read from the intact image. The second stage of Sanchez et al. (ACCV
2020) is this loss on the whole spatio-temporal model of `predictive_coding`: extractor
(`backbone.weights`) and temporal module (`context: gru`, `context_weights`), where 2 % of the
frames have labels (`data.label_share`). Facts of the paper: the model of the first stage is
what the second one tunes, the labelled frames are random, and gradients run back through time
from those alone. Our decisions: the form of the intensity losses; windows in which a labelled
frame stands anywhere (`around_labels`), with unlabelled ones before it for the state to warm up
on; that the state starts from zero at the window's first frame; that the head sees the mean of
the state over its places, or over each of `cells` x `cells` of them, since action units live in
places; and that the loss sees intact images only.
"""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ausl_dist.batch import PLAIN, Needs, View
from ausl_dist.objectives.base import (
    BatchView,
    Loss,
    Objective,
    gather,
    in_float32,
    masked_mean,
)
from ausl_dist.objectives.layers import ConvGRU, cell_means, feed
from ausl_dist.objectives.region_tokens import RegionTokens
from ausl_dist.objectives.regions import BP4D_UNITS, place_of

LEVELS = 6  # intensities 0 to 5
LABEL_SPREAD = 0.5  # standard deviation of an ordinal label, levels


def _check_task(
    task: str,
    units: int,
    positive_from: int,
    positive_rates: tuple[float, ...] | None,
    dice: float,
) -> None:
    """ValueError where `task` is none, or cannot be had with the others."""
    if task not in ("detection", "intensity", "ordinal"):
        raise ValueError("action_units: task must be detection, intensity or ordinal")
    if not units or not 1 <= positive_from < LEVELS:
        raise ValueError("action_units: need some units, and positive_from in 1..5")
    if task != "detection" and (positive_rates is not None or dice):
        raise ValueError("action_units: positive_rates and dice belong to task=detection")
    if positive_rates is not None and (
        len(positive_rates) != units or not all(0 < rate <= 1 for rate in positive_rates)
    ):
        raise ValueError(
            f"action_units: positive_rates must be {units} shares in (0, 1], one for each unit"
        )


class ActionUnits(Objective):
    """Masked loss of action-unit labels; `units` are the FACS numbers of the corpus' label
    columns, in order.
    """

    unit_weight: Tensor  # K

    def __init__(
        self,
        *,
        feature_dim: int,
        map_dim: int | None = None,
        units: tuple[int, ...] = BP4D_UNITS,
        task: Literal["detection", "intensity", "ordinal"] = "detection",
        positive_from: int = 2,
        positive_rates: tuple[float, ...] | None = None,
        dice: float = 0.0,
        context: Literal["none", "gru"] = "none",
        width: int = 256,
        frames: int = 1,
        stride: int = 5,
        cells: int = 1,
        context_weights: str | None = None,
        around_labels: bool = False,
        regions: str | None = None,
        region_width: int = 256,
        view: View = PLAIN,
    ) -> None:
        super().__init__()
        if (context_weights is not None or cells != 1) and context != "gru":
            raise ValueError("action_units: context_weights and cells belong to context=gru")
        if context not in ("none", "gru") or min(frames, stride, cells) < 1:
            raise ValueError(
                "action_units: context must be none or gru; frames, stride and cells at least 1"
            )
        _check_task(task, len(units), positive_from, positive_rates, dice)
        self.units, self.task, self.positive_from, self.dice, self.view = (
            tuple(units),
            task,
            positive_from,
            dice,
            view,
        )
        self.offsets = tuple(range(0, frames * stride, stride))
        self.around_labels, self.cells = around_labels, cells
        rates = torch.tensor(positive_rates or [1.0] * len(self.units))
        self.register_buffer(
            "unit_weight", len(self.units) / rates / (1 / rates).sum(), persistent=False
        )
        self.reduce = nn.Conv2d(map_dim or feature_dim, width, 1) if context == "gru" else None
        self.gru = ConvGRU(width, width, dropout=0.0) if context == "gru" else None
        self.head = nn.Linear(
            width * cells**2 if context == "gru" else feature_dim,
            len(self.units) * (LEVELS if task == "ordinal" else 1),
        )
        # the objective whose region tokens are read; frames without landmarks go without
        self.regions = regions
        self.region_head = (
            None
            if regions is None
            else nn.Linear(region_width, self.head.out_features, bias=False)
        )
        if context_weights is not None:
            load_context(self, Path(context_weights))

    def needs(self) -> Needs:
        around = self.offsets if self.around_labels else ()
        return Needs(
            views={self.view: self.offsets},
            landmarks=self.regions is not None,
            action_units=True,
            label_offsets=around,
        )

    def forward(self, batch: BatchView) -> Loss:
        labels = batch.action_units(self.view, self.offsets)  # B T K
        if labels.shape[-1] != len(self.units):
            raise ValueError(
                f"action_units: the corpus labels {labels.shape[-1]} units, "
                f"objectives.action_units.units names {len(self.units)}: "
                "list the FACS numbers that corpus.json states"
            )
        features = self._features(batch)  # B T W
        known = (labels >= 0) * batch.weight[:, None, None]  # B T K
        truth = labels.float().clamp(min=0)
        with in_float32(features):
            # B T K L
            output = feed(self.head, features).float().unflatten(-1, (len(self.units), -1))
            if self.region_head is not None:
                output = output + self._of_regions(batch, self.region_head)
            values, guess = self._errors(output, truth)
        loss = masked_mean(values, known)
        if self.dice:
            present = (truth >= self.positive_from).float()
            loss = loss + self.dice * dice_loss(
                gather(guess), gather(present), gather(known), self.unit_weight
            )
        logs = {"labelled": batch.mean((labels >= 0).float().mean((1, 2)))} | self._scores(
            guess.detach(), truth, known
        )
        return Loss(loss, logs)

    def _features(self, batch: BatchView) -> Tensor:
        if self.reduce is None or self.gru is None:
            return batch.pooled(self.view, self.offsets)
        maps = batch.maps(self.view, self.offsets)
        steps = feed(self.reduce, maps.flatten(0, 1)).unflatten(0, maps.shape[:2])  # B T W h w
        states = [self.gru(F.relu(steps[:, 0]), self.gru.start(steps[:, 0]))]
        for step in steps.unbind(1)[1:]:
            states.append(self.gru(F.relu(step), states[-1]))
        places = torch.stack(states, 1).flatten(0, 1)  # BT W h w
        seen = places.mean((2, 3)) if self.cells == 1 else cell_means(places, self.cells)
        return seen.unflatten(0, (-1, len(states)))

    def _of_regions(self, batch: BatchView, head: nn.Linear) -> Tensor:
        """What each unit's own region adds to its outputs, B T K L."""
        assert self.regions is not None
        tokens_of = batch.shared_module(self.regions, "regions")
        assert isinstance(tokens_of, RegionTokens)
        own = [tokens_of.places.index(place) for place in map(place_of, self.units)]
        landmarks = batch.landmarks(self.view, self.offsets)  # B T 68 2
        size = batch.pixels(self.view, self.offsets).shape[-2:]
        boxes, side = tokens_of.boxes(landmarks.nan_to_num(), (size[0], size[1]))
        maps = batch.maps(self.view, self.offsets).flatten(0, 1)
        tokens = tokens_of(maps, boxes.flatten(0, 1), side, size[1]).float()  # BT P 2 W
        outputs = feed(head, tokens.mean(2)[:, own]).float()  # BT K KL: of each unit for all
        outputs = outputs.unflatten(-1, (len(self.units), -1)).diagonal(
            dim1=1, dim2=2
        )  # BT L K
        found = torch.isfinite(landmarks).all(-1).all(-1)  # B T
        return outputs.transpose(1, 2).unflatten(0, found.shape) * found[..., None, None]

    def _errors(self, output: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of each label B T K, and the guess: probability, or intensity."""
        if self.task == "ordinal":
            return ordinal_loss(output, truth)
        output = output[..., 0]
        if self.task == "intensity":
            return (output - truth).square(), output
        present = (truth >= self.positive_from).float()
        return F.binary_cross_entropy_with_logits(
            output, present, reduction="none"
        ) * self.unit_weight, output.sigmoid()

    def _scores(self, guess: Tensor, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
        if self.task == "detection":
            right = (guess > 0.5) == (truth >= self.positive_from)
            return {"accuracy": masked_mean(right.float(), known)}
        return {"mean_absolute_error": masked_mean((guess - truth).abs(), known)}


def load_context(objective: ActionUnits, path: Path) -> None:
    """Give the objective the temporal module of a predictive-coding run: `reduce`, and the
    ConvGRU there called `aggregate`.

    `path` is the objectives.safetensors of its checkpoint. Raises ValueError where no such
    module of this width is in it.
    """
    assert objective.reduce is not None
    assert objective.gru is not None
    if path.suffix != ".safetensors" or not path.is_file():
        raise ValueError(
            f"action_units: context_weights must be RUN/checkpoints/STEP/objectives.safetensors "
            f"of a run with predictive_coding, not {path}"
        )
    tensors = load_file(path)
    owners = {name.split(".")[0] for name in tensors if ".aggregate.gates." in name}
    if len(owners) != 1:
        raise ValueError(
            f"action_units: {path} must hold one ConvGRU, it holds {len(owners)}: "
            "give the checkpoint of a run with predictive_coding"
        )
    owner = owners.pop()
    for module, name in ((objective.reduce, "reduce"), (objective.gru, "aggregate")):
        start = f"{owner}.{name}."
        own = {
            key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)
        }
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"action_units: {start}* in {path} do not fit: {error}. Both stages need the same "
                "backbone and width, and encoder=frame in the first"
            ) from error


def dice_loss(guess: Tensor, present: Tensor, known: Tensor, weight: Tensor) -> Tensor:
    """1 - (2 sum p y + 1) / (sum p^2 + sum y^2 + 1) of each unit over all known labels of N T
    K, times the unit's weight K; mean over units.
    """
    p, y = guess * known, present * known
    overlap, size = (p * y).sum((0, 1)), (p.square() + y.square()).sum((0, 1))
    return ((1 - (2 * overlap + 1) / (size + 1)) * weight).mean()


def ordinal_loss(logits: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and expected level, both B T K, of logits B T K 6: divergence from the blurred label
    plus squared error of the expectation.
    """
    level = torch.arange(LEVELS, device=logits.device, dtype=logits.dtype)
    blurred = (-(level - truth[..., None]).square() / (2 * LABEL_SPREAD**2)).softmax(-1)
    expected = (logits.softmax(-1) * level).sum(-1)
    divergence = F.kl_div(logits.log_softmax(-1), blurred, reduction="none").sum(-1)
    return divergence + (expected - truth).square(), expected
