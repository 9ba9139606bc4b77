"""The two models that find faces: where they are looked for, what they must be, and where to
get them.

A model is taken from the folder given by the user, else from $AUSL_MODELS, else from the cache
folder (~/.cache/ausl_dist/models, or under $XDG_CACHE_HOME), and is used only when its SHA-256
is the one written here: another detector would make another corpus. `python -m
tools.fetch_models` downloads them into the cache folder.
"""

import functools
import hashlib
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ausl_dist.files import sha256_of, write_atomically

DOWNLOAD_TIMEOUT_SECONDS = 60
MAX_MODEL_BYTES = 64 << 20


@dataclass(frozen=True)
class Model:
    """A pinned model file."""

    file: str
    sha256: str
    url: str
    licence: str


DETECTOR = Model(
    "face_detection_yunet_2023mar.onnx",
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/"
    "face_detection_yunet/face_detection_yunet_2023mar.onnx",
    "MIT",
)
LANDMARKER = Model(
    "face_landmarker.task",
    "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
    "https://storage.googleapis.com/mediapipe-models/"
    "face_landmarker/face_landmarker/float16/1/face_landmarker.task",
    "Apache-2.0",
)
MODELS = (DETECTOR, LANDMARKER)


def cache_folder() -> Path:
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        / "ausl_dist"
        / "models"
    )


def find_model(model: Model, folder: Path | str | None = None) -> Path:
    """The verified file of a model; FileNotFoundError or ValueError with what to do where there
    is none or a wrong one.
    """
    place = Path(folder or os.environ.get("AUSL_MODELS") or cache_folder())
    path = place / model.file
    if path.is_file():
        _check(path, model)
        return path
    raise FileNotFoundError(
        f"{model.file} is not in {place}: run `python -m tools.fetch_models`, "
        "or name the folder that holds it with --models or AUSL_MODELS"
    )


def models_id() -> str:
    """Name of detector and landmark model together, for KEY.json."""
    return f"yunet-{DETECTOR.sha256[:12]}+landmarker478-{LANDMARKER.sha256[:12]}"


def fetch_model(model: Model, folder: Path | str | None = None, url: str | None = None) -> Path:
    """Download a model into `folder` (default: the cache folder) unless it is there; the file
    appears only when its hash is right.
    """
    path = Path(folder or cache_folder()) / model.file
    if path.is_file():
        _check(path, model)
        return path
    address = url or model.url
    try:
        with urllib.request.urlopen(address, timeout=DOWNLOAD_TIMEOUT_SECONDS) as answer:
            data = answer.read(MAX_MODEL_BYTES + 1)
    except (urllib.error.URLError, TimeoutError) as error:
        raise OSError(
            f"{address} could not be fetched ({error}); copy {model.file} from another machine "
            f"into {path.parent}"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != model.sha256:
        raise ValueError(
            f"{address} has SHA-256 {found}, expected {model.sha256}: nothing was saved"
        )
    write_atomically(path, data)
    return path


def _check(path: Path, model: Model) -> None:
    found = _hash_of(path, path.stat().st_mtime_ns, path.stat().st_size)
    if found != model.sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}, expected {model.sha256}: delete it and run "
            "`python -m tools.fetch_models`"
        )


@functools.lru_cache(maxsize=16)
def _hash_of(path: Path, modified_ns: int, size: int) -> str:
    return sha256_of(path)
