"""Being asked to stop: the signal handler only notes it, the loop acts on it at a step
boundary, together with all other ranks.
"""

import signal
from types import FrameType

# SIGUSR2: the scheduler's warning before a time limit or a preemption
SIGNALS = (
    signal.SIGUSR2,
    signal.SIGTERM,
)


class StopRequest:
    """Notes SIGUSR2 and SIGTERM from its creation on."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        for number in SIGNALS:
            signal.signal(number, self._note)

    @property
    def asked(self) -> bool:
        return self.signal_name is not None

    def ignore_from_now(self) -> None:
        """The run has ended and its exit code stands: a signal that comes while the process
        goes down must not change it.

        The interpreter gives its handlers up before it is gone; from there on the system would
        answer a signal by killing the process.
        """
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_name = signal.Signals(number).name
