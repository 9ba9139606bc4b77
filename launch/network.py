"""Where the ranks of a job meet: a port that all of them compute alike, and the network
interface that leads there.
"""

import socket
import struct
import zlib
from fcntl import ioctl

SIOCGIFADDR = 0x8915  # netdevice(7): the IPv4 address of an interface
FIRST_PORT, PORTS = 10000, 20000  # below the range that systems give to outgoing connections


def rendezvous_port(job: str, restart: int, again: int) -> int:
    """The port of one attempt: another one for each, so that what an earlier attempt left
    behind cannot answer.
    """
    return FIRST_PORT + zlib.crc32(f"{job}.{restart}.{again}".encode()) % PORTS


def is_free(port: int) -> bool:
    """Whether a server can listen on `port` of this host now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True


def interface_towards(host: str) -> str:
    """The name of the interface from which this machine reaches `host`; raises OSError where
    there is no way.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing: only asks for the route
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            try:
                answer = ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
            except OSError:  # an interface without an IPv4 address
                continue
            if socket.inet_ntoa(answer[20:24]) == own:
                return name
    raise OSError(
        f"no network interface of this machine has the address {own} from which {host} is reached"
    )
