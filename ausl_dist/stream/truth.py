"""Which decoders tell the truth about a corpus, and which one a run should use.

    corpus ──▶ its kinds of clips ──▶ each way to decode, tried (probe.py)
        ──▶ works? same pixels? right frames? how fast? ──▶ table, choice

The truth is the picture that an FFmpeg of its own decodes, turned into RGB here by the clip's
tags. A decoder that is further than MIN_PSNR from it is wrong, and what else it would agree
with names the cause: another range, another matrix, red for blue, another frame.
"""

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ausl_dist.shards.clip import VIDEO_SUFFIX
from ausl_dist.shards.index import Index
from ausl_dist.shards.retry import Retry
from ausl_dist.stream.cards import CARD_FRAMES, Kind, card, kind_of, read_back
from ausl_dist.stream.fetch import Fetcher, unpack
from ausl_dist.stream.ledger import MissingClip
from ausl_dist.stream.mp4 import VideoError
from ausl_dist.stream.probe import ProbeOutcome, Trial, try_out

WAYS = {
    "pyav": "ausl_dist.stream.probe:Pyav",
    "dali on the CPU": "ausl_dist.stream.probe:DaliCpu",
    "dali with NVDEC": "ausl_dist.stream.probe:Nvdec",
}
NVDEC = "dali with NVDEC"
# dB; right decoders agree to 50, a wrong range gives 26 to 31, a wrong matrix 35
MIN_PSNR = 40.0
CLEAR_DB = 3.0  # by which another reading must agree better, to be named as the cause
MAX_FRAMES = 32
MAX_KINDS = 8
READ_SECONDS = 120.0
# Of two cards decoded together: apart from each other, neighbours, and across a keyframe.
CARD_WANTED = ((0, 3, 4, 15, 16, CARD_FRAMES - 1), (1, 2, 9, 17, 20, 22))


@dataclass(frozen=True)
class TruthRow:
    """One way to decode one kind of clip."""

    way: str
    kind: Kind
    wrong: str | None  # why it must not be used; None where it is right
    psnr: float | None = None  # dB, to the truth
    frames_per_second: Mapping[int, float] | None = None  # by clips at once

    def __str__(self) -> str:
        if self.wrong is not None:
            return f"{self.kind}: NO, {self.wrong}"
        speeds = " / ".join(f"{rate:,.0f}" for rate in (self.frames_per_second or {}).values())
        speed = f", {speeds} frames/s at {' / '.join(map(str, self.frames_per_second or {}))}"
        return f"{self.kind}: yes, {self.psnr:.0f} dB, right frames{speed if speeds else ''}"


@dataclass(frozen=True)
class Choice:
    """What to set `data.device` and `data.decoder` to, and why."""

    device: Literal["cpu", "gpu"]
    decoder: Literal["pyav", "dali"]
    why: str


