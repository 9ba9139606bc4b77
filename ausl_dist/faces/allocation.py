"""FFmpeg's own limit on a piece of memory, for the time in which a file is opened.

FFmpeg decodes the first pictures of a stream to know it. Options such as `max_pixels` reach the
decoders of streams that the file's header announces; streams of FLV and MPEG-PS show up only
later, and theirs have none. What is said of any piece of memory holds for all decoders.
"""

import contextlib
import ctypes
import threading
from collections.abc import Iterator

import av._core

NO_LIMIT = (1 << 31) - 1  # as FFmpeg begins
_FFMPEG = ctypes.CDLL(av._core.__file__)  # its functions are those of the libraries it needs
_lock = threading.Lock()
_limits: list[int] = []  # of the threads that open files just now


@contextlib.contextmanager
def pieces_of_at_most(size: int) -> Iterator[None]:
    """No piece of memory that FFmpeg takes inside the block is larger than `size` bytes; of two
    blocks at once the larger size holds.
    """
    with _lock:
        _limits.append(size)
        _set()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(size)
            _set()


def _set() -> None:
    _FFMPEG.av_max_alloc(ctypes.c_size_t(max(_limits, default=NO_LIMIT)))
