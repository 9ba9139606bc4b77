"""SHA256SUMS of a bundle: written last, checked first.

A bundle is used only when every file it names is there with every byte as released. The sums
file is held to one exact form, so that a changed byte in it is noticed like any other. Its own
hash is the identity of the bundle: equal content, equal identity.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

from ausl_dist.files import read_json, sha256_of, write_atomically
from ausl_dist.run_folder import SUMS_FILE

SUMS_NAME = SUMS_FILE
MAX_SUMS_BYTES = 1 << 20
MAX_BUNDLE_BYTES = 64 << 30  # the largest vision transformers in fp32 have about a third of it
MAX_JSON_BYTES = 8 << 20  # as objects they take 25 times as much
# as sha256sum writes and checks it
LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_][A-Za-z0-9_.\-/]*)\n")


class BundleError(ValueError):
    """A bundle that must not be used; the message says what is wrong and what to do."""


def write_sums(folder: Path) -> str:
    """Write SHA256SUMS over every file of the folder; returns the identity of the bundle."""
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != SUMS_NAME
    )
    text = "".join(f"{sha256_of(folder / name)}  {name}\n" for name in names)
    if LINE.sub("", text):
        raise ValueError(
            f"a file name in {folder} cannot stand in {SUMS_NAME}: use letters, digits, '_', "
            "'-' and '.'"
        )
    write_atomically(folder / SUMS_NAME, text)
    return hashlib.sha256(text.encode()).hexdigest()


def release_name(run: str, step: int, identity: str) -> str:
    """What a bundle is called where it is named by its content: equal content, equal name."""
    return f"{run}-{step}-{identity[:12]}"


def verify(folder: Path) -> str:
    """Check every file against SHA256SUMS; returns the identity of the bundle.

    Raises BundleError on the first difference.
    """
    sums = read_sums(folder)
    _check_sizes(folder, sums)
    for name, wanted in sums.items():
        if sha256_of(folder / name) != wanted:
            raise BundleError(
                f"{folder}: {name} differs from what was released (SHA-256); "
                "copy or download the bundle again"
            )
    return hashlib.sha256((folder / SUMS_NAME).read_bytes()).hexdigest()


def _check_sizes(folder: Path, sums: dict[str, str]) -> None:
    """All files are there, and not so large that hashing them would never end."""
    total = 0
    for name in sums:
        path = folder / name
        if not path.is_file():
            raise BundleError(f"{folder}: {name} is missing; copy or download the bundle again")
        total += path.stat().st_size
    if total > MAX_BUNDLE_BYTES:
        raise BundleError(
            f"{folder} holds {total} bytes, more than {MAX_BUNDLE_BYTES}: this is not one of our "
            "bundles"
        )


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a bundle, which must be an object; BundleError where it is not."""
    path = folder / name
    try:
        value = read_json(path, MAX_JSON_BYTES)
    except ValueError as error:  # of a number with thousands of digits, too
        raise BundleError(f"{path} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} is no JSON object; copy or download the bundle again")
    return value


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by file name.

    Raises BundleError when there is no sums file or it has another form.
    """
    path = folder / SUMS_NAME
    if not path.is_file():
        raise BundleError(
            f"{folder} is not a released backbone: it has no {SUMS_NAME}. "
            "Make one with python -m tools.release RUN --out DIR"
        )
    if path.stat().st_size > MAX_SUMS_BYTES:
        raise BundleError(
            f"{path} is larger than {MAX_SUMS_BYTES} bytes: this is not one of our files"
        )
    text = path.read_bytes().decode("ascii", errors="replace")
    lines = LINE.findall(text)
    if not lines or "".join(f"{digest}  {name}\n" for digest, name in lines) != text:
        raise BundleError(
            f"{path} is damaged: every line must be a SHA-256 and a file name; "
            "copy or download the bundle again"
        )
    if any(".." in Path(name).parts for _, name in lines):
        raise BundleError(f"{path} names files outside the bundle")
    if len({name for _, name in lines}) != len(lines):
        raise BundleError(f"{path} names a file twice; copy or download the bundle again")
    return {name: digest for digest, name in lines}
