"""What a start of a rank spends its time on, until its loop begins.

    process ──imports──▶ ranks joined ──▶ checkpoint found ──▶ model ──▶ engine ──▶ state restored
            ──▶ decoder chosen ──▶ loader

Needs no torch: importing it is the first part.
"""

import time

PARTS = ("imports", "ranks", "checkpoint", "model", "engine", "restore", "decoder", "loader")


class StartupClock:
    """Parts of a start, in seconds by the host's clock; parts of one name are added up."""

    def __init__(self, began: float | None = None) -> None:
        """`began` is when the rank was asked for, Unix seconds; left out, now."""
        self.began = time.time() if began is None else began
        self._last = self.began
        self.seconds: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """What was done since the last lap was `name`."""
        now = time.time()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 3)
        self._last = now
