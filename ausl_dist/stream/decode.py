"""The DALI graph: pixels of a batch of clips to normalised tensors. The only file that imports
DALI.

    decoder=pyav:  frames.py's uint8 T S S 3 for each view ──────────────────────────────┐
    decoder=dali:  mp4 bytes ──decode──▶ frames ──resize──▶ halved ──warp──▶ T S S 3 ────┴──▶ colour ──▶ blur ──▶ normalise ──▶ T 3 S S

One function builds it for CPU and GPU (where decoding is NVDEC's). Everything random is drawn
before (augment.py) and fed as input, so the graph has no state, and its output does not depend on
threads, on the place in the batch, or on what came before.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn
from nvidia.dali.data_node import DataNode
from nvidia.dali.types import DALIDataType, DALIInterpType
from torch import Tensor

from ausl_dist.batch import View
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD
from ausl_dist.stream.augment import MAX_BLUR_SIGMA, Draw
from ausl_dist.stream.frames import FrameDecoder, view_frames
from ausl_dist.stream.mp4 import Video, VideoError

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


@dataclass
class ClipPixels:
    """One clip on its way into the graph: with pyav its views' pixels, with dali its video."""

    video: Video
    start: int  # first frame of the window
    draws: dict[View, Draw]
    pictures: dict[View, NDArray[np.uint8]] | None = None  # T S S 3


def build_graph(plan: GraphPlan, device_id: int | None) -> Pipeline:
    """The graph of a plan, not built yet; with `device_id` None it can be built on a CPU, or
    serialised for a GPU.
    """
    pipeline = Pipeline(
        batch_size=plan.clips, num_threads=plan.threads, device_id=device_id, prefetch_queue_depth=1
    )
    with pipeline:
        frames = _decoded(plan) if plan.decoder == "dali" else None
        outputs = []
        for number, (view, offsets) in enumerate(plan.views):
            if frames is None:
                pixels = fn.external_source(
                    name=f"pictures{number}", layout="FHWC", dtype=DALIDataType.UINT8, ndim=4
                )
            else:
                pixels = _sampled(_chosen(frames, plan.offsets, offsets), number, plan.image_size)
            outputs.append(
                _normalised(_recoloured(pixels, view, plan.image_size, number), plan.device)
            )
        pipeline.set_outputs(*outputs)
    return pipeline


class Graph:
    """A running graph that survives clips it cannot decode."""

    def __init__(self, plan: GraphPlan, device_id: int = 0) -> None:
        self.plan = plan
        self._device_id = device_id if plan.device == "gpu" else None
        self._checker = FrameDecoder()
        self._pipeline = self._build()

    def run(self, clips: Sequence[ClipPixels | None]) -> tuple[dict[View, Tensor], dict[int, str]]:
        """Normalised frames B T 3 S S of each view, float32, and for each clip that did not decode
        its place and why.

        The places of those, and of the clips that are None, hold zeros. The tensors own their
        memory.
        """
        assert len(clips) == self.plan.clips
        usable = list(clips)
        damaged: dict[int, str] = {}
        while True:
            if not any(usable):
                return self._zeros(), damaged
            try:
                tensors = self._run(usable)
                break
            except RuntimeError as error:
                # A pipeline that met an error is dead. This happens only where DALI decodes: pyav's
                # pictures have been decoded before.
                if self.plan.decoder != "dali":
                    raise
                self._pipeline = self._build()
                found = self._undecodable(usable)
                if not found:
                    raise
                damaged.update(found)
                usable = [None if place in found else clip for place, clip in enumerate(usable)]
                del error
        empty = [place for place, clip in enumerate(usable) if clip is None]
        if empty:
            for tensor in tensors.values():
                tensor[empty] = 0.0
        return tensors, damaged

    def _build(self) -> Pipeline:
        pipeline = build_graph(self.plan, self._device_id)
        pipeline.build()
        return pipeline

    def _run(self, clips: Sequence[ClipPixels | None]) -> dict[View, Tensor]:
        # a place must hold something that decodes
        stand_in = next(clip for clip in clips if clip is not None)
        filled = [stand_in if clip is None else clip for clip in clips]
        for name, values in _inputs(self.plan, filled).items():
            self._pipeline.feed_input(name, values)
        outputs = self._pipeline.run()
        tensors = {}
        for (view, _), output in zip(self.plan.views, outputs, strict=True):
            # No copy on the CPU: the pipeline leaves an output alone for as long as a tensor refers
            # to it (test_stream_decode.py).
            tensors[view] = torch.from_dlpack(output.as_tensor())
        if self.plan.device == "gpu":
            # On a GPU it may be freed, and written again, while work that reads it is still queued
            # on another CUDA stream.
            tensors = {view: tensor.clone() for view, tensor in tensors.items()}
            torch.cuda.current_stream().synchronize()
        return tensors

    def _zeros(self) -> dict[View, Tensor]:
        device = "cuda" if self.plan.device == "gpu" else "cpu"
        size = self.plan.image_size
        return {
            view: torch.zeros(self.plan.clips, len(offsets), 3, size, size, device=device)
            for view, offsets in self.plan.views
        }

    def _undecodable(self, clips: Sequence[ClipPixels | None]) -> dict[int, str]:
        """Which clips FFmpeg cannot decode on the CPU either, and why."""
        found = {}
        for place, clip in enumerate(clips):
            if clip is not None:
                try:
                    view_frames(
                        self._checker, clip.video, dict(self.plan.views), clip.draws, clip.start
                    )
                except VideoError as error:
                    found[place] = str(error)
        return found


def _decoded(plan: GraphPlan) -> DataNode:
    encoded = fn.external_source(name="video", dtype=DALIDataType.UINT8, ndim=1)
    wanted = fn.external_source(name="wanted", dtype=DALIDataType.INT32, ndim=1)
    return fn.decoders.video(
        encoded, device="mixed" if plan.device == "gpu" else "cpu", frames=wanted
    )


def _chosen(frames: DataNode, decoded: tuple[int, ...], offsets: tuple[int, ...]) -> DataNode:
    if offsets == decoded:
        return frames
    picked = fn.element_extract(frames, element_map=[decoded.index(offset) for offset in offsets])
    return fn.reshape(
        fn.stack(*([picked] if isinstance(picked, DataNode) else picked or [])), layout="FHWC"
    )


def _sampled(frames: DataNode, number: int, image_size: int) -> DataNode:
    halved_size = fn.external_source(name=f"halved_size{number}", dtype=DALIDataType.FLOAT, ndim=1)
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
    if view.brightness or view.contrast or view.saturation or view.hue or view.grey:
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


def _normalised(pixels: DataNode, device: str) -> DataNode:
    mean, std = [[255 * value for value in values] for values in (PIXEL_MEAN, PIXEL_STD)]
    placed = pixels.gpu() if device == "gpu" else pixels
    return fn.crop_mirror_normalize(
        placed, dtype=DALIDataType.FLOAT, output_layout="FCHW", mean=mean, std=std
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
        if view.brightness or view.contrast or view.saturation or view.hue or view.grey:
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
    """DALI counts pixels from the corner of the first one, everything else here from its centre."""
    half = np.full(2, 0.5)
    shift = matrices[..., 2] + half - matrices[..., :2] @ half
    return np.concatenate([matrices[..., :2], shift[..., None]], -1).astype(np.float32)
