"""Packages that only an option needs, asked for before the work begins and not at its end.

    option ──▶ NEEDS ──▶ is each module there? ──▶ go on, or one sentence that says what to type

Nothing is imported to find out. What is in the package's own dependencies is not asked for.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """What an option needs: modules to import, and the words after `pip install`."""

    modules: tuple[str, ...]
    install: str


NEEDS: Mapping[str, Need] = {
    "--export onnx": Need(("onnx", "onnxruntime"), "'ausl_dist[export]'"),
    "a table in Parquet": Need(("pyarrow",), "'ausl_dist[parquet]'"),
    "a data set in Parquet or Arrow": Need(("pyarrow",), "'ausl_dist[parquet]'"),
    "foreign.kind=hugging_face": Need(("transformers",), "'ausl_dist[hugging_face]'"),
    "observe.trackers.tensorboard": Need(("tensorboard",), "'ausl_dist[tensorboard]'"),
    "observe.trackers.wandb_project": Need(("wandb",), "'ausl_dist[wandb]'"),
    "an object store on this machine": Need(("cryptography",), "'ausl_dist[demo]'"),
}


def require(*options: str) -> None:
    """Raise ValueError where a package that one of these options (keys of NEEDS) needs is not
    installed.
    """
    for option in options:
        missing = [name for name in NEEDS[option].modules if not is_installed(name)]
        if missing:
            raise ValueError(
                f"{option} needs {' and '.join(missing)}, not installed here: "
                f"pip install {NEEDS[option].install}"
            )


def is_installed(module: str) -> bool:
    """Whether a module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None
