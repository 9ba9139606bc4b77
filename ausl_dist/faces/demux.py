"""The packets of a file, and whether damage was passed over on the way to one.

    file ──FFmpeg──▶ packet, False ──▶ packet, True (something before it could not be read) ──▶ …

Most demuxers mark a bad packet. Matroska's looks for the next place that it can read, and says
so in FFmpeg's log alone. Those of ASF (WMV) and AVI say nothing: of such a file the frames behind
a damaged place count from there as if nothing had been lost.
"""

from collections.abc import Iterator

import av
import av.logging

SAYS_IN_LOG = "matroska"


def packets_of(
    container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[tuple[av.Packet, bool]]:
    """Packets in the file's order; the last one is empty, as a decoder wants it. Raises what
    FFmpeg raises.
    """
    packets = container.demux(stream)
    if SAYS_IN_LOG not in container.format.name:
        for packet in packets:
            yield packet, packet.is_corrupt
        return
    while True:
        found, complained = _listen(packets)
        if found is None:
            return
        yield found, found.is_corrupt or complained


def _listen(packets: Iterator[av.Packet]) -> tuple[av.Packet | None, bool]:
    """The next packet, and whether the demuxer complained before it came."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said:
            packet = next(packets, None)
    finally:
        av.logging.set_level(before)
    return packet, any(name.startswith(SAYS_IN_LOG) for _, name, _ in said)
