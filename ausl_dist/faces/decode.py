"""Whatever FFmpeg reads becomes pictures with a time: one at a time, as a player shows them
(turned, mirrored, with square pixels), of bounded size.

    video file ──▶ VideoFile ──▶ Picture (seconds, source frame number, pixels on demand)
    folder of numbered images ──▶ FrameFolder ──▶ the same

Files come from outside: every size is checked before memory is taken for it, and whatever is
wrong ends in `Unreadable` with one of the reasons of books.py. Pixels are converted only when
asked for, since a change of frame rate passes over some pictures.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from ausl_dist.faces.allocation import pieces_of_at_most
from ausl_dist.faces.clock import FrameNumbers, PictureClock
from ausl_dist.faces.demux import packets_of
from ausl_dist.faces.jpeg import is_cut_jpeg
from ausl_dist.faces.orientation import as_shown, display_matrix
from ausl_dist.faces.settings import ReadSettings
from ausl_dist.files import check_plain
from ausl_dist.tables import is_system_file

MAX_DAMAGED_IN_A_ROW = 300  # packets; then the rest of the file is given up
MAX_SOURCE_FPS = 240.0
# a longer one is no information, and the books have a row for each frame
MAX_DECLARED_SECONDS = 7 * 86400.0
MAX_IMAGE_BYTES = 64 << 20
# times max_side^2; above, a decoder takes no memory and gives no size
MAX_PIXELS_OF_LARGEST = 2
MAX_BYTES_A_PIXEL = 4  # of a plane, while a file is opened
SPARE_BYTES = 4 << 20  # for packets and tables
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
_COVER = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
_SECOND = av.stream.Disposition.dependent | av.stream.Disposition.still_image
_LAST_NUMBER = re.compile(r"(\d+)$")


class Unreadable(ValueError):
    """A source that gives no frames; `reason` is a key of the books, `seconds` the length it
    claims where that is known.
    """

    def __init__(self, reason: str, message: str, seconds: float = 0.0) -> None:
        super().__init__(message)
        self.reason, self.seconds = reason, seconds


@dataclass(frozen=True)
class Picture:
    """One decoded picture of the source."""

    seconds: float  # since the first one, never decreasing
    number: int  # of the source frame, from 0
    pixels: Callable[[], NDArray[np.uint8]]  # H W 3, RGB
    splice: bool = False  # what came before is not what happened just before


class Pictures(Protocol):
    """A source being read."""

    frame_seconds: float  # nominal time between two pictures
    declared_seconds: float | None  # what the file says of its length
    damaged: int  # packets or images that could not be decoded so far

    def __iter__(self) -> Iterator[Picture]: ...


def open_pictures(path: Path, settings: ReadSettings, *, threads: int = 1) -> Pictures:
    """Open a video file or a folder of numbered images; raises Unreadable."""
    return (
        FrameFolder(path, settings)
        if path.is_dir()
        else VideoFile(path, settings, threads=threads)
    )


class VideoFile:
    """A file that FFmpeg opens.

    Display matrix and pixel shape are applied, and pictures above `work_side` are shrunk to it.
    """

    def __init__(self, path: Path, settings: ReadSettings, *, threads: int = 1) -> None:
        self._path, self._settings, self._threads = path, settings, threads
        self.damaged = 0
        self.declared_seconds: float | None = None
        with open_video(self._path, self._settings) as container:
            stream = shown_stream(container)
            size = _size_of(container, stream, settings.max_side)
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            if stream.duration and stream.time_base:
                self.declared_seconds = float(stream.duration * stream.time_base)
            elif container.duration:
                self.declared_seconds = container.duration / av.time_base
        seconds = min(max(self.declared_seconds or 0.0, 0.0), MAX_DECLARED_SECONDS)
        _check_size(*size, settings.max_side, seconds)
        if seconds > settings.max_seconds:
            raise Unreadable(
                "too_long",
                f"{seconds:.0f} s long, more than max_seconds = {settings.max_seconds:.0f}",
                seconds,
            )
        if 0 < rate < settings.min_source_fps:
            raise Unreadable(
                "low_frame_rate",
                f"{rate:.2f} frames/s, fewer than min_source_fps = {settings.min_source_fps}",
                seconds,
            )
        self.frame_seconds = 1 / rate if 0 < rate <= 1000 else 1 / settings.fps

    def __iter__(self) -> Iterator[Picture]:
        clock = PictureClock(self.frame_seconds)
        reformatter = VideoReformatter()
        limit = self._settings.max_seconds * MAX_SOURCE_FPS
        with open_video(self._path, self._settings) as container:
            stream = shown_stream(container)
            numbers = FrameNumbers(self.frame_seconds, _start_of(stream))
            context = stream.codec_context
            context.thread_count = self._threads
            context.options = _memory_guard(self._settings.max_side)
            pixel_shape = float(stream.sample_aspect_ratio or 1)
            for frame in self._frames(container, stream):
                stamp = None if frame.pts is None or frame.time is None else float(frame.time)
                number = numbers.following(stamp, self.damaged)
                if number is None:
                    continue
                seconds, splice = clock.read(stamp)
                if seconds > self._settings.max_seconds or number >= limit:
                    raise Unreadable(
                        "too_long",
                        f"longer than max_seconds = {self._settings.max_seconds:.0f}",
                    )
                _check_size(frame.width, frame.height, self._settings.max_side)
                yield Picture(
                    seconds,
                    number,
                    _converter(frame, reformatter, pixel_shape, self._settings.work_side),
                    splice,
                )

    def _frames(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.VideoFrame]:
        """Decoded frames; damaged packets are counted and passed over, as a player would."""
        in_a_row = 0
        packets = packets_of(container, stream)
        while True:
            try:
                packet, is_behind_damage = next(packets, (None, False))
                if packet is None:
                    return
                self.damaged += is_behind_damage
                frames = packet.decode()
                in_a_row = 0
            except av.error.EOFError:
                return
            except av.error.FFmpegError as error:
                self.damaged += 1
                in_a_row += 1
                if isinstance(error, av.error.MemoryError) or in_a_row > MAX_DAMAGED_IN_A_ROW:
                    return
                continue
            for frame in frames:
                assert isinstance(frame, av.VideoFrame)
                if frame.is_corrupt:
                    self.damaged += 1
                else:
                    yield frame


class FrameFolder:
    """A folder of images whose names end in the frame's number; missing numbers are missing
    time.
    """

    def __init__(self, path: Path, settings: ReadSettings) -> None:
        self._settings = settings
        try:
            self._files = numbered_images(path)
        except OSError as error:
            raise Unreadable(
                "unreadable", f"the folder cannot be listed ({error.strerror})"
            ) from error
        self.damaged = 0
        self.frame_seconds = 1 / settings.frames_fps
        self._first = self._files[0][0]
        # Labels go by number: a folder whose first images are missing still counts from 1.
        self._base = min(self._first, 1)
        self.declared_seconds: float | None = (
            self._files[-1][0] - self._first + 1
        ) * self.frame_seconds
        if self.declared_seconds > settings.max_seconds:
            seconds = min(self.declared_seconds, MAX_DECLARED_SECONDS)
            raise Unreadable(
                "too_long",
                f"{seconds:.0f} s long, more than max_seconds = {settings.max_seconds:.0f}",
                seconds,
            )

    def __iter__(self) -> Iterator[Picture]:
        for number, file in self._files:
            try:
                pixels = read_image(file, self._settings)
            except Unreadable:
                self.damaged += 1
                continue
            seconds = (number - self._first) * self.frame_seconds
            yield Picture(seconds, number - self._base, lambda pixels=pixels: pixels)  # type: ignore[misc]


def read_image(file: Path, settings: ReadSettings) -> NDArray[np.uint8]:
    """The picture in a file as it is to be shown, H W 3, RGB; raises Unreadable."""
    if _bytes_of(file) > MAX_IMAGE_BYTES:
        raise Unreadable("too_large", f"{file.name} has more than {MAX_IMAGE_BYTES} bytes")
    if _is_cut(file):
        raise Unreadable("unreadable", f"{file.name} is cut off: its end is missing")
    image = next(iter(VideoFile(file, settings)), None)
    if image is None:
        raise Unreadable("unreadable", f"{file.name} is no image")
    return image.pixels()


def _is_cut(file: Path) -> bool:
    try:
        return is_cut_jpeg(file.read_bytes())
    except OSError:
        return False  # what it is instead is said when it is opened


def numbered_images(folder: Path) -> list[tuple[int, Path]]:
    """(number, file) of the images in a folder, by number; of two kinds of one image the first
    by name counts. Raises Unreadable where there is none, or two images share a number, as two cameras' do.
    """
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        number = frame_number(file.name)
        if number is None:
            continue
        other = found.setdefault(number, file)
        if _LAST_NUMBER.sub("", other.stem) != _LAST_NUMBER.sub("", file.stem):
            raise Unreadable(
                "unreadable",
                f"{other.name} and {file.name} both are image {number}: give each video a folder",
            )
    if not found:
        raise Unreadable("unreadable", "the folder holds no images with numbers in their names")
    return sorted(found.items())


def frame_number(file: str) -> int | None:
    """The number at the end of an image file's name; None for other files, and for those that a
    system left (`._00001.jpg`).
    """
    path = PurePosixPath(file)
    if is_system_file(path.name) or path.suffix.lower() not in IMAGE_SUFFIXES:
        return None
    match = _LAST_NUMBER.search(path.stem)
    return int(match[1]) if match and len(match[1]) < 10 else None


def open_video(path: Path, settings: ReadSettings) -> av.container.InputContainer:
    """A container opened with bounds on what it may fetch and how much memory its header gets;
    raises Unreadable.
    """
    size = _bytes_of(path)
    try:
        # No other protocol: a playlist must not make the builder fetch addresses. No pattern:
        # "a%d.png" is that file and no sequence. From the root: "12:30.mp4" names no protocol.
        options = {"protocol_whitelist": "file", "pattern_type": "none"}
        options |= _memory_guard(settings.max_side)
        with pieces_of_at_most(MAX_BYTES_A_PIXEL * settings.max_side**2 + SPARE_BYTES):
            return av.open(os.path.abspath(path), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:
        raise Unreadable(
            "unreadable",
            "the file is empty" if not size else f"FFmpeg cannot open it ({_text(error)})",
        ) from error


def _bytes_of(path: Path) -> int:
    """The size of a file; Unreadable where it leads nowhere, or is a pipe on which a decoder
    would wait.
    """
    try:
        return check_plain(path)
    except (ValueError, OSError) as error:
        raise Unreadable(
            "unreadable", f"{path.name} cannot be read ({_text(error)})"
        ) from error


def shown_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The video stream that a player shows: one marked as default, else the largest; never a
    cover or thumbnails.

    Raises Unreadable where there is none.
    """
    streams = [s for s in container.streams.video if not s.disposition & _COVER]
    if not streams:
        raise Unreadable("no_video", "it holds no video stream")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise Unreadable("unreadable", "its codec is not known to FFmpeg")

    def rank(stream: av.VideoStream) -> tuple[bool, bool, int]:
        second = bool(stream.disposition & _SECOND)  # a layer of another, or a still beside it
        marked = bool(stream.disposition & av.stream.Disposition.default)
        return not second, marked, stream.codec_context.width * stream.codec_context.height

    return max(known, key=rank)


