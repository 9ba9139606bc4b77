"""Frames of a clip on the CPU: FFmpeg decodes, and only the pixels that the views want are
converted.

    mp4 bytes, frame numbers ──FrameDecoder──▶ frames Y, U, V
    frames Y, U, V ──halve──▶ crop or warp ──▶ uint8 T S S 3 (RGB) for each view

Per frame of 256 x 256 pixels and one view of 112, on a busy core: decoding 0.33 ms, all the
rest 0.1 ms. What makes that small: the sample table is read by mp4.py instead of probing,
decoders stay open from clip to clip, chroma of a halved frame is used as it is stored, and the
conversion to RGB runs last, on the pixels of the view alone. tools/README.md has the
measurements.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from ausl_dist.batch import View
from ausl_dist.stream.augment import Draw
from ausl_dist.stream.mp4 import Video, VideoError

# Luma weights (red, blue) of the colour matrices a clip may be tagged with; untagged clips are
# taken for BT.601, as FFmpeg takes them.
_BT601, _BT709 = (0.299, 0.114), (0.2126, 0.0722)
_PIXEL_FORMATS = ("yuv420p", "yuvj420p")
CODED_SPARE = 128  # pixels by which a coded picture may be wider and higher than is shown
MAX_SCRATCH = 64  # arrays of a frame's size at most, for each thread


@dataclass
class ClipPixels:
    """One clip on its way into the graph: with pyav its views' pixels, with dali its video."""

    video: Video
    start: int  # first frame of the window
    draws: dict[View, Draw]
    pictures: dict[View, NDArray[np.uint8]] | None = None  # T S S 3


