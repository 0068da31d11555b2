"""UDP sockets in the reactor, of both versions of IP; what the kernel says of them ends nothing."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import trio

from engine.errors import CannotListen
from engine.loop.reactor import Reactor
from engine.loop.udp import Name, UdpSocket, connect_udp, open_udp, resolve_udp
from tests.programs import free_port
from tests.roles import settle


class Flow:
    def __init__(self, name: Name | None = None) -> None:
        self.name = name
        self.dropped = 0


class Owner:
    """Remembers what has come."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.names: list[Name] = []
        self.refusals = 0
        self.broken_off: list[Exception] = []

    def datagram(self, sock: UdpSocket[Any], data: memoryview, name: Name) -> None:
        self.heard.append(bytes(data))
        self.names.append(name)

    def refused(self, sock: UdpSocket[Any], error: OSError) -> None:
        self.refusals += 1

    def break_off(self, error: Exception) -> None:
        self.broken_off.append(error)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0"])
async def test_datagrams_of_every_size_come_and_go(reactor: Reactor, address: str) -> None:
    port, client = Owner(), Owner()
    (bound,) = open_udp(address)
    name, family = bound.getsockname(), bound.family
    listening = UdpSocket[Flow](bound, port, reactor, 10)
    connected = UdpSocket[Flow](connect_udp((family, name)), client, reactor, 10)
    for size in (0, 1, 1400, 65507):
        connected.send(Flow(), bytes(size))
        await settle()
        listening.send(Flow(port.names[-1]), bytes(size))
        await settle()
    assert [len(data) for data in port.heard] == [len(data) for data in client.heard] == [0, 1, 1400, 65507]
    listening.close()
    connected.close()
    connected.send(Flow(), b"too late")


async def test_a_name_is_every_address_and_no_host_both_versions() -> None:
    sockets = open_udp("localhost:0")
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        for sock in sockets:
            sock.close()
    (everywhere,) = open_udp(":0")
    with everywhere, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", everywhere.getsockname()[1]))
        assert everywhere.recvfrom(10)[1][0] == "::ffff:127.0.0.1"
    assert await resolve_udp("127.0.0.1", 53) == [(socket.AF_INET, ("127.0.0.1", 53))]


def test_a_port_in_use_is_told_of() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(CannotListen, match="in use"):
            open_udp(f"127.0.0.1:{taken.getsockname()[1]}")


async def test_nobody_there_is_told_of_and_the_next_datagram_is_sent_all_the_same(reactor: Reactor) -> None:
    owner, flow, number = Owner(), Flow(), free_port()
    place = (socket.AF_INET, ("127.0.0.1", number))
    sock = UdpSocket[Flow](connect_udp(place), owner, reactor, 10)
    sock.send(flow, b"1")
    await settle()
    assert owner.refusals == 1
    sock.send(flow, b"2")  # its error is still to come when the next is sent
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", number))
        sock.send(flow, b"3")
        assert await trio.to_thread.run_sync(service.recv, 10) == b"3"
    assert (flow.dropped, owner.broken_off) == (0, [])
    sock.close()


async def test_what_is_too_large_is_dropped_and_counted(reactor: Reactor) -> None:
    owner, flow = Owner(), Flow()
    sock = UdpSocket[Flow](connect_udp((socket.AF_INET, ("127.0.0.1", 9))), owner, reactor, 10)
    sock.send(flow, bytes(65520))
    assert (flow.dropped, owner.refusals) == (1, 2)
    sock.close()


async def test_a_socket_without_room_keeps_the_newest_until_it_has_some(reactor: Reactor) -> None:
    """A Unix socket's peer is known to be full; UDP over loopback drops instead."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    flow = Flow()
    sock = UdpSocket[Flow](near, Owner(), reactor, 3)
    for number in range(1000):
        sock.send(flow, b"%d" % number)
    assert sock.backlog
    heard: list[int] = []
    far.setblocking(False)
    while len(heard) + flow.dropped < 1000:
        try:
            heard.append(int(far.recv(10)))
        except BlockingIOError:
            await settle()
    assert heard[-3:] == [997, 998, 999]
    assert flow.dropped > 0
    sock.close()
    far.close()