def _memory_guard(max_side: int) -> dict[str, str]:
    """Options of a decoder that refuses a header which asks for much more memory than allowed."""
    return {"max_pixels": str(MAX_PIXELS_OF_LARGEST * max_side**2)}


def _start_of(stream: av.VideoStream) -> float | None:
    """Seconds on the file's clock of its first picture, as its header has it."""
    if stream.start_time is None or not stream.time_base:
        return None
    return float(stream.start_time * stream.time_base)


def _size_of(
    container: av.container.InputContainer, stream: av.VideoStream, max_side: int
) -> tuple[int, int]:
    """Width and height; Unreadable where FFmpeg has none."""
    width, height = stream.codec_context.width, stream.codec_context.height
    if width and height:
        return width, height
    try:
        first = next(iter(container.demux(stream)), None)
    except av.error.FFmpegError:
        first = None
    if first is not None and first.is_keyframe:
        limit = MAX_PIXELS_OF_LARGEST * max_side**2
        raise Unreadable(
            "too_large", f"pictures of more than {limit} pixels, or of a size that cannot be"
        )
    raise Unreadable(
        "unreadable", "the size of its pictures is not known: its beginning is cut off"
    )


def _check_size(width: int, height: int, max_side: int, seconds: float = 0.0) -> None:
    if width < 16 or height < 16:
        raise Unreadable("too_small", f"pictures of {width} x {height} pixels", seconds)
    if max(width, height) > max_side:
        raise Unreadable(
            "too_large",
            f"pictures of {width} x {height} pixels, more than max_side = {max_side}",
            seconds,
        )


def _converter(
    frame: av.VideoFrame, reformatter: VideoReformatter, pixel_shape: float, work_side: int
) -> Callable[[], NDArray[np.uint8]]:
    def pixels() -> NDArray[np.uint8]:
        stretch = (
            pixel_shape if 0.4 < pixel_shape < 2.5 else 1.0
        )  # beyond, the number is nonsense
        width, height = frame.width * stretch, float(frame.height)
        shrink = min(1.0, work_side / max(width, height))
        size = max(16, round(width * shrink)), max(16, round(height * shrink))
        picture: NDArray[np.uint8] = (
            reformatter.reformat(frame, *size, "rgb24")
            .to_ndarray()
            .astype(np.uint8, copy=False)
        )
        return as_shown(picture, display_matrix(frame))

    return pixels


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
