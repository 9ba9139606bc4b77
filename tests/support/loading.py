"""What the tests of the loader ask of it, and taking batches from it."""

from ausl_dist.batch import Batch, Needs, View
from ausl_dist.stream.loader import Loader

NEAR = View(crop=(0.7, 0.85), per_frame=True, flip=0.5, brightness=0.2)
WIDE = View()
PLAN = Needs.union(
    [
        Needs(
            {NEAR: (0, 1, 2, 3), WIDE: (0, 6)}, landmarks=True, identity=True, action_units=True
        )
    ]
)
LANES = 4


def take(loader: Loader, steps: int) -> list[Batch]:
    with loader:
        return [next(loader) for _ in range(steps)]