def samples_of(url: str, index: Index | None = None) -> dict[Kind, bytes]:
    """One clip of each kind that the first, the middle and the last chunk of a corpus hold, the
    most frequent kind first.
    """
    index = index or Index.load(url)
    fetcher = Fetcher({"corpus": index}, Retry(READ_SECONDS))
    last = len(index.chunks) - 1
    found: dict[Kind, bytes] = {}
    counts: dict[Kind, int] = {}
    for number in sorted({0, last // 2, last}):
        for clip in unpack(fetcher.read("corpus", number), index.chunk(number).clips):
            if isinstance(clip, MissingClip):
                continue
            video = clip.members[VIDEO_SUFFIX]
            try:
                kind = kind_of(video)
            except VideoError:
                continue  # damaged: no decoder is to blame
            found.setdefault(kind, video)
            counts[kind] = counts.get(kind, 0) + 1
    if not found:
        raise ValueError(f"no clip of {url} can be decoded by FFmpeg")
    by_count = sorted(found, key=lambda kind: -counts[kind])
    return {kind: found[kind] for kind in by_count[:MAX_KINDS]}


def table(
    samples: Mapping[Kind, bytes],
    ways: Mapping[str, str],
    *,
    seconds: float = 0.5,
    patience_seconds: float = 60.0,
) -> list[TruthRow]:
    """Try each way on each kind of clip; `ways` maps names to classes, as WAYS does."""
    trials = [_trial(kind, video) for kind, video in samples.items()]
    rows = []
    with tempfile.TemporaryDirectory(prefix="ausl-decoders-") as scratch:
        for number, (name, way) in enumerate(ways.items()):
            outcomes = try_out(
                way,
                trials,
                Path(scratch) / str(number),
                seconds=seconds,
                patience_seconds=patience_seconds,
            )
            rows += [
                _judged(name, kind, trial, outcome)
                for kind, trial, outcome in zip(samples, trials, outcomes, strict=True)
            ]
    return rows


def choose(rows: Sequence[TruthRow], *, gpu: bool) -> Choice:
    """What a run should decode with, of the ways that were tried.

    NVDEC where it is right about every kind that FFmpeg is right about; a clip that it refuses
    now and then would only cost time, but here it is one of the corpus's kinds.
    """
    right = {
        name: {row.kind for row in rows if row.way == name and not row.wrong} for name in WAYS
    }
    if gpu:
        trouble = [r for r in rows if r.way == NVDEC and r.wrong and r.kind in right["pyav"]]
        if right[NVDEC] and not trouble:
            return Choice("gpu", "dali", "NVDEC gives FFmpeg's pictures")
        why = f"{trouble[0].kind}: {trouble[0].wrong}" if trouble else "it was not tried"
        return Choice(
            "gpu", "pyav", f"FFmpeg decodes on the CPU for the GPU's graph, not NVDEC: {why}"
        )
    if not right["pyav"] and right["dali on the CPU"]:
        return Choice("cpu", "dali", "FFmpeg takes no clip of the corpus, DALI does")
    if not right["pyav"]:
        raise ValueError(
            "no decoder takes the clips of this corpus: "
            + "; ".join(f"{row.way}: {row.wrong}" for row in rows if row.wrong)
        )
    return Choice("cpu", "pyav", "there is no GPU, and FFmpeg is the faster decoder of a CPU")


def truth(
    video: bytes, numbers: Sequence[int], *, kind: Kind, smooth: bool = True
) -> NDArray[np.uint8]:
    """Frames T H W 3 (RGB) by FFmpeg and the formulas of ITU-R BT.601 and BT.709, read as
    `kind` says; `smooth` is how the smaller chroma planes are enlarged.
    """
    frames = []
    wanted = set(numbers)
    with av.open(io.BytesIO(video), "r") as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                frames.append(_rgb(frame, kind, smooth))
    return np.stack(frames)


def _trial(kind: Kind, video: bytes) -> Trial:
    with av.open(io.BytesIO(video), "r") as container:
        frames = min(len(list(container.decode(video=0))), MAX_FRAMES)
    cards = tuple(card(kind, number + 1) for number in range(len(CARD_WANTED)))
    return Trial(video, cards, frames, CARD_WANTED)


def _judged(way: str, kind: Kind, trial: Trial, outcome: ProbeOutcome) -> TruthRow:
    if outcome.error is not None or outcome.sample is None:
        return TruthRow(way, kind, outcome.error or "no picture")
    psnr, cause = _agreement(kind, trial, outcome.sample)
    wrong = _frames_wrong(outcome.cards) or cause
    return TruthRow(way, kind, wrong, psnr, outcome.frames_per_second)


def _frames_wrong(cards: Sequence[NDArray[np.uint8]]) -> str | None:
    """Which frame is another one than was asked for, read from the numbers drawn into it."""
    for number, (pictures, wanted) in enumerate(zip(cards, CARD_WANTED, strict=True)):
        if len(pictures) != len(wanted):
            return f"wrong frames: {len(pictures)} where {len(wanted)} were asked for"
        for frame, picture in zip(wanted, pictures, strict=True):
            read = read_back(picture)
            if read is None:
                return f"wrong frames: frame {frame} is a picture of no frame"
            if read[0] != number + 1:
                return f"wrong frames: frame {frame} is one of another clip"
            if read[1] != frame:
                return f"wrong frames: frame {frame} is frame {read[1]} of its clip"
    return None


def _agreement(
    kind: Kind, trial: Trial, decoded: NDArray[np.uint8]
) -> tuple[float | None, str | None]:
    """PSNR to the truth in dB, and what is wrong with the pixels."""
    numbers = range(trial.frames)
    right = truth(trial.sample, numbers, kind=kind)
    if decoded.shape != right.shape:
        shapes = [" x ".join(map(str, array.shape)) for array in (decoded, right)]
        return None, f"wrong size: frames of {shapes[0]}, not {shapes[1]}"
    psnr = _best(trial, decoded, kind)
    if psnr >= MIN_PSNR:
        return psnr, None
    other_range = Kind(**{**vars(kind), "full": not kind.full})
    other_matrix = "bt601" if kind.matrix == "bt709" else "bt709"
    reach = ("full", "limited") if kind.full else ("limited", "full")
    readings = {
        f"{reach[0]} range is read as {reach[1]}": _best(trial, decoded, other_range),
        f"{kind.matrix} is read as {other_matrix}": _best(
            trial, decoded, Kind(**{**vars(kind), "matrix": other_matrix})
        ),
        "red and blue are exchanged": _best(trial, decoded[..., ::-1], kind),
        "frames are those after": _psnr(decoded[:-1], right[1:]),
        "frames are those before": _psnr(decoded[1:], right[:-1]),
    }
    cause, agreement = max(readings.items(), key=lambda item: item[1])
    named = (
        f"{cause} ({agreement:.0f} dB so)" if agreement > psnr + CLEAR_DB else "cause unknown"
    )
    return psnr, f"wrong pixels, {psnr:.0f} dB from FFmpeg's: {named}"


def _best(trial: Trial, decoded: NDArray[np.uint8], kind: Kind) -> float:
    """Agreement with the better of the two usual ways to enlarge chroma."""
    return max(
        _psnr(decoded, truth(trial.sample, range(trial.frames), kind=kind, smooth=smooth))
        for smooth in (True, False)
    )


def _psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    if not len(one):
        return 0.0
    error = np.square(one.astype(np.float32) - other).mean()
    return float(min(10 * np.log10(255**2 / max(float(error), 1e-9)), 99.0))


def _rgb(frame: av.VideoFrame, kind: Kind, smooth: bool) -> NDArray[np.uint8]:
    height, width = frame.height, frame.width
    interpolation = cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    if any(component.bits != 8 for component in frame.format.components):
        frame = frame.reformat(format="yuv444p")
    planes = []
    for plane in frame.planes[:3]:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)  # type: ignore[call-overload]
        picture = np.ascontiguousarray(rows[: plane.height, : plane.width])
        if picture.shape != (height, width):
            picture = cv2.resize(picture, (width, height), interpolation=interpolation)
        planes.append(picture.astype(np.float32))
    y, u, v = planes
    red, blue = (0.2126, 0.0722) if kind.matrix == "bt709" else (0.299, 0.114)
    luma, chroma, black = (1.0, 1.0, 0.0) if kind.full else (255 / 219, 255 / 224, 16.0)
    y, u, v = (y - black) * luma, (u - 128) * chroma, (v - 128) * chroma
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], -1).round().clip(0, 255).astype(np.uint8)
