"""The DALI graph: pixels of a batch of clips to normalised tensors. The only file that imports
DALI.

    decoder=pyav:  frames.py's uint8 T S S 3 for each view ─────────────────────────────┐
    decoder=dali:  mp4 bytes ──decode──▶ frames ──resize──▶ halved ──warp──▶ T S S 3 ───┤
                                                                                        ▼
                                         T 3 S S ◀── normalise ◀── blur ◀── colour ◀────┘

One function builds it for CPU and GPU (where decoding is NVDEC's). Everything random is drawn
before (augment.py) and fed as input, so the graph has no state, and its output does not depend
on threads, on the place in the batch, or on what came before.
"""

import dataclasses
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn
from nvidia.dali.data_node import DataNode
from nvidia.dali.types import DALIDataType, DALIInterpType
from torch import Tensor

from ausl_dist.batch import View
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.stream.augment import MAX_BLUR_SIGMA
from ausl_dist.stream.carrier import Carrier
from ausl_dist.stream.frames import ClipPixels, FrameDecoder, view_frames
from ausl_dist.stream.ledger import telling_line
from ausl_dist.stream.mp4 import VideoError

# Beyond this share of clips that DALI's decoder refuses, decoding is set up wrongly.
MAX_REFUSED_SHARE = 0.25
REFUSED_JUDGED_AS_IF = 64  # clips had been seen at least
NO_BLUR_SIGMA = 0.01  # a kernel of this width is the identity; DALI takes 0 for 'choose one'


@dataclass(frozen=True)
class GraphPlan:
    """What a graph is built for; two graphs of equal plans are equal."""

    views: tuple[tuple[View, tuple[int, ...]], ...]  # each view with its offsets in the window
    image_size: int
    clips: int  # of every batch
    threads: int
    device: str = "cpu"
    decoder: str = "pyav"

    @property
    def offsets(self) -> tuple[int, ...]:
        return tuple(sorted({offset for _, offsets in self.views for offset in offsets}))


def build_graph(plan: GraphPlan, device_id: int | None) -> Pipeline:
    """The graph of a plan, not built yet; with `device_id` None it can be built on a CPU, or
    serialised for a GPU.
    """
    pipeline = Pipeline(
        batch_size=plan.clips,
        num_threads=plan.threads,
        device_id=device_id,
        prefetch_queue_depth=1,
    )
    with pipeline:
        frames = _decoded(plan.device) if plan.decoder == "dali" else None
        outputs = []
        for number, (view, _) in enumerate(plan.views):
            pixels = _given(plan, number) if frames is None else _read(frames, plan, number)
            outputs.append(_normalised(_recoloured(pixels, view, plan.image_size, number)))
        pipeline.set_outputs(*outputs)
    return pipeline


def decoding_graph(device: str, clips: int, *, threads: int, device_id: int | None) -> Pipeline:
    """A graph of the decoder alone, not built yet: inputs `video` and `wanted`, frames T H W 3
    out.
    """
    pipeline = Pipeline(
        batch_size=clips, num_threads=threads, device_id=device_id, prefetch_queue_depth=1
    )
    with pipeline:
        pipeline.set_outputs(_decoded(device))
    return pipeline


