"""Whether a JPEG is whole, of which FFmpeg says nothing: it makes grey rows of what is missing.

    FFD8 │ FFxx length …, FFxx length … │ FFDA length … scan, FF00 for FF │ … │ FFD9 │ anything
          segments (a thumbnail is in one)                                   its end  (a film, say)

Segments are passed over by their length, so that nothing inside them, and nothing behind the
end, is taken for a marker. Source: ITU-T T.81, annex B.
"""

import re

START, END = 0xD8, 0xD9
# a marker: neither FF00, which stands for FF in a scan, nor FF that fills up
_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_WITHOUT_LENGTH = {0x01, START, *range(0xD0, 0xD8)}  # TEM, and restarts within a scan


def is_cut_jpeg(data: bytes) -> bool:
    """Whether these are the bytes of a JPEG that stops before its end; False for any other file."""
    if data[:2] != bytes([0xFF, START]):
        return False
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = found[1][0], found.end()
        if marker == END:
            return False
        if marker not in _WITHOUT_LENGTH:
            at += max(int.from_bytes(data[at : at + 2], "big"), 2)
    return True
