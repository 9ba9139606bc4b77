"""Aligned frames to the bytes of KEY.mp4, and the proof that they decode again.

    frames uint8 T H W 3, RGB ──▶ encode_video ──▶ mp4 bytes ──▶ verify_video ──▶ (written to a shard)

VP9, which DALI decodes on CPU and on GPU; H.264, which PyAV decodes on CPU and NVDEC on GPU; or
Motion JPEG, a pack of JPEGs in one member: five times as large, decoded twice as fast, and any
frame without those before it. Equal frames give equal bytes: one thread, constant quality
instead of a bit rate, no time stamp of the encoding.
"""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, get_args

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from ausl_dist.shards.clip import MAX_CLIP_FRAMES, MAX_KEYFRAME_DISTANCE
from ausl_dist.shards.tar import MAX_MEMBER_BYTES

Codec = Literal["vp9", "h264", "mjpeg"]
CODECS: tuple[Codec, ...] = get_args(Codec)

# Constant quality. 24 (VP9) and 18 (H.264) give 40 dB on real aligned faces at 20 to 30 KiB for
# 32 frames of 256 x 256 pixels. VP9's slower presets save a tenth of the size for a tenth of
# the speed: not worth it offline either, at terabytes.
_ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    "vp9": (
        "libvpx-vp9",
        {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0", "lag-in-frames": "0"},
    ),
    "h264": ("libx264", {"preset": "veryfast", "crf": "18", "x264-params": "scenecut=0"}),
    "mjpeg": ("mjpeg", {"qmin": "3", "qmax": "3"}),
}

# dB on luma; a real clip has about 40, pure noise about 30, a frame out of place below 20
MIN_PSNR = 25.0


class VideoMismatch(ValueError):
    """Encoded bytes that do not give back the frames they were made from."""


def encode_video(frames: NDArray[np.uint8], fps: float, codec: Codec = "vp9") -> bytes:
    """Encode frames [T, H, W, 3] (RGB uint8, H and W even) to mp4 bytes of constant frame rate,
    yuv420p (JPEG in full range).

    A keyframe stands at least every 16 frames. Raises ValueError for frames or settings that
    cannot be encoded.
    """
    if (
        frames.dtype != np.uint8
        or frames.ndim != 4
        or frames.shape[3] != 3
        or not 1 <= len(frames) <= MAX_CLIP_FRAMES
    ):
        raise ValueError(
            f"encode: need uint8 frames [1..{MAX_CLIP_FRAMES}, H, W, 3], "
            f"not {frames.dtype} {frames.shape}"
        )
    height, width = frames.shape[1:3]
    if height % 2 or width % 2 or not (16 <= height <= 4096 and 16 <= width <= 4096):
        raise ValueError(
            f"encode: height and width must be even and lie in 16..4096, not {height} x {width}"
        )
    if codec not in _ENCODERS:
        raise ValueError(f"encode: codec must be one of {', '.join(CODECS)}, not {codec!r}")
    name, options = _ENCODERS[codec]
    rate = Fraction(fps).limit_denominator(1001)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(name, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, _pixel_format(codec)
        context.gop_size = MAX_KEYFRAME_DISTANCE
        context.max_b_frames = 0
        context.thread_count = 1
        context.flags |= av.codec.context.Flags.bitexact
        # Tagged, so that no decoder has to guess the matrix from the picture's size.
        context.colorspace, context.color_range = int(Colorspace.SMPTE170M), int(_range(codec))
        for index, frame in enumerate(_yuv_frames(frames, codec)):
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def verify_video(video: bytes, frames: NDArray[np.uint8]) -> float:
    """Decode `video` and compare it with the frames [T, H, W, 3] it was made from; returns the
    worst frame's luma PSNR in dB.

    Raises VideoMismatch when the count, size, keyframes or time stamps are wrong or a frame is
    further than MIN_PSNR away.
    """
    if len(video) > MAX_MEMBER_BYTES:
        raise VideoMismatch(
            f"encoded clip has {len(video)} bytes, a shard member may have {MAX_MEMBER_BYTES}"
        )
    worst, count, since_keyframe = float("inf"), 0, 0
    try:
        with av.open(io.BytesIO(video), "r") as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            step = 1 / (stream.average_rate * stream.time_base)  # type: ignore[operator]
            for decoded in container.decode(stream):
                if count == len(frames):
                    raise VideoMismatch(
                        f"encoded clip has more than the {count} frames it was made from"
                    )
                if (decoded.height, decoded.width) != frames.shape[1:3]:
                    raise VideoMismatch(
                        f"encoded frame is {decoded.width} x {decoded.height}, "
                        f"not {frames.shape[2]} x {frames.shape[1]}"
                    )
                if decoded.pts is None or abs(decoded.pts - count * step) > 0.5:
                    raise VideoMismatch(
                        f"frame {count} is stamped {decoded.pts}, a constant rate would give "
                        f"{count * step}"
                    )
                since_keyframe = 1 if decoded.key_frame else since_keyframe + 1
                if since_keyframe > MAX_KEYFRAME_DISTANCE or (
                    count == 0 and not decoded.key_frame
                ):
                    raise VideoMismatch(
                        f"no keyframe in the {MAX_KEYFRAME_DISTANCE} frames up to frame {count}"
                    )
                worst = min(
                    worst,
                    cv2.PSNR(_luma(decoded), _luma_of(frames[count], decoded.format.name)),
                )
                if worst < MIN_PSNR:
                    raise VideoMismatch(
                        f"frame {count} decodes to a picture {worst:.1f} dB from its original; "
                        f"{MIN_PSNR} is the least"
                    )
                count += 1
    except (av.error.FFmpegError, IndexError) as error:
        raise VideoMismatch(
            f"encoded clip does not decode ({getattr(error, 'strerror', error)})"
        ) from error
    if count != len(frames):
        raise VideoMismatch(f"encoded clip has {count} frames, it was made from {len(frames)}")
    return worst


def _pixel_format(codec: Codec) -> str:
    return "yuvj420p" if codec == "mjpeg" else "yuv420p"


def _range(codec: Codec) -> ColorRange:
    return ColorRange.JPEG if codec == "mjpeg" else ColorRange.MPEG


def _yuv_frames(frames: NDArray[np.uint8], codec: Codec) -> Iterator[av.VideoFrame]:
    reformatter = VideoReformatter()
    for frame in frames:
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        yield reformatter.reformat(
            rgb,
            format=_pixel_format(codec),
            src_color_range=ColorRange.JPEG,
            dst_colorspace=Colorspace.SMPTE170M,
            dst_color_range=_range(codec),
        )


def _luma_of(pixels: NDArray[np.uint8], pixel_format: str) -> NDArray[np.uint8]:
    # The same BT.601 luma as in `_yuv_frames`, to one level, in a ninth of its time.
    if pixel_format == "yuvj420p":
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420)[: len(pixels)], np.uint8)


def _luma(frame: av.VideoFrame) -> NDArray[np.uint8]:
    plane = frame.planes[0]
    data: NDArray[np.uint8] = np.frombuffer(plane, np.uint8)  # type: ignore[call-overload]
    rows = data.reshape(-1, plane.line_size)
    return rows[: frame.height, : frame.width]
