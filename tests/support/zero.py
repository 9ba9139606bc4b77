"""ZeRO as it is where models are large: weights that a rank has only a piece of are gathered for
each use, and given back after it. DeepSpeed keeps those of a test's small model gathered, and
takes longer to find out that it may.
"""

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

from ausl_dist.train import engine
from ausl_dist.train.deepspeed_config import deepspeed_config


def as_if_large() -> AbstractContextManager[Any]:
    """Engines that are built inside are configured so."""

    def configured(*arguments: Any) -> dict[str, Any]:
        config = deepspeed_config(*arguments)
        zero = {**config["zero_optimization"], "stage3_max_reuse_distance": 0}
        return {**config, "zero_optimization": zero}

    return mock.patch.object(engine, "deepspeed_config", configured)
