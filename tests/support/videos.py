"""Video files of every kind and defect, made with FFmpeg (PyAV) for the corpus tests."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

TIME_BASE = Fraction(1, 90000)


def moving_frames(count: int, *, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """T H W 3: a bright square that moves right by one pixel a frame over a ramp, so that every
    frame can be told from its neighbours.
    """
    frames = np.empty((count, height, width, 3), np.uint8)
    frames[:] = np.linspace(20, 120, width).astype(np.uint8)[None, None, :, None]
    for t in range(count):
        left = (t * 2) % (width - 12)
        frames[t, 8:20, left : left + 12] = (250, 240, 40)
    return frames


def numbered_frames(count: int, *, width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    """T H W 3: frame t is a flat grey of level 10 + 2 t (modulo 240), which survives any codec."""
    levels = (10 + 2 * np.arange(count)) % 240
    return (
        np.broadcast_to(levels[:, None, None, None], (count, height, width, 3))
        .astype(np.uint8)
        .copy()
    )


def number_of(pixels: NDArray[np.uint8]) -> int:
    """Which of `numbered_frames` a decoded picture is."""
    return round((float(pixels.mean()) - 10) / 2)


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    *,
    fps: float = 25.0,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    seconds: Sequence[float] | None = None,
    rotation: int = 0,
    pixel_shape: Fraction | None = None,
    container: str | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode frames [T, H, W, 3] to a file; `seconds` gives each frame's time where the rate
    varies.
    """
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(
            codec, rate=Fraction(fps).limit_denominator(1001), options=options or {}
        )
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = (
            frames.shape[2],
            frames.shape[1],
            pixel_format,
        )
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if rotation:
            stream.set_display_rotation(rotation)
        if seconds is not None:
            stream.codec_context.time_base = TIME_BASE
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if seconds is not None:
                frame.pts, frame.time_base = round(seconds[number] / TIME_BASE), TIME_BASE
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def write_streams(
    path: Path, sizes: Sequence[tuple[int, int]], dispositions: Sequence[str], count: int = 12
) -> Path:
    """A file with several video streams of these widths and heights, marked `default`,
    `attached_pic` or with nothing (""); the pictures of stream k have the number 20 k.
    """
    with av.open(str(path), "w") as output:
        streams = []
        for (width, height), marked in zip(sizes, dispositions, strict=True):
            stream = output.add_stream(
                "mpeg4" if marked != "attached_pic" else "mjpeg", rate=25
            )
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p" if marked != "attached_pic" else "yuvj420p"
            stream.disposition = av.stream.Disposition[marked] if marked else 0  # type: ignore[assignment]
            streams.append(stream)
        for number, stream in enumerate(streams):
            frames = numbered_frames(20 * number + 1, width=stream.width, height=stream.height)
            pictures = 1 if dispositions[number] == "attached_pic" else count
            for _ in range(pictures):
                frame = av.VideoFrame.from_ndarray(frames[-1], format="rgb24")
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


def write_no_frames(path: Path) -> Path:
    """An mp4 file that promises 12 frames, with zeros where their data should be."""
    data = bytearray(write_video(path, moving_frames(12)).read_bytes())
    first, end = data.find(b"mdat") + 4, data.find(b"moov") - 4
    data[first:end] = bytes(end - first)
    path.write_bytes(data)
    return path


def write_absurd_header(path: Path, side: int = 16128) -> Path:
    """A small VP9 video whose key frame claims pictures of `side` x `side` pixels."""
    frames = np.full((4, 64, 64, 3), 90, np.uint8)
    data = bytearray(write_video(path, frames, codec="libvpx-vp9").read_bytes())
    at = data.index(b"\x82\x49\x83\x42")  # profile 0, key frame, sync code
    header = int.from_bytes(data[at : at + 16], "big")
    for start in (36, 52):  # of 128 bits: width and height, less one
        shift = 128 - start - 16
        header = header & ~(0xFFFF << shift) | (side - 1) << shift
    data[at : at + 16] = header.to_bytes(16, "big")
    path.write_bytes(data)
    return path


def write_absurd_flash(path: Path, side: int = 16128) -> Path:
    """A small .flv whose pictures claim `side` x `side` pixels; its header names no stream."""
    # start code, version, time, size in 16 bits, width, height, key picture, deblocking, quantiser
    fields = ((1, 17), (0, 5), (0, 8), (1, 3), (side, 16), (side, 16), (0, 2), (0, 1), (10, 5))
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    picture = int(f"{bits:0<80}", 2).to_bytes(10, "big") + bytes(2000)
    body = b"\x12" + picture  # key picture, Sorenson H.263
    data = b"FLV\x01\x01" + bytes([0, 0, 0, 9, 0, 0, 0, 0])
    for number in range(8):
        head = b"\x09" + len(body).to_bytes(3, "big") + (40 * number).to_bytes(3, "big")
        data += head + bytes(4) + body + (len(body) + 11).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def write_wide(path: Path) -> Path:
    """Pictures 20,000 pixels wide; .avi."""
    return write_video(
        path, moving_frames(2, width=20000, height=64), codec="mjpeg", pixel_format="yuvj420p"
    )


def write_six_hours(path: Path) -> Path:
    """Four frames, two hours apart."""
    return write_video(path, moving_frames(4), seconds=[0.0, 7200.0, 14400.0, 21600.0])


def write_sound(path: Path) -> Path:
    """A file with sound and no picture."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=44100)
        assert isinstance(stream, av.AudioStream)
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 44100), np.float32), format="fltp", layout="mono"
        )
        sound.rate = 44100
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    return path


def cut_short(path: Path, share: float) -> Path:
    """Keep the first `share` of a file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def zero_packets(path: Path, which: Sequence[int]) -> Path:
    """The same file with zeros in place of some of its video packets."""
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(container.streams.video[0])]
    data = bytearray(path.read_bytes())
    for number in which:
        start, size = packets[number]
        assert start is not None
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path