class Graph:
    """A running graph that survives clips it cannot decode.

    On a GPU it is run inside the `entered` of its carrier. `refused` counts the clips that
    DALI's decoder refused and FFmpeg decoded instead.
    """

    def __init__(self, plan: GraphPlan, carrier: Carrier | None = None) -> None:
        assert (plan.device == "gpu") == (carrier is not None), (
            "a graph on a GPU needs its carrier"
        )
        self.plan = plan
        self.refused = 0
        self._carrier = carrier
        self._clips = 0
        self._ffmpeg = FrameDecoder()
        self._pipeline = self._build()
        # Outputs of DALI whose copies may not be done yet.
        self._copied: deque[tuple[torch.cuda.Event, Any]] = deque()

    @cached_property
    def _for_refused(self) -> "Graph":
        return Graph(dataclasses.replace(self.plan, decoder="pyav"), self._carrier)

    def run(
        self, clips: Sequence[ClipPixels | None]
    ) -> tuple[dict[View, Tensor], dict[int, str]]:
        """Normalised frames B T 3 S S of each view, float32, and for each clip that did not
        decode its place and why.

        The places of those, and of the clips that are None, hold zeros. The tensors own their
        memory. Raises ValueError where the decoder refuses a good part of all clips.
        """
        assert len(clips) == self.plan.clips
        if not any(clips):
            return self._zeros(), {}
        self._clips += sum(clip is not None for clip in clips)
        try:
            return self._without_holes(self._run(clips), clips), {}
        except RuntimeError as error:
            # This happens only where DALI decodes: pyav's pictures have been decoded before.
            if self.plan.decoder != "dali":
                raise
            return self._piecewise(clips, error)

    def _build(self) -> Pipeline:
        device_id = None if self._carrier is None else self._carrier.device.index
        pipeline = build_graph(self.plan, device_id)
        pipeline.build()
        return pipeline

    def _run(self, clips: Sequence[ClipPixels | None]) -> dict[View, Tensor]:
        # a place must hold something that decodes
        stand_in = next(clip for clip in clips if clip is not None)
        filled = [stand_in if clip is None else clip for clip in clips]
        try:
            for name, values in _inputs(self.plan, filled).items():
                self._pipeline.feed_input(name, values)
            return self._taken()
        except RuntimeError:
            self._pipeline = self._build()  # a pipeline that met an error is dead
            raise

    def _taken(self) -> dict[View, Tensor]:
        """The outputs as tensors of torch."""
        views = [view for view, _ in self.plan.views]
        if self._carrier is None:
            # No copy on the CPU: the pipeline leaves an output alone for as long as a tensor
            # refers to it (test_decode.py).
            outputs = self._pipeline.run()
            tensors = (torch.from_dlpack(output.as_tensor()) for output in outputs)
            return dict(zip(views, tensors, strict=True))
        # On a GPU an output that is let go of may be written again while queued work still
        # reads it. So it is copied on the loader's stream, and kept until that copy is done;
        # the host waits for the one before.
        stream = self._carrier.stream
        outputs = self._pipeline.run(stream)
        copies = [torch.from_dlpack(output.as_tensor()).clone() for output in outputs]
        done = torch.cuda.Event()
        done.record(stream)
        self._copied.append((done, outputs))
        while len(self._copied) > 1:
            self._copied[0][0].synchronize()
            self._copied.popleft()
        return dict(zip(views, copies, strict=True))

    def _without_holes(
        self, tensors: dict[View, Tensor], clips: Sequence[ClipPixels | None]
    ) -> dict[View, Tensor]:
        """Zeros in the places of clips that are missing."""
        empty = [place for place, clip in enumerate(clips) if clip is None]
        for tensor in tensors.values() if empty else ():
            tensor[empty] = 0.0
        return tensors

    def _zeros(self) -> dict[View, Tensor]:
        device = "cpu" if self._carrier is None else self._carrier.device
        size = self.plan.image_size
        return {
            view: torch.zeros(self.plan.clips, len(offsets), 3, size, size, device=device)
            for view, offsets in self.plan.views
        }

    def _piecewise(
        self, clips: Sequence[ClipPixels | None], error: RuntimeError
    ) -> tuple[dict[View, Tensor], dict[int, str]]:
        """The same, after DALI failed at some clip: damaged ones are named, and those that only
        DALI refuses are FFmpeg's.
        """
        decoded, damaged = self._by_ffmpeg(clips)
        good = [clip if place in decoded else None for place, clip in enumerate(clips)]
        if not any(good):
            return self._zeros(), damaged
        refused = self._refused(good)
        if not damaged and not refused:
            raise error  # no clip is to blame
        kept = [None if place in refused else clip for place, clip in enumerate(good)]
        tensors = self._run(kept) if any(kept) else self._zeros()
        if refused:
            self._count(refused)
            others = [
                decoded[place] if place in refused else None for place in range(len(clips))
            ]
            by_ffmpeg, _ = self._for_refused.run(others)
            places = list(refused)
            for view, tensor in tensors.items():
                tensor[places] = by_ffmpeg[view][places]
        return self._without_holes(tensors, good), damaged

    def _by_ffmpeg(
        self, clips: Sequence[ClipPixels | None]
    ) -> tuple[dict[int, ClipPixels], dict[int, str]]:
        """By place: the clips with their pictures, and why others do not decode on the CPU
        either.
        """
        decoded, damaged = {}, {}
        views = dict(self.plan.views)
        for place, clip in enumerate(clips):
            if clip is None:
                continue
            try:
                pictures = view_frames(self._ffmpeg, clip.video, views, clip.draws, clip.start)
                decoded[place] = dataclasses.replace(clip, pictures=pictures)
            except VideoError as error:
                damaged[place] = str(error)
        return decoded, damaged

    def _refused(self, clips: Sequence[ClipPixels | None]) -> dict[int, str]:
        """Which of these clips DALI's decoder does not take, and what it said."""
        try:
            self._run(clips)
            return {}
        except RuntimeError:
            pass
        refused = {}
        for place, clip in enumerate(clips):
            if clip is not None:
                try:
                    self._run([clip])
                except RuntimeError as error:
                    refused[place] = telling_line(error)
        return refused

    def _count(self, refused: Mapping[int, str]) -> None:
        self.refused += len(refused)
        if self.refused > MAX_REFUSED_SHARE * max(self._clips, REFUSED_JUDGED_AS_IF):
            where = "NVDEC" if self.plan.device == "gpu" else "DALI on the CPU"
            raise ValueError(
                f"{where} refused {self.refused} of {self._clips} clips, last because: "
                f"{next(iter(refused.values()))}. "
                "Type data.decoder=pyav, or auto to have it chosen"
            )


