"""The one object through which a rank tells what happens to it.

    observer = Observer(settings, run_folder=..., run_name=..., rank=0, world_size=2, restart=0, start_step=0, total_steps=1000)
    for step in ...:
        observer.step(StepRecord(...))
        observer.event("checkpoint", step=step, seconds=1.2, bytes=4096)
    observer.close()
"""

from ausl_dist.observe.record import StepRecord
from ausl_dist.observe.settings import ObserveSettings

__all__ = ["Observer", "StepRecord"]
