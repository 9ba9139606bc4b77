"""What an objective asks of a clip, and what it gets: the contract between stream, model and
objectives.

Example: two objectives, one clip::

    ranking:  View(per_frame=True)  at offsets 0, 1, 2, ..., 11
    contrast: View(flip=0.5)        at offsets 0, 3, 6, 9

1. each objective declares its `Needs`;
2. `Needs.union` joins them: the window is 12 frames long, 12 frames are decoded once, two views
   are drawn from them;
3. the loader fills a `Batch`: `frames[view]` is B T C H W with T the union's offsets of that
   view;
4. the model encodes each view once and hands each objective its own offsets.

The window's start inside the clip and all augmentation are drawn from (seed, epoch, clip key),
so a batch is a pure function of its step.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ausl_dist.convention import NUM_LANDMARKS

RANDOM_FLOW_CELLS = 16  # a side, of a view of `Batch.random`


@dataclass(frozen=True)
class View:
    """One way of looking at frames: a random square crop, resized to the run's image size, then
    colour.

    Two objectives that declare equal views share pixels and features. To get two independent
    draws of the same augmentation (two views of contrastive learning), let them differ in
    `draw`.
    """

    # crops are taken inside the central square of this share of the frame's side
    centre: float = 224 / 256
    # side of the crop as a share of the frame's side, drawn uniformly
    crop: tuple[float, float] = (213 / 256, 213 / 256)
    per_frame: bool = False  # geometry and colour drawn for each frame; else once for the clip
    # Colour and blur alone drawn for each frame, geometry for the clip. No part of the repr, by
    # which draws are named: views that differ in this alone differ in nothing else.
    colour_per_frame: bool = field(default=False, repr=False)
    flip: float = 0.0  # probability of a mirror image (always one decision for the whole clip)
    rotation: float = 0.0  # degrees, drawn from [-rotation, rotation]
    brightness: float = 0.0  # factors drawn from [1 - x, 1 + x]
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # degrees, drawn from [-hue, hue]
    grey: float = 0.0  # probability
    # probability of a Gaussian blur, sigma drawn from [0.1, 2] pixels at a side of 224, in
    # proportion at others
    blur: float = 0.0
    draw: int = 0

    def __post_init__(self) -> None:
        # a list, when it comes from YAML; views are dict keys
        object.__setattr__(self, "crop", tuple(float(side) for side in self.crop))
        if len(self.crop) != 2 or not 0 < self.crop[0] <= self.crop[1] <= self.centre <= 1:
            raise ValueError(
                f"view: need 0 < crop[0] <= crop[1] <= centre <= 1, got crop={self.crop}, "
                f"centre={self.centre}"
            )

    @property
    def changes_colour(self) -> bool:
        return any((self.brightness, self.contrast, self.saturation, self.hue, self.grey))


# one crop for the clip, nothing else: what objectives share when nobody says otherwise
PLAIN = View()


@dataclass(frozen=True)
class Needs:
    """What is needed of a clip: by one objective, or by all of a run (`union`), which is what
    the loader decodes.

    Offsets count frames of the corpus from the start of the window.
    """

    views: Mapping[View, tuple[int, ...]]
    landmarks: bool = False
    mean_face: bool = False  # of the landmarks of the whole clip, not of the window alone
    identity: bool = False
    action_units: bool = False
    flow_gap: int = 0  # frames between the two of a pair whose motion is needed; 0 for none
    # Views in which the loader measures the motion of the window's first frame; else it is
    # stored.
    flow_measured: tuple[View, ...] = ()
    # The window is drawn so that a labelled frame stands at one of these, where the clip has
    # one.
    label_offsets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for view, offsets in self.views.items():
            if not offsets or min(offsets) < 0 or list(offsets) != sorted(set(offsets)):
                raise ValueError(
                    f"needs: offsets of {view} must be distinct, increasing and >= 0, not {offsets}"
                )

    @classmethod
    def union(cls, needs: Iterable["Needs"]) -> "Needs":
        """What several need together."""
        needs = list(needs)
        views: dict[View, set[int]] = {}
        for need in needs:
            for view, offsets in need.views.items():
                views.setdefault(view, set()).update(offsets)
        gaps = {need.flow_gap for need in needs} - {0}
        if len(gaps) > 1:
            raise ValueError(
                f"a corpus stores motion over one gap, the objectives need {sorted(gaps)}: "
                "give them one gap"
            )
        measured = {view: None for need in needs for view in need.flow_measured}
        if measured and any(need.flow_gap and not need.flow_measured for need in needs):
            raise ValueError(
                "one objective needs stored motion, another measured: give all the same source"
            )
        return cls(
            views={view: tuple(sorted(offsets)) for view, offsets in views.items()},
            landmarks=any(need.landmarks for need in needs),
            mean_face=any(need.mean_face for need in needs),
            identity=any(need.identity for need in needs),
            action_units=any(need.action_units for need in needs),
            flow_gap=max(gaps, default=0),
            flow_measured=tuple(measured),
            label_offsets=tuple(sorted({at for need in needs for at in need.label_offsets})),
        )

    @property
    def offsets(self) -> tuple[int, ...]:
        """Every frame that some view looks at."""
        return tuple(sorted({offset for offsets in self.views.values() for offset in offsets}))

    @property
    def window(self) -> int:
        """Frames from the first to the last one needed, by the stored motion of the first one
        too; clips must be at least this long.
        """
        return max(*self.offsets, self.flow_gap) + 1

    def positions(self, view: View, offsets: Iterable[int]) -> list[int]:
        """Where `offsets` stand on the T axis of `Batch.frames[view]`."""
        where = {offset: position for position, offset in enumerate(self.views[view])}
        return [where[offset] for offset in offsets]


@dataclass
class Batch:
    """One rank's part of a global batch.

    B clips, in slots fixed by the order; a slot of weight 0 holds zeros.
    """

    step: int
    keys: tuple[str, ...]  # B
    weight: (
        Tensor  # B float32: 1, or 0 for a clip that could not be fetched, verified or decoded
    )
    frames: dict[
        View, Tensor
    ]  # B T C H W float32, RGB, normalised by clip.PIXEL_MEAN / PIXEL_STD
    # B T 68 2 float32, view pixels, re-indexed where mirrored
    landmarks: dict[View, Tensor] = field(default_factory=dict)
    # B 68 2 float32: the mean of the landmarks of all the clip's frames, as the view would show it
    # where it shows the window's first frame, re-indexed where mirrored
    mean_face: dict[View, Tensor] = field(default_factory=dict)
    identity: Tensor | None = None  # B int64, stable hash of the identity
    video: Tensor | None = None  # B int64, stable hash of the source video
    action_units: dict[View, Tensor] = field(default_factory=dict)  # B T K int8, -1 unknown
    # B T 2 g g float32: (x, y) motion to frame t + gap, view pixels; NaN unknown. Where it is
    # measured, T is 1, the window's first frame, and g the view's side.
    flow: dict[View, Tensor] = field(default_factory=dict)
    # not carried along by dataclasses.replace, which may change the weights
    _valid: list[int] | None = field(default=None, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def valid(self) -> list[int]:
        """The slots that hold a clip; known on the host, so that to ask costs no wait for a
        GPU.
        """
        if self._valid is None or not self.weight.is_cuda:
            self._valid = [slot for slot, weight in enumerate(self.weight.tolist()) if weight]
        return self._valid

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device; copies are asynchronous where the memory is pinned."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The same clips, with every tensor changed."""

        def changed(value: object) -> object:
            if isinstance(value, Tensor):
                return change(value)
            if isinstance(value, dict):
                return {key: changed(item) for key, item in value.items()}
            return value

        values = {
            f.name: changed(getattr(self, f.name)) for f in dataclasses.fields(self) if f.init
        }
        batch = Batch(**values)  # type: ignore[arg-type]
        batch._valid = self.valid
        return batch

    def select(self, slots: Sequence[int]) -> "Batch":
        """The clips of these slots, in this order; a slot may come more than once."""
        index = torch.tensor(slots, dtype=torch.int64, device=self.weight.device)
        batch = self.map(lambda tensor: tensor[index])
        batch.keys = tuple(self.keys[slot] for slot in slots)
        held = set(self.valid)
        batch._valid = [place for place, slot in enumerate(slots) if slot in held]
        return batch

    @staticmethod
    def join(batches: Sequence["Batch"]) -> "Batch":
        """The clips of all the batches, one after the other; the step is the first one's.

        Raises ValueError where they do not hold the same parts.
        """
        names = [field.name for field in dataclasses.fields(Batch) if field.init]
        values = {name: _joined(name, [getattr(b, name) for b in batches]) for name in names}
        return Batch(**values)

    @classmethod
    def random(
        cls,
        needs: Needs,
        clips: int,
        *,
        image_size: int,
        num_units: int,
        generator: torch.Generator | None = None,
    ) -> "Batch":
        """A batch of the shapes that `needs` asks for, of noise, two clips of each identity."""
        shapes = {view: (clips, len(offsets)) for view, offsets in needs.views.items()}

        def noise(wanted: object, *shape: int) -> dict[View, Tensor]:
            if not wanted:
                return {}
            return {
                view: torch.randn(*lead, *shape, generator=generator)
                for view, lead in shapes.items()
            }

        people = torch.arange(clips) // 2 if needs.identity else None
        units = noise(needs.action_units, num_units)
        points = noise(needs.landmarks, NUM_LANDMARKS, 2)
        faces = noise(needs.mean_face, NUM_LANDMARKS, 2)
        flow = noise(needs.flow_gap, 2, RANDOM_FLOW_CELLS, RANDOM_FLOW_CELLS)
        if needs.flow_measured:  # of the first frame, pixel by pixel
            side = image_size
            flow = {
                view: torch.randn(clips, 1, 2, side, side, generator=generator)
                for view in needs.flow_measured
            }
        return cls(
            step=0,
            keys=tuple(f"clip-{slot}" for slot in range(clips)),
            weight=torch.ones(clips),
            frames=noise(True, 3, image_size, image_size),
            landmarks={view: image_size * p.sigmoid() for view, p in points.items()},
            mean_face={view: image_size * p[:, 0].sigmoid() for view, p in faces.items()},
            identity=people,
            video=people,
            action_units={view: (u > 0).to(torch.int8) for view, u in units.items()},
            flow=flow,
        )

    def cut(self, start: int, stop: int) -> "Batch":
        """The clips of the slots from `start` to before `stop`."""
        batch = self.map(lambda tensor: tensor[start:stop])
        batch.keys = self.keys[start:stop]
        batch._valid = [slot - start for slot in self.valid if start <= slot < stop]
        return batch

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor of the batch."""
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            held = value.values() if isinstance(value, dict) else [value]
            yield from (tensor for tensor in held if isinstance(tensor, Tensor))


def _joined(name: str, parts: list[Any]) -> Any:
    """One field of several batches as one."""
    first = parts[0]
    if any(type(part) is not type(first) for part in parts):
        raise ValueError(f"batches to be joined must all have {name}, or none of them")
    if isinstance(first, dict):
        if any(part.keys() != first.keys() for part in parts):
            raise ValueError(f"batches to be joined must hold the same views in {name}")
        return {view: _joined(name, [part[view] for part in parts]) for view in first}
    if isinstance(first, Tensor):
        return torch.cat(parts)
    return sum(parts, ()) if isinstance(first, tuple) else first
