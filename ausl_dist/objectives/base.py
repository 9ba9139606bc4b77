"""What every objective is made of: what it may look at, what it returns, and the few things it
may do across ranks.

An objective in full::

    class Brightness(Objective):
        def __init__(self, *, feature_dim: int, view: View = View()) -> None:
            super().__init__()
            self.view, self.head = view, nn.Linear(feature_dim, 1)

        def needs(self) -> Needs:
            return Needs(views={self.view: (0,)})

        def forward(self, batch: BatchView) -> Loss:
            guess = self.head(batch.pooled(self.view, (0,)))[:, 0, 0]                  # B
            truth = batch.pixels(self.view, (0,)).mean(dim=(1, 2, 3, 4))               # B
            return Loss(batch.mean((guess - truth) ** 2), logs={"guess": batch.mean(guess)})

Rules that the contract test holds every objective to:

1. A slot of weight 0 holds pixels of another clip and must not count: reduce with `batch.mean`
   or `masked_mean`, and leave such slots out of negatives and banks (`batch.weight`).
2. The mean of an objective's values over ranks is its value over the global batch, and so for
   gradients: data-parallel averaging then gives on any number of ranks the gradient of one.
   `batch.mean`, `masked_mean` and `gather` are made so.
3. Every parameter gets a gradient in every step on every rank (of zeros, if need be): multiply
   by a mask, never branch on data.
4. Norms, distances and logits in float32 whatever the precision of the run: `in_float32`.
5. Randomness without state: from `draws.uniform` where it decides what a clip's loss is about
   (then rule 2 holds), else, as for dropout, from torch's default generator, which the loop
   seeds from (seed, step, rank).
6. State that moves with the data (banks, centres) lives in buffers, equal on all ranks; it is
   staged in `forward` and committed in `after_step`, which is told whether the optimizer took
   the step.
"""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ausl_dist.batch import Batch, Needs, View


@dataclass
class Features:
    """One view through a backbone."""

    pooled: Tensor  # B T D
    maps: Tensor  # B T D h w


class Encoder(Protocol):
    """A backbone over video: frames B T C H W in, or blocks of L frames B T L C H W, features
    out.

    With `visible`, B T h w bool, a vision transformer sees these tokens alone, the same number
    in each frame; maps are then B T D 1 tokens.
    """

    def __call__(self, frames: Tensor, visible: Tensor | None = None) -> Features: ...


class TeacherLike(Protocol):
    """The slow copy of the student: its backbone, and its copies of the submodules an objective
    names in `taught`.
    """

    def encode(self, frames: Tensor) -> Features: ...

    def module(self, name: str) -> nn.Module: ...


@dataclass
class Loss:
    """What an objective returns."""

    value: Tensor  # scalar, with gradient
    # detached scalars; their mean over ranks is what is logged
    logs: dict[str, Tensor] = field(default_factory=dict)
    embedding: Tensor | None = None  # N D, detached: watched for collapse


# gives back the tensor it gets, and may look at, and scale, the gradient that comes back
Tap = Callable[[Tensor], Tensor]


def _untouched(features: Tensor) -> Tensor:
    return features


