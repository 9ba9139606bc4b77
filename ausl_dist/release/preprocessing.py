"""What happens to a face between the camera and the backbone, as a hashed record that travels
with the weights.

The first reason why published facial backbones fail for their users is a crop that is not
theirs. `preprocessing.json` holds everything that decides it: detector and landmark models by
hash, the alignment template point by point, crop, size, rate, pixel statistics.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ausl_dist.batch import View
from ausl_dist.faces import landmarks
from ausl_dist.model.backbones import MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from ausl_dist.release.verify import BundleError, read_object
from ausl_dist.settings import SettingsError, from_mapping
from ausl_dist.shards.clip import PIXEL_MEAN, PIXEL_STD

PREPROCESSING_NAME = "preprocessing.json"
EVALUATION_VIEW = (
    View()
)  # what training looks at, without its randomness: the middle of the crop
FORMAT = 1
MAX_FPS, MAX_STRIDE, MIN_VIEW = 1000.0, 10_000, 0.1


@dataclass(frozen=True)
class Preprocessing:
    """The way from a video to the input of the backbone, in the order in which it is applied."""

    # name and SHA-256 of the detection and landmark models, as every clip of the corpus carries
    # it
    detector: str
    alignment: str  # landmarks.template_id()
    anchors: tuple[int, ...]  # iBUG numbers of the landmarks that are fitted
    template: tuple[tuple[float, float], ...]  # where the anchors go, crop pixels
    crop_size: int  # side of the aligned crop, pixels
    # frames are taken at this constant rate; 0 where corpora of several rates were mixed
    fps: float
    stride: int  # every so many frames of that rate one is looked at
    # side of the central square that the backbone sees, as a share of the crop's side
    view: float
    # side of the backbone's input, pixels; halved by area while that leaves more than sqrt 2
    # times, then bilinear
    image_size: int
    pixel_mean: tuple[float, float, float] = PIXEL_MEAN  # RGB in 0-1
    pixel_std: tuple[float, float, float] = PIXEL_STD
    format: int = FORMAT

    def __post_init__(self) -> None:
        numbers = {
            "crop_size": (self.crop_size, 1, MAX_IMAGE_SIZE),
            "image_size": (self.image_size, MIN_IMAGE_SIZE, MAX_IMAGE_SIZE),
            "fps": (self.fps, 0, MAX_FPS),
            "stride": (self.stride, 1, MAX_STRIDE),
            "view": (self.view, MIN_VIEW, 1),
        }
        for name, (value, low, high) in numbers.items():
            if not low <= value <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], not {value}")
        points = [number for point in self.template for number in point]
        if not all(math.isfinite(number) for number in (*points, *self.pixel_mean)):
            raise ValueError("template and pixel_mean must be finite")
        if not all(math.isfinite(number) and number > 0 for number in self.pixel_std):
            raise ValueError(f"pixel_std must be above 0, not {self.pixel_std}")

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: two backbones with one digest can share their crops."""
        return hashlib.sha256(
            json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def as_view(self) -> View:
        """The part of the crop that the backbone sees, as a view without augmentation."""
        return View(crop=(self.view, self.view), centre=max(self.view, EVALUATION_VIEW.centre))

    def check_executable(self) -> None:
        """Raise BundleError when this version of the package would make other crops."""
        if self.alignment != landmarks.template_id():
            raise BundleError(
                f"the backbone was trained on crops of alignment {self.alignment}, "
                f"this ausl_dist makes {landmarks.template_id()}: "
                "install the version named under 'packages' in the bundle's record.json"
            )


def describe(statements: Sequence[Mapping[str, Any]], image_size: int) -> Preprocessing:
    """The record for corpora with these statements.

    Raises ValueError when they were not aligned with the template of this package.
    """
    for statement in statements:
        if statement["alignment"] != landmarks.template_id():
            raise ValueError(
                f"the corpus was aligned with {statement['alignment']}, this ausl_dist aligns with "
                f"{landmarks.template_id()}: "
                "release with the version that built the corpus, or the bundle's preprocessing "
                "would not be the one trained on"
            )
    rates = {float(statement["fps"] or 0) for statement in statements}
    return Preprocessing(
        detector=", ".join(sorted({str(statement["detector"]) for statement in statements})),
        alignment=landmarks.template_id(),
        anchors=tuple(int(index) for index in landmarks.ANCHORS),
        template=tuple((float(x), float(y)) for x, y in landmarks.TEMPLATE),
        crop_size=landmarks.CROP_SIZE,
        fps=rates.pop() if len(rates) == 1 else 0.0,
        # training windows have strides of their own, by objective; features are of single
        # frames
        stride=1,
        view=EVALUATION_VIEW.crop[0],
        image_size=image_size,
    )


def read_preprocessing(folder: Path) -> Preprocessing:
    """The record of a bundle; BundleError when it is of a format that this version does not
    know.
    """
    raw = read_object(folder, PREPROCESSING_NAME)
    if raw.get("format") != FORMAT:
        raise BundleError(
            f"{folder / PREPROCESSING_NAME} has format {str(raw.get('format'))[:20]}, this "
            f"ausl_dist reads {FORMAT}: install a matching version"
        )
    try:
        return from_mapping(Preprocessing, raw, "preprocessing")
    except SettingsError as error:
        raise BundleError(f"{folder / PREPROCESSING_NAME}: {error}") from error
