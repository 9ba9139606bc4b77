"""Where ranks meet."""

import socket

from hypothesis import given
from hypothesis import strategies as st

from launch.network import FIRST_PORT, PORTS, interface_towards, is_free, rendezvous_port


@given(st.integers(1, 10**7), st.integers(0, 100), st.integers(0, 10))
def test_the_port_is_below_those_of_outgoing_connections(
    job: int, restart: int, again: int
) -> None:
    assert FIRST_PORT <= rendezvous_port(str(job), restart, again) < FIRST_PORT + PORTS <= 32768


def test_each_attempt_meets_elsewhere() -> None:
    ports = {
        rendezvous_port("12", restart, again) for restart in range(5) for again in range(5)
    }
    assert len(ports) == 25


def test_a_taken_port_is_seen() -> None:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
    assert is_free(port)


def test_a_loopback_address_is_reached_through_loopback() -> None:
    assert interface_towards("127.0.0.11") == "lo"
