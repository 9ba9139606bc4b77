"""Decoders alone: what a loader could reach that did nothing else.

clip, number of frames ──prepare──▶ a session, opened once ──▶ decode() ──▶ the frames, let go of
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

Prepare = Callable[[bytes, int], Callable[[], object]]


def bare_decoders(device: torch.device) -> dict[str, Prepare]:
    """Every decoder that there may be for this device; one that is not installed says so when
    it is prepared.
    """
    if device.type == "cuda":
        return {"DALI": _dali_nvdec, "torchcodec": _torchcodec_nvdec, "PyNvVideoCodec": _pynv}
    return {"PyAV": _pyav, "DALI": _dali_cpu, "torchcodec": _torchcodec_cpu}


def _pyav(video: bytes, frames: int) -> Callable[[], object]:
    from ausl_dist.stream.probe import Pyav

    decoder, wanted = Pyav(), [list(range(frames))]
    return lambda: decoder([video], wanted)


def _dali_nvdec(video: bytes, frames: int) -> Callable[[], object]:
    return _dali(video, frames, "gpu", 0)


def _dali_cpu(video: bytes, frames: int) -> Callable[[], object]:
    return _dali(video, frames, "cpu", None)


def _dali(
    video: bytes, frames: int, device: str, device_id: int | None
) -> Callable[[], object]:
    from ausl_dist.stream.decode import decoding_graph

    graph = decoding_graph(device, 1, threads=1, device_id=device_id)
    graph.build()

    def decode() -> object:
        graph.feed_input("video", [np.frombuffer(video, np.uint8)])
        graph.feed_input("wanted", [np.arange(frames, dtype=np.int32)])
        return graph.run()

    return decode


def _torchcodec_nvdec(video: bytes, frames: int) -> Callable[[], object]:
    return _torchcodec(video, frames, "cuda:0")


def _torchcodec_cpu(video: bytes, frames: int) -> Callable[[], object]:
    return _torchcodec(video, frames, "cpu")


def _torchcodec(video: bytes, frames: int, device: str) -> Callable[[], object]:
    from torchcodec.decoders import VideoDecoder

    # a decoder of its own for each clip: torchcodec has no way to give an old one another clip
    return lambda: VideoDecoder(video, device=device)[:frames]


def _pynv(video: bytes, frames: int) -> Callable[[], object]:
    """NVIDIA's own, whose session is kept and given the next file. By its documentation
    (version 2.1): not run yet.
    """
    import PyNvVideoCodec

    folder = tempfile.TemporaryDirectory(prefix="bare-pynv-")
    path = Path(folder.name) / "clip.mp4"
    path.write_bytes(video)
    decoder = PyNvVideoCodec.SimpleDecoder(str(path), gpu_id=0, use_device_memory=True)

    def decode() -> object:
        assert folder.name  # the file lives as long as its session
        decoder.reconfigure_decoder(str(path))
        return decoder[:frames]

    return decode
