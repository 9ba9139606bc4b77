"""Test clips for decoders: what kind of video a clip is, and clips of the same kind whose
frames say which they are.

    clip ──kind_of──▶ codec, size, chroma, matrix, range
        ──card──▶ mp4 whose frames carry (clip, frame) as 16 squares ──▶ read_back

The squares are black or white, so that a wrong matrix or range does not hide a right frame, nor
the other way round.
"""

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from ausl_dist.shards.clip import MAX_KEYFRAME_DISTANCE
from ausl_dist.stream.mp4 import MAX_SIDE, VideoError

SQUARES = 4  # a side
FRAME_BITS, CLIP_BITS = 6, 4  # and the frame's bits again, inverted: a smear is no number
CARD_FRAMES = 24
DARK, BRIGHT = 40, 215
_MEMORY_GUARD = {"max_pixels": str(MAX_SIDE**2)}

_ENCODERS = {
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "10", "b": "0"}),
    "h264": ("libx264", {"preset": "veryfast", "crf": "12", "x264-params": "scenecut=0"}),
    "mjpeg": ("mjpeg", {"qmin": "2", "qmax": "2"}),
}


@dataclass(frozen=True)
class Kind:
    """What may keep a decoder from a clip, or make it see other colours."""

    codec: str  # FFmpeg's name
    width: int
    height: int
    chroma: str = "420"
    # bt709; all that is tagged otherwise, or not at all, is bt601 to FFmpeg
    matrix: str = "bt601"
    full: bool = False  # range: 0 to 255, not 16 to 235

    def __str__(self) -> str:
        reach = "full range" if self.full else "limited range"
        size = f"{self.width} x {self.height}"
        return f"{self.codec} {size} yuv{self.chroma}p {self.matrix} {reach}"


def kind_of(video: bytes) -> Kind:
    """What a clip is, by its first frame; VideoError where FFmpeg does not decode it."""
    try:
        with av.open(io.BytesIO(video), "r", options=_MEMORY_GUARD) as container:
            context = container.streams.video[0].codec_context
            context.options = _MEMORY_GUARD
            frame = next(container.decode(video=0))
            codec = context.name
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        raise VideoError(f"FFmpeg does not decode the clip ({error})") from error
    name = frame.format.name
    return Kind(
        codec={"libvpx-vp9": "vp9"}.get(codec, codec),
        width=frame.width,
        height=frame.height,
        chroma=name.removeprefix("yuvj").removeprefix("yuv").removesuffix("p"),
        matrix="bt709" if frame.colorspace == Colorspace.ITU709 else "bt601",
        full=frame.color_range == ColorRange.JPEG or name.startswith("yuvj"),
    )


def encode_as(kind: Kind, frames: NDArray[np.uint8]) -> bytes:
    """RGB frames T H W 3 as a clip of that kind."""
    name, options = _ENCODERS[kind.codec]
    pixels = f"yuv{'j' if kind.codec == 'mjpeg' else ''}{kind.chroma}p"
    space = Colorspace.ITU709 if kind.matrix == "bt709" else Colorspace.SMPTE170M
    reach = ColorRange.JPEG if kind.full else ColorRange.MPEG
    reformatter, buffer, rate = VideoReformatter(), io.BytesIO(), Fraction(25)
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(name, rate=rate, options=options)
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = kind.width, kind.height, pixels
        context.gop_size, context.max_b_frames = MAX_KEYFRAME_DISTANCE, 0
        context.thread_count = 1
        context.colorspace, context.color_range = int(space), int(reach)
        for number, picture in enumerate(frames):
            frame = reformatter.reformat(
                av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"),
                format=pixels,
                src_color_range=ColorRange.JPEG,
                dst_colorspace=space,
                dst_color_range=reach,
            )
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def card(kind: Kind, clip: int) -> bytes:
    """A clip of CARD_FRAMES frames that carry its number and theirs."""
    frames = [_squares(clip, frame, kind.height, kind.width) for frame in range(CARD_FRAMES)]
    return encode_as(kind, np.stack(frames))


def read_back(picture: NDArray[np.uint8]) -> tuple[int, int] | None:
    """The numbers (clip, frame) in a decoded picture H W 3; None where there are none to read."""
    height, width = picture.shape[:2]
    grey = picture.astype(np.float32).mean(2)
    bits = []
    for place in range(SQUARES * SQUARES):
        top, left = (
            (place // SQUARES) * height / SQUARES,
            (place % SQUARES) * width / SQUARES,
        )
        middle = grey[
            int(top + 0.3 * height / SQUARES) : int(top + 0.7 * height / SQUARES),
            int(left + 0.3 * width / SQUARES) : int(left + 0.7 * width / SQUARES),
        ]
        bits.append(int(middle.mean() > (DARK + BRIGHT) / 2))
    frame, inverse = _number(bits[:FRAME_BITS]), _number(bits[FRAME_BITS : 2 * FRAME_BITS])
    if frame != (1 << FRAME_BITS) - 1 - inverse:
        return None
    return _number(bits[2 * FRAME_BITS :]), frame


def _squares(clip: int, frame: int, height: int, width: int) -> NDArray[np.uint8]:
    inverse = (1 << FRAME_BITS) - 1 - frame
    bits = [*_bits(frame, FRAME_BITS), *_bits(inverse, FRAME_BITS), *_bits(clip, CLIP_BITS)]
    values = np.where(np.array(bits).reshape(SQUARES, SQUARES), BRIGHT, DARK).astype(np.uint8)
    rows = np.arange(height) * SQUARES // height
    columns = np.arange(width) * SQUARES // width
    return np.repeat(values[rows][:, columns, None], 3, axis=2)


def _bits(value: int, count: int) -> list[int]:
    return [value >> place & 1 for place in reversed(range(count))]


def _number(bits: list[int]) -> int:
    return int("".join(map(str, bits)), 2)
