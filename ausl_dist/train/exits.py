"""How a training process ends, as its exit code: what a launcher reads to decide whether to
start it again.
"""

import enum


class Exit(enum.IntEnum):
    """Codes of `python -m ausl_dist.train`.

    1 is an unforeseen error, 2 a mistake in the settings; neither is in this list.
    """

    DONE = 0
    # asked to stop: saved, wants to be started again (EX_TEMPFAIL of sysexits.h)
    PREEMPTED = 75
    # no step for too long: the stacks are in the run folder; starting again is worth a try
    STALLED = 76
    FENCED = 77  # a newer attempt at this run has begun elsewhere: this one must not go on
    DIVERGED = 78  # too many bad steps: starting again would end here again
