"""Time stamps as a file has them become seconds that only go on, and numbers of frames.

stamps: 7.2, 7.24, none, 7.32, 3600.0     ──▶ seconds 0, 0.04, 0.08, 0.12, 0.16 (a splice)
stamps: 0, 0.04, two damaged packets, 0.16 ──▶ numbers 0, 1, 4
"""

import math

# a larger jump of the time stamps, or one back, is a splice: time goes on, tracks end
MAX_STEP_SECONDS = 10.0
MAX_OFF_GRID = 0.25  # of a frame's time; further off, the stamps are no count of frames


class PictureClock:
    """Time stamps as they come, in seconds since the first, mended where they are absent,
    repeated or jump.
    """

    def __init__(self, step: float) -> None:
        self._step, self._origin, self._last = step, math.nan, -step

    def read(self, stamp: float | None) -> tuple[float, bool]:
        if stamp is None or not math.isfinite(stamp):
            self._last += self._step
            return self._last, False
        splice = False
        if math.isnan(self._origin):
            self._origin = stamp - (self._last + self._step)
        seconds = stamp - self._origin
        if not -1.0 < seconds - self._last < MAX_STEP_SECONDS:
            splice = self._last >= 0
            seconds = self._last + self._step
            self._origin = stamp - seconds
        self._last = seconds if seconds > self._last else self._last + self._step
        return self._last, splice


class FrameNumbers:
    """Numbers of decoded pictures, as the file had them before it was damaged: labels go by
    number, and a lost picture must not move all that come after it.

    How many were lost is what the time stamps say where the rate is constant, else a picture
    for each damaged packet.
    """

    def __init__(self, step: float, start: float | None) -> None:
        self._step, self._number, self._damaged = step, -1, 0
        self._lost = 0  # damaged packets whose pictures have not been missed yet
        self._stamp = None if start is None else start - step  # that of the frame before

    def following(self, stamp: float | None, damaged: int) -> int | None:
        """The number of the next picture; `damaged` counts bad packets from the start. None for
        one that comes late, as a decoder that has lost its way may give it.
        """
        self._lost += damaged - self._damaged
        self._damaged = damaged
        ahead = self._ahead(stamp) if damaged else 1
        if ahead is None:
            return None
        self._number += ahead
        self._stamp = stamp
        return self._number

    def _ahead(self, stamp: float | None) -> int | None:
        ahead = self._lost + 1
        if stamp is not None and self._stamp is not None:
            frames = (stamp - self._stamp) / self._step
            if stamp - self._stamp > -1.0 and frames < MAX_OFF_GRID:
                return None
            on_grid = abs(frames - round(frames)) < MAX_OFF_GRID
            if on_grid and 1 <= round(frames) <= MAX_STEP_SECONDS / self._step:
                ahead = round(frames)
        # a decoder gives pictures from before the damage after it has met it
        self._lost = max(0, self._lost - (ahead - 1))
        return ahead
