"""Distributed self-supervised pretraining of facial backbones on unlabelled face video.

A consumer of a released backbone needs one name from here::

    import ausl_dist
    backbone = ausl_dist.load_backbone("path/to/bundle")

Everything else is for operators and lives in the rooms that README.md lists.
"""

from typing import Any

from ausl_dist.version import __version__

__all__ = ["__version__", "load_backbone"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `import ausl_dist` must stay free of torch, for login nodes and
    # command lines.
    if name == "load_backbone":
        from ausl_dist.release.load import load_backbone

        return load_backbone
    raise AttributeError(f"module 'ausl_dist' has no attribute {name!r}")
