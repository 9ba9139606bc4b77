"""Where a process stands in its run: what is needed together wherever something is written
down.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPlace:
    """One rank of one attempt at a run."""

    folder: Path
    attempt: int  # from 1
    rank: int
    world_size: int

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, which writes for all."""
        return self.rank == 0
