"""When a rank is called slow, or silent: one number for diagnosis, page, status and supervisor."""

import statistics

from ausl_dist.observe.heartbeat import Heartbeat

# a heartbeat overdue by this much belongs to a rank that is dead, or cut off
SILENT_SECONDS = 30.0
SLOW_FACTOR = 1.3  # times the usual rank's own time a step: it is said
# times that: its host is kept out of the next attempt, which costs more than a word
STRAGGLER_FACTOR = 2.0


def is_silent(beat: Heartbeat, now: float) -> bool:
    """Whether a rank that has not ended has said nothing for too long, at Unix time `now`."""
    return beat.standing == "running" and beat.silent_seconds(now) > SILENT_SECONDS


def straggler(beats: list[Heartbeat]) -> Heartbeat | None:
    """The rank that takes STRAGGLER_FACTOR times the median's own time a step; None where there
    is none, or fewer than three ranks: of two, neither can be told to be the usual one.
    """
    timed = [beat for beat in beats if beat.own_seconds > 0]
    if len(timed) < 3:
        return None
    slowest = max(timed, key=lambda beat: beat.own_seconds)
    usual = statistics.median(beat.own_seconds for beat in timed)
    return slowest if slowest.own_seconds > STRAGGLER_FACTOR * usual else None