def _given(plan: GraphPlan, number: int) -> DataNode:
    """Pixels that FFmpeg decoded; for a GPU they cross as bytes, and colour and blur are its
    work.
    """
    pixels = fn.external_source(
        name=f"pictures{number}", layout="FHWC", dtype=DALIDataType.UINT8, ndim=4
    )
    return pixels.gpu() if plan.device == "gpu" else pixels


def _decoded(device: str) -> DataNode:
    encoded = fn.external_source(name="video", dtype=DALIDataType.UINT8, ndim=1)
    wanted = fn.external_source(name="wanted", dtype=DALIDataType.INT32, ndim=1)
    return fn.decoders.video(
        encoded, device="mixed" if device == "gpu" else "cpu", frames=wanted
    )


def _read(frames: DataNode, plan: GraphPlan, number: int) -> DataNode:
    """Pixels of one view, of the frames that DALI decoded."""
    _, offsets = plan.views[number]
    return _sampled(_chosen(frames, plan.offsets, offsets), number, plan.image_size)


def _chosen(frames: DataNode, decoded: tuple[int, ...], offsets: tuple[int, ...]) -> DataNode:
    if offsets == decoded:
        return frames
    picked = fn.element_extract(
        frames, element_map=[decoded.index(offset) for offset in offsets]
    )
    return fn.reshape(
        fn.stack(*([picked] if isinstance(picked, DataNode) else picked or [])), layout="FHWC"
    )