class FrameDecoder:
    """Decoders that stay open from clip to clip, and memory for what a frame becomes on its
    way.

    One for each thread.
    """

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, bytes, int, int], av.VideoCodecContext] = {}
        self._scratch: dict[tuple[str | int, ...], NDArray[np.uint8]] = {}

    def scratch(self, name: str, level: int, *shape: int) -> NDArray[np.uint8]:
        """Memory of that shape, good until it is asked for again: OpenCV takes longer to get
        new memory for a frame than to fill it.
        """
        found = self._scratch.get((name, level, *shape))
        if found is None:
            # clips of ever other sizes must not be remembered for ever
            if len(self._scratch) >= MAX_SCRATCH:
                self._scratch.clear()
            found = self._scratch[(name, level, *shape)] = np.empty(shape, np.uint8)
        return found

    def decode(
        self, video: Video, wanted: Iterable[int]
    ) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (number, frame) for the wanted frames in order; VideoError when one of them
        cannot be decoded.
        """
        missing = sorted(set(wanted))
        if missing[0] < 0 or missing[-1] >= video.frames:
            raise VideoError(
                f"frames {missing[0]} to {missing[-1]} are wanted of a clip of {video.frames}"
            )
        key = video.codec, video.extradata, video.width, video.height
        context = self._contexts.get(key) or _open(video)
        self._contexts = {key: context}
        finished = False
        try:
            for frame in _decoded(context, video, missing[0], missing[-1]):
                if frame.pts == missing[0]:
                    _check(frame, video)
                    yield missing.pop(0), frame
                    if not missing:
                        break
            if missing:
                raise VideoError(f"frame {missing[0]} does not decode")
            context.flush_buffers()
            finished = True
        except av.error.FFmpegError as error:
            raise VideoError(f"video does not decode ({error.strerror})") from error
        finally:
            # a decoder that met an error, or that was left in the middle, is not used again
            if not finished:
                self._contexts.clear()


def view_frames(
    decoder: FrameDecoder,
    video: Video,
    offsets: Mapping[View, tuple[int, ...]],
    draws: Mapping[View, Draw],
    start: int,
) -> dict[View, NDArray[np.uint8]]:
    """The views' pixels, uint8 T S S 3 (RGB), of frames `start + offset`; no colour change or
    blur yet.
    """
    wanted: dict[int, list[tuple[View, int]]] = {}
    for view, places in offsets.items():
        for position, offset in enumerate(places):
            wanted.setdefault(start + offset, []).append((view, position))
    pictures = {
        view: np.empty((len(places), *draws[view].size, 3), np.uint8)
        for view, places in offsets.items()
    }
    matrices = {view: draws[view].matrices() for view in offsets}
    to_rgb: NDArray[np.float32] | None = None
    for number, frame in decoder.decode(video, wanted):
        if to_rgb is None:  # once for a clip: asking every frame takes as long as converting it
            to_rgb = _colour_matrix(frame)
        halved: dict[int, NDArray[np.uint8]] = {}
        for view, position in wanted[number]:
            drawn = draws[view]
            if drawn.level not in halved:
                halved[drawn.level] = _halve(frame, drawn.level, decoder)
            sampled = _sample(
                halved[drawn.level], drawn, matrices[view][position], position, decoder
            )
            cv2.transform(sampled, to_rgb, dst=pictures[view][position])
    return pictures


def whole_frames(
    decoder: FrameDecoder, video: Video, numbers: Sequence[int]
) -> NDArray[np.uint8]:
    """Frames as they are, uint8 T H W 3 (RGB), of increasing numbers; VideoError where one does
    not decode.
    """
    pictures = []
    for _, frame in decoder.decode(video, numbers):
        pictures.append(cv2.transform(_halve(frame, 0, decoder), _colour_matrix(frame)))
    return np.stack(pictures)


def _open(video: Video) -> av.VideoCodecContext:
    context = av.CodecContext.create(video.codec, "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1  # the parallelism is over clips
    context.options = {
        # FFmpeg would paint over what is damaged
        "err_detect": "crccheck+bitstream+buffer+explode",
        # or take memory for whatever size a picture claims
        "max_pixels": str((video.width + CODED_SPARE) * (video.height + CODED_SPARE)),
    }
    if video.extradata:
        context.extradata = video.extradata
    return context


def _decoded(
    context: av.VideoCodecContext, video: Video, first: int, last: int
) -> Iterator[av.VideoFrame]:
    for number, data in video.packets(first, last):
        packet = av.Packet(data)  # type: ignore[arg-type]  # any buffer will do
        packet.pts = number
        yield from context.decode(packet)
    yield from context.decode(None)


def _check(frame: av.VideoFrame, video: Video) -> None:
    if frame.is_corrupt:
        raise VideoError("a frame is damaged")
    if (frame.height, frame.width) != (
        video.height,
        video.width,
    ) or frame.format.name not in _PIXEL_FORMATS:
        found = f"{frame.width} x {frame.height} {frame.format.name}"
        raise VideoError(
            f"frame is {found}, the clip says {video.width} x {video.height}; yuv420p is read"
        )


def _halve(frame: av.VideoFrame, level: int, decoder: FrameDecoder) -> NDArray[np.uint8]:
    """H W 3 (Y, U, V) of the frame halved `level` times, each pixel the mean of those it
    replaces.
    """
    y, u, v = (_plane(plane) for plane in frame.planes)
    size = (frame.width >> level, frame.height >> level)
    # an odd last row or column has no partner and is left out
    even = (
        size[0] << level,
        size[1] << level,
    )
    into_y, into_u, into_v = (decoder.scratch(name, level, *size[::-1]) for name in "yuv")
    y = _resize(y[: even[1], : even[0]], size, cv2.INTER_AREA, into_y)
    if level == 0:
        u, v = (
            _resize(u, size, cv2.INTER_LINEAR, into_u),
            _resize(v, size, cv2.INTER_LINEAR, into_v),
        )
    else:
        u, v = (
            _resize(plane[: even[1] >> 1, : even[0] >> 1], size, cv2.INTER_AREA, into)
            for plane, into in ((u, into_u), (v, into_v))
        )
    into = decoder.scratch("yuv", level, *size[::-1], 3)
    return cv2.merge((y, u, v), dst=into)  # type: ignore[return-value]


def _plane(plane: av.video.plane.VideoPlane) -> NDArray[np.uint8]:
    shape, strides = (plane.height, plane.width), (plane.line_size, 1)
    return np.ndarray(shape, np.uint8, plane, strides=strides)  # type: ignore[arg-type]


def _resize(
    picture: NDArray[np.uint8],
    size: tuple[int, int],
    interpolation: int,
    into: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """The picture itself where it has the size, else `into`."""
    if picture.shape[:2] == size[::-1]:
        return picture
    return cv2.resize(picture, size, dst=into, interpolation=interpolation)  # type: ignore[return-value]


def _sample(
    picture: NDArray[np.uint8],
    drawn: Draw,
    matrix: NDArray[np.float64],
    position: int,
    decoder: FrameDecoder,
) -> NDArray[np.uint8]:
    into = decoder.scratch("sampled", 0, *drawn.size[::-1], 3)
    if drawn.angle[position]:
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(
            picture, matrix, drawn.size, dst=into, flags=flags, borderMode=cv2.BORDER_REPLICATE
        )  # type: ignore[return-value]
    # Without rotation the warp is a resize of a run of whole pixels: the same sampling, at a
    # third of the cost.
    left, top, side = (int(value) for value in drawn.crop[position])
    view = _resize(
        picture[top : top + side, left : left + side], drawn.size, cv2.INTER_LINEAR, into
    )
    if not drawn.mirror:
        return view
    mirrored = decoder.scratch("mirrored", 0, *view.shape)
    return cv2.flip(view, 1, dst=mirrored)  # type: ignore[return-value]


def _colour_matrix(frame: av.VideoFrame) -> NDArray[np.float32]:
    """3 x 4 from (Y, U, V, 1) in bytes to RGB in bytes (ITU-R BT.601 / BT.709, limited or full
    range).
    """
    red, blue = _BT709 if frame.colorspace == Colorspace.ITU709 else _BT601
    full = frame.color_range == ColorRange.JPEG or frame.format.name == "yuvj420p"
    luma, chroma, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)
    green = 1 - red - blue
    rows = np.array(
        [
            [luma, 0.0, 2 * (1 - red) * chroma],
            [
                luma,
                -2 * blue * (1 - blue) / green * chroma,
                -2 * red * (1 - red) / green * chroma,
            ],
            [luma, 2 * (1 - blue) * chroma, 0.0],
        ]
    )
    return np.column_stack([rows, -rows @ (black, 128.0, 128.0)]).astype(np.float32)
