"""A rank's process that stands by: its code is loaded, so that it can become the next rank at
once, where one has failed.

    python -m ausl_dist.train RUN --stand-by
        load_code(RUN) ──▶ waits for a line on standard input: variables of the rank as JSON
                       ──▶ goes on as that rank; the end of the input ends it

It has joined nothing and holds no GPU. What it has loaded is the same code: a run's settings and
code do not change while it runs.
"""

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ausl_dist.train.settings import RunSettings


def load_code(settings: "RunSettings") -> None:
    """Import whatever a rank of this run imports until its first step."""
    # by the first optimizer that is made, and by those of DeepSpeed, whether they compile or not
    import torch._dynamo
    import torch._inductor.compile_fx  # noqa: F401

    from ausl_dist.model.backbones import OWN_NETWORKS, import_timm
    from ausl_dist.model.objective_settings import build_objective  # noqa: F401
    from ausl_dist.shards.storage import is_s3
    from ausl_dist.train import loop, run  # noqa: F401
    from ausl_dist.train.process_group import import_deepspeed

    import_deepspeed(settings.engine)
    if settings.backbone.name not in OWN_NETWORKS:
        import_timm()
    if any(is_s3(corpus.url) for corpus in settings.data.corpora.values()):
        import s3fs  # noqa: F401


def wait_for_place() -> bool:
    """Wait until this process is to be a rank, and take over its variables; False where it never
    will be.
    """
    line = sys.stdin.readline()
    if not line:
        return False
    os.environ.update(json.loads(line))
    return True
