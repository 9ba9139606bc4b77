"""The clip record: the members that make up one clip in a shard, and the rules a reader holds
them to.

A shard is a plain WebDataset tar. One clip is a run of adjacent members with one key::

    KEY.mp4             the aligned face, constant frame rate, yuv420p, keyframe at least every 16
                        frames, VP9 or H.264 (or Motion JPEG)
    KEY.json            ClipMeta
    KEY.landmarks.npy   float16 [T, 68, 2], iBUG order, crop pixels
    KEY.au.npy          optional, int8 [T, K]: intensity 0-5 of each action unit named in the
                        metadata, -1 unknown
    KEY.flow.npy        optional, int8 [T - gap, 2, cells, cells]: (x, y) motion from frame t to
                        frame t + gap, in quarters of a crop pixel (256 of which are a frame's
                        side, whatever its size)

No pickles are ever decoded. The same record is written by `corpus`, read by `stream` and
`evaluate`.
"""

import dataclasses
import io
import json
import math
import re
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ausl_dist.units import is_unit

VIDEO_SUFFIX = "mp4"
META_SUFFIX = "json"
LANDMARKS_SUFFIX = "landmarks.npy"
ACTION_UNITS_SUFFIX = "au.npy"
FLOW_SUFFIX = "flow.npy"
SUFFIXES = (VIDEO_SUFFIX, META_SUFFIX, LANDMARKS_SUFFIX, ACTION_UNITS_SUFFIX, FLOW_SUFFIX)
FLOW_STEPS_PER_PIXEL = 4
REQUIRED_SUFFIXES = (VIDEO_SUFFIX, META_SUFFIX)

RENDERED = "rendered"  # the detector of clips whose landmarks are those of their own renderer
MAX_KEYFRAME_DISTANCE = 16
MAX_CLIP_FRAMES = 4096
# no dot: the first dot of a member's name ends the key
KEY_PATTERN = re.compile(r"[A-Za-z0-9_\-]{1,128}")

# The header of an .npy file as NumPy writes it: type, order, shape.
NPY_HEADER = re.compile(
    rb"\{'descr': (.{2,4096}), 'fortran_order': (True|False), "
    rb"'shape': \(((?:[0-9]{1,18}, ?)*[0-9]{0,18})\), \} *\n"
)
MAX_NPY_HEADER_BYTES = 1 << 16

# Pixel statistics that every backbone of ours is fed with (ImageNet, RGB in 0-1).
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ClipMeta:
    """What KEY.json says of a clip."""

    source: str  # the video it was cut from, as named at corpus building
    identity: str  # identity, or track where identities are unknown
    licence: str
    fps: float
    start_second: float  # in the source video
    frames: int
    detector: str  # name and hash of detector and landmark model, or RENDERED
    alignment: str  # landmarks.template_id() of the crop
    quality: dict[str, float] = field(default_factory=dict)
    action_units: tuple[int, ...] = ()  # of the columns of KEY.au.npy, as in units.py
    # what the source's own data set says of it: its key, class, caption, …
    about: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("source", "identity", "licence", "detector", "alignment"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) > 1024:
                raise ValueError(
                    f"clip metadata: {name} must be a text of at most 1024 characters, "
                    f"not {str(value)[:80]!r}"
                )
        if not (_is_number(self.fps) and 0 < self.fps <= 1000):
            raise ValueError(f"clip metadata: fps must lie in (0, 1000], not {self.fps!r}")
        if not (_is_number(self.start_second) and self.start_second >= 0):
            raise ValueError(
                f"clip metadata: start_second must be a number >= 0, not {self.start_second!r}"
            )
        if (
            isinstance(self.frames, bool)
            or not isinstance(self.frames, int)
            or not 1 <= self.frames <= MAX_CLIP_FRAMES
        ):
            raise ValueError(
                f"clip metadata: frames must lie in 1..{MAX_CLIP_FRAMES}, not {self.frames!r}"
            )
        if (
            not isinstance(self.quality, dict)
            or not all(_is_number(v) for v in self.quality.values())
            or len(self.quality) > 64
        ):
            raise ValueError("clip metadata: quality must map names to finite numbers")
        if len(self.action_units) > 64 or not all(is_unit(unit) for unit in self.action_units):
            raise ValueError(
                "clip metadata: action_units must be FACS numbers, with 1000 more for L and 2000 "
                "for R"
            )
        if (
            not isinstance(self.about, dict)
            or len(self.about) > 64
            or not all(
                isinstance(text, str) and len(text) <= 1024 for text in self.about.values()
            )
        ):
            raise ValueError(
                "clip metadata: about must map names to texts of at most 1024 characters"
            )

    def to_bytes(self) -> bytes:
        values = dataclasses.asdict(self)
        if not self.about:
            del values["about"]
        return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "ClipMeta":
        """Parse and check KEY.json; fields of other builders are passed over.

        Raises ValueError on anything malformed.
        """
        if len(data) > 1 << 20:
            raise ValueError(f"clip metadata of {len(data)} bytes: at most 1 MiB is read")
        try:
            raw: Any = json.loads(data)
        except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"clip metadata is not valid JSON ({error})") from error
        if not isinstance(raw, dict):
            raise ValueError("clip metadata must be a JSON object")
        known = {f.name for f in dataclasses.fields(cls)}
        values = {name: value for name, value in raw.items() if name in known}
        units = values.get("action_units", [])
        if not isinstance(units, list):
            raise ValueError("clip metadata: action_units must be a list of FACS numbers")
        values["action_units"] = tuple(units)
        try:
            return cls(**values)
        except TypeError as error:
            raise ValueError(f"clip metadata is incomplete ({error})") from error


def array_to_bytes(array: NDArray[Any]) -> bytes:
    """The .npy bytes of an array (no pickle)."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from_bytes(
    data: bytes, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> NDArray[Any]:
    """Read .npy bytes that must have this dtype and shape (None: any length); ValueError
    otherwise.

    Never unpickles.
    """
    # Not by NumPy: it parses the header as Python, which in CPython 3.11 fails now and then
    # when several threads do it (gh-106905).
    start = {b"\x01\x00": 10, b"\x02\x00": 12}.get(data[6:8], 0)
    end = start + int.from_bytes(data[8:start], "little")
    header = (
        NPY_HEADER.fullmatch(data[start:end])
        if start and data[:6] == b"\x93NUMPY" and end - start <= MAX_NPY_HEADER_BYTES
        else None
    )
    if header is None:
        raise ValueError("not a readable .npy array")
    wanted = np.dtype(dtype)
    kind, fortran = header[1].decode("latin1"), header[2] == b"True"
    found_shape = tuple(int(length) for length in header[3].split(b",") if length.strip())
    matches = len(found_shape) == len(shape) and all(
        w is None or w == f for w, f in zip(shape, found_shape, strict=True)
    )
    if kind != repr(np.lib.format.dtype_to_descr(wanted)) or not matches or fortran:
        raise ValueError(
            f"array is {kind} {found_shape}{' in Fortran order' * fortran}, "
            f"expected {wanted} {shape} in C order"
        )
    count = math.prod(found_shape)
    body = data[end:]
    # checked before allocating: a header may promise terabytes
    if len(body) != count * wanted.itemsize:
        raise ValueError(
            f"array body has {len(body)} bytes, its header promises {count * wanted.itemsize}"
        )
    return np.frombuffer(body, wanted).reshape(found_shape)


def _is_number(value: object) -> bool:
    # Not math.isfinite: that raises OverflowError for the long integers that JSON allows.
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= sys.float_info.max
    )