class BatchView:
    """What the objectives see of a batch: pixels, features and labels, by view and offset.

    Each view is encoded once, on first demand, however many objectives ask; gradients reach the
    backbone through all of them.
    """

    def __init__(
        self,
        batch: Batch,
        plan_offsets: Mapping[View, tuple[int, ...]],
        encode: Encoder,
        teacher: TeacherLike | None,
        objectives: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self._batch = batch
        self._objectives = objectives or {}
        self.weight = batch.weight  # B float32, 1 or 0
        self._encode = encode
        self._plan_offsets = plan_offsets
        self._teacher = teacher
        self._student_features: dict[View, Features] = {}
        self._teacher_features: dict[View, Features] = {}
        self._other_features: list[Features] = []
        self._tap: Tap = _untouched
        self._weight_total: Tensor | None = None

    def tapped(self, tap: Tap) -> "BatchView":
        """The same, for one objective, whose student features pass through `tap`; all share
        what has been encoded.
        """
        self._count_weight()
        other = copy.copy(self)
        other._tap = tap
        return other

    def pooled(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Pooled features B T D."""
        return self._pick(self._tap(self._student(view).pooled), view, offsets)

    def maps(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Feature maps B T D h w."""
        return self._pick(self._tap(self._student(view).maps), view, offsets)

    def encode(self, frames: Tensor, visible: Tensor | None = None) -> Features:
        """The student on other pixels than the views': damaged images, mixed clips, blocks of
        frames (see `Encoder`).
        """
        features = self._encode(frames, visible)
        self._other_features.append(features)
        return Features(self._tap(features.pooled), self._tap(features.maps))

    def teacher_pooled(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Pooled features of the teacher B T D, without gradient; the objective must set
        `needs_teacher`.
        """
        return self._pick(self._teach(view).pooled, view, offsets)

    def teacher_maps(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Feature maps of the teacher B T D h w, without gradient."""
        return self._pick(self._teach(view).maps, view, offsets)

    def teacher_module(self, objective: "Objective", name: str) -> nn.Module:
        """The teacher's copy of the submodule `name` of `objective`, which must list it in
        `taught`.
        """
        return self._need_teacher().module(f"{objective.label}.{name}")

    def shared_teacher_module(self, owner: str, name: str) -> nn.Module:
        """The teacher's copy of a shared module, which its owner lists in `taught`."""
        return self._need_teacher().module(f"{owner}.{name}")

    def shared_module(self, owner: str, name: str) -> nn.Module:
        """The submodule `name` of another objective of the run, which both then train.

        Raises ValueError where the run has no such objective, or it no such module.
        """
        module = getattr(self._objectives.get(owner), name, None)
        if not isinstance(module, nn.Module):
            raise ValueError(
                f"the run has no objective {owner} with a module {name} to share: add it to the "
                f"mixture, as mixture.{owner}=1; there are {', '.join(self._objectives) or 'none'}"
            )
        return module

    def pixels(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Normalised pixels B T C H W."""
        return self._pick(self._batch.frames[view], view, offsets)

    def landmarks(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Landmarks B T 68 2 in pixels of the view; needs `Needs.landmarks`."""
        return self._pick(self._batch.landmarks[view], view, offsets)

    def mean_face(self, view: View) -> Tensor:
        """The mean of the landmarks of all the clip's frames, B 68 2, in pixels of the view;
        needs `Needs.mean_face`.
        """
        return self._batch.mean_face[view]

    def action_units(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Intensities B T K int8, -1 unknown; needs `Needs.action_units`."""
        return self._pick(self._batch.action_units[view], view, offsets)

    def flow(self, view: View, offsets: Iterable[int]) -> Tensor:
        """Stored motion B T 2 g g in pixels of the view, NaN where unknown; needs
        `Needs.flow_gap`.
        """
        return self._pick(self._batch.flow[view], view, offsets)

    @property
    def step(self) -> int:
        """The step that the batch belongs to: what draws without state are keyed by."""
        return self._batch.step

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each clip, B."""
        return self._batch.keys

    @property
    def identity(self) -> Tensor:
        """Stable hash of each clip's identity, B int64; needs `Needs.identity`."""
        assert self._batch.identity is not None, "the objective's Needs must say identity=True"
        return self._batch.identity

    def mean(self, values: Tensor) -> Tensor:
        """Mean of one value per clip, B, over the valid clips of all ranks (see `masked_mean`)."""
        return _share_of_mean(values, self.weight, self._count_weight())

    def encoded(self) -> list[Features]:
        """All features that objectives have looked at: first those of views, then those of
        other pixels.
        """
        return [*self._student_features.values(), *self._other_features]

    def _count_weight(self) -> Tensor:
        if self._weight_total is None:  # one collective for the batch, not one for each call
            self._weight_total = _total_over_ranks(self.weight)
        return self._weight_total

    def _student(self, view: View) -> Features:
        if view not in self._student_features:
            self._student_features[view] = self._encode(self._batch.frames[view])
        return self._student_features[view]

    def _teach(self, view: View) -> Features:
        if view not in self._teacher_features:
            with torch.no_grad():
                self._teacher_features[view] = self._need_teacher().encode(
                    self._batch.frames[view]
                )
        return self._teacher_features[view]

    def _need_teacher(self) -> TeacherLike:
        assert self._teacher is not None, (
            "an objective that asks for the teacher must set needs_teacher = True"
        )
        return self._teacher

    def _pick(self, values: Tensor, view: View, offsets: Iterable[int]) -> Tensor:
        wanted = tuple(offsets)
        there = self._plan_offsets[view]
        if wanted == there:  # the usual case of a single objective: no copy
            return values
        return values[:, [there.index(offset) for offset in wanted]]


class Objective(nn.Module):
    """A self-supervised task: a head and a loss.

    Its constructor takes `feature_dim` and its own settings as keywords.
    """

    label: str = ""  # the name it has in the run's config; set by the model
    needs_teacher: bool = False
    teacher_momentum: float = 0.996  # one for all objectives of a run that need the teacher
    # the backbone is pushed to raise the loss: only the head lowers it
    adversarial: bool = False
    # submodules of which the teacher keeps slow copies, beside the backbone
    taught: tuple[str, ...] = ()

    def needs(self) -> Needs:
        """What the loader must provide for this objective."""
        raise NotImplementedError

    def forward(self, batch: BatchView) -> Loss:
        """The loss over the global batch, as this rank's share (rule 2)."""
        raise NotImplementedError

    def after_step(self, taken: bool) -> None:
        """Commit what `forward` staged if the step was taken, forget it if not."""


@contextlib.contextmanager
def in_float32(tensor: Tensor) -> Iterator[None]:
    """Switch autocast and TF32 off around computations that 8 or 10 bits of mantissa would
    spoil.
    """
    with torch.autocast(tensor.device.type, enabled=False), _without_tf32():
        yield


@contextlib.contextmanager
def _without_tf32() -> Iterator[None]:
    products = torch.backends.cuda.matmul
    if not products.allow_tf32:
        yield
        return
    products.allow_tf32 = False
    try:
        yield
    finally:
        products.allow_tf32 = True


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is true, over all ranks together; 0 with zero gradients
    where it is true nowhere.

    Returns this rank's share: sum of its values times (number of ranks) / (count over all
    ranks). The mean of the shares over the ranks is the global masked mean, and so for
    gradients under data-parallel averaging, however unevenly the mask falls. All ranks must
    call it. Entries that are masked out may hold anything finite or not.
    """
    return _share_of_mean(values, mask, _total_over_ranks(mask))


def gather(tensor: Tensor) -> Tensor:
    """Concatenate a tensor N ... over all ranks, in rank order, with gradient; all ranks must
    hold the same shape.

    The gradient of each rank's part is the sum of the gradients that all ranks' losses send to
    it.
    """
    return tensor if world_size() == 1 else _Gather.apply(tensor)


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _total_over_ranks(mask: Tensor) -> Tensor:
    total = mask.detach().sum(dtype=torch.float32)
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def _share_of_mean(values: Tensor, mask: Tensor, total: Tensor) -> Tensor:
    # where, not product: a masked entry may be NaN, and NaN * 0 is NaN.
    kept = torch.where(mask.bool(), values.float(), 0.0) * mask
    return kept.sum() * (world_size() / total.clamp(min=1.0))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.length = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[rank() * ctx.length : (rank() + 1) * ctx.length]
