"""A rank's process, seen from the one that starts it: it dies with its parent, and leaves its
stacks when it has to be ended.
"""

import ctypes
import signal
import subprocess

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
LIBC = ctypes.CDLL(None)  # loaded here: little is safe between fork and exec
# Python then writes the stacks of all threads on SIGABRT
STACKS_ON_ABORT = {"PYTHONFAULTHANDLER": "1"}


def die_with_parent() -> None:
    """For Popen's preexec_fn: the kernel kills the child when its parent dies, however it dies."""
    LIBC.prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def abort(child: "subprocess.Popen[bytes]") -> None:
    """Ask a child that hangs, or is stopped, for its stacks; it ends by this, unless it hangs
    inside the kernel.
    """
    child.send_signal(signal.SIGABRT)
    child.send_signal(signal.SIGCONT)  # a stopped process takes signals only when it goes on