def _sampled(frames: DataNode, number: int, image_size: int) -> DataNode:
    halved_size = fn.external_source(
        name=f"halved_size{number}", dtype=DALIDataType.FLOAT, ndim=1
    )
    matrix = fn.per_frame(
        fn.external_source(name=f"matrix{number}", dtype=DALIDataType.FLOAT, ndim=3)
    )
    halved = fn.resize(
        frames, size=halved_size, interp_type=DALIInterpType.INTERP_LINEAR, antialias=True
    )
    assert isinstance(halved, DataNode)
    return fn.warp_affine(
        halved,
        matrix=matrix,
        size=[image_size, image_size],
        interp_type=DALIInterpType.INTERP_LINEAR,
    )


def _recoloured(pixels: DataNode, view: View, image_size: int, number: int) -> DataNode:
    """Colour and blur, for views that ask for them."""
    if view.changes_colour:
        factors = [
            fn.per_frame(
                fn.external_source(name=f"{name}{number}", dtype=DALIDataType.FLOAT, ndim=1)
            )
            for name in ("brightness", "contrast", "saturation", "hue")
        ]
        pixels = fn.color_twist(
            pixels,
            brightness=factors[0],
            contrast=factors[1],
            saturation=factors[2],
            hue=factors[3],
        )
    if view.blur:
        sigma = fn.per_frame(
            fn.external_source(name=f"sigma{number}", dtype=DALIDataType.FLOAT, ndim=1)
        )
        pixels = fn.gaussian_blur(
            pixels, sigma=sigma, window_size=2 * math.ceil(3 * MAX_BLUR_SIGMA * image_size) + 1
        )
    return pixels


def _normalised(pixels: DataNode) -> DataNode:
    mean, std = [[255 * value for value in values] for values in (PIXEL_MEAN, PIXEL_STD)]
    return fn.crop_mirror_normalize(
        pixels, dtype=DALIDataType.FLOAT, output_layout="FCHW", mean=mean, std=std
    )


def _inputs(
    plan: GraphPlan, clips: Sequence[ClipPixels]
) -> Mapping[str, list[NDArray[np.generic]]]:
    """What each external source of the graph is fed."""
    inputs: dict[str, list[NDArray[np.generic]]] = {}
    if plan.decoder == "dali":
        inputs["video"] = [np.frombuffer(clip.video.data, np.uint8) for clip in clips]
        inputs["wanted"] = [
            (clip.start + np.array(plan.offsets)).astype(np.int32) for clip in clips
        ]
    for number, (view, _) in enumerate(plan.views):
        draws = [clip.draws[view] for clip in clips]
        if plan.decoder == "dali":
            sizes = [
                (clip.video.height >> drawn.level, clip.video.width >> drawn.level)
                for clip, drawn in zip(clips, draws, strict=True)
            ]
            inputs[f"halved_size{number}"] = [np.array(size, np.float32) for size in sizes]
            inputs[f"matrix{number}"] = [_from_corners(drawn.matrices()) for drawn in draws]
        else:
            inputs[f"pictures{number}"] = [_pictures(clip, view) for clip in clips]
        if view.changes_colour:
            for column, name in enumerate(("brightness", "contrast", "saturation", "hue")):
                inputs[f"{name}{number}"] = [
                    np.ascontiguousarray(drawn.colour[:, column]) for drawn in draws
                ]
        if view.blur:
            inputs[f"sigma{number}"] = [
                np.maximum(drawn.blur_sigma, np.float32(NO_BLUR_SIGMA)) for drawn in draws
            ]
    return inputs


def _pictures(clip: ClipPixels, view: View) -> NDArray[np.uint8]:
    assert clip.pictures is not None, "with decoder=pyav clips come decoded"
    return clip.pictures[view]


def _from_corners(matrices: NDArray[np.float64]) -> NDArray[np.float32]:
    """DALI counts pixels from the corner of the first one, everything else here from its
    centre.
    """
    half = np.full(2, 0.5)
    shift = matrices[..., 2] + half - matrices[..., :2] @ half
    return np.concatenate([matrices[..., :2], shift[..., None]], -1).astype(np.float32)
