"""Connections over real sockets: splits, ends, resets, back-pressure, TLS and TLS in TLS."""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from engine.transport.connection import Connection
from engine.transport.pulse import open_pulse
from engine.transport.relay import Relay
from tests.conftest import Pki

LARGE = bytes(range(256)) * 40_000  # 10 MB: more than any socket buffer


class Ear:
    """A receiver that remembers; `heard` can be waited for."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_ended = False
        self.error: Exception | None = None
        self.drains = 0
        self._changed = trio.Event()

    def received(self, data: memoryview) -> None:
        self.data += data
        self._wake()

    def ended(self) -> None:
        self.is_ended = True
        self._wake()

    def lost(self, error: Exception) -> None:
        assert self.error is None, "lost twice"
        self.error = error
        self._wake()

    def drained(self) -> None:
        self.drains += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def heard(self, size: int) -> bytes:
        while len(self.data) < size:
            assert self.error is None
            await self._changed.wait()
        return bytes(self.data)

    async def is_over(self) -> None:
        while not self.is_ended and self.error is None:
            await self._changed.wait()


@pytest.fixture
async def pulse() -> AsyncIterator[None]:
    async with open_pulse():
        yield


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    return near, far


async def run_both(nursery: trio.Nursery) -> tuple[Connection, Ear, Connection, Ear]:
    near, far = (Connection(sock) for sock in pair())
    near_ear, far_ear = Ear(), Ear()
    near.receiver, far.receiver = near_ear, far_ear
    nursery.start_soon(near.run)
    nursery.start_soon(far.run)
    await trio.testing.wait_all_tasks_blocked()
    return near, near_ear, far, far_ear


async def test_bytes_arrive_in_order_however_much_is_put_at_once(pulse: None, nursery: trio.Nursery) -> None:
    near, near_ear, _, far_ear = await run_both(nursery)
    assert near.put(b"a", memoryview(b"b"))
    assert not near.put(LARGE, b"end"), "10 MB cannot fit into the kernel"
    assert near.backlog
    near.put(b"!")
    assert await far_ear.heard(len(LARGE) + 6) == b"ab" + LARGE + b"end!"
    assert near.backlog == 0
    assert near_ear.drains == 1


async def test_what_was_put_as_a_view_may_be_overwritten_at_once(pulse: None, nursery: trio.Nursery) -> None:
    near, _, _, far_ear = await run_both(nursery)
    buffer = bytearray(LARGE)
    near.put(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert await far_ear.heard(len(LARGE)) == LARGE


async def test_an_end_is_an_end_in_one_direction_only(pulse: None, nursery: trio.Nursery) -> None:
    near, near_ear, far, far_ear = await run_both(nursery)
    near.put(LARGE)
    near.end()
    await far_ear.is_over()
    assert far_ear.is_ended
    assert far_ear.data == LARGE
    far.put(b"and back")
    assert await near_ear.heard(8) == b"and back"
    far.end()
    await near_ear.is_over()
    assert not near.alive
    assert not far.alive


async def test_an_abort_is_seen_as_a_loss(pulse: None, nursery: trio.Nursery) -> None:
    near, near_ear, _, far_ear = await run_both(nursery)
    near.abort()
    await far_ear.is_over()
    assert isinstance(far_ear.error, ConnectionResetError)
    assert near_ear.error is None, "who aborts hears nothing more"


async def test_sending_to_who_has_gone_is_reported_once_and_not_from_inside_put(
    pulse: None, nursery: trio.Nursery
) -> None:
    near_sock, far_sock = pair()
    near, ear = Connection(near_sock), Ear()
    near.receiver = ear
    nursery.start_soon(near.run)
    await trio.testing.wait_all_tasks_blocked()
    near.pause()
    far_sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far_sock.close()
    near.put(b"x")
    near.put(b"y")
    assert ear.error is None
    await ear.is_over()
    assert isinstance(ear.error, OSError)


async def test_a_paused_connection_reads_nothing_and_loses_nothing(pulse: None, nursery: trio.Nursery) -> None:
    near, _, far, far_ear = await run_both(nursery)
    far.pause()
    near.put(b"first")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert far_ear.data == b""
    far.resume()
    assert await far_ear.heard(5) == b"first"


async def test_close_sends_what_is_queued_first(pulse: None, nursery: trio.Nursery) -> None:
    near, _, _, far_ear = await run_both(nursery)
    near.put(LARGE)
    near.close()
    assert await far_ear.heard(len(LARGE)) == LARGE


async def test_closing_over_unread_bytes_does_not_reset_what_was_said_last(pulse: None, nursery: trio.Nursery) -> None:
    near, _, far, far_ear = await run_both(nursery)
    far.put(b"a body nobody wants" * 1000)
    near.put(b"no")
    near.close()
    far.put(b"and more of it")
    await far_ear.is_over()
    assert far_ear.is_ended
    assert far_ear.data == b"no"
    assert near.alive, "the other end has not said its end yet"
    far.close()
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert not near.alive


async def test_cancelling_the_task_is_a_loss_for_the_receiver(pulse: None) -> None:
    near_sock, far_sock = pair()
    ear = Ear()
    connection = Connection(near_sock)
    connection.receiver = ear
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert isinstance(ear.error, ConnectionAbortedError)
    far_sock.close()


async def test_what_a_receiver_raises_comes_out_of_run(pulse: None) -> None:
    class Clumsy(Ear):
        def received(self, data: memoryview) -> None:
            raise KeyError("clumsy")

    near_sock, far_sock = pair()
    connection = Connection(near_sock)
    connection.receiver = Clumsy()
    far_sock.send(b"x")
    with far_sock, pytest.raises(KeyError, match="clumsy"):
        await connection.run()


async def test_what_was_read_too_much_in_a_handshake_is_received_first(pulse: None, nursery: trio.Nursery) -> None:
    near_sock, far_sock = pair()
    far_sock.send(b"head and body")
    connection, ear = Connection(near_sock), Ear()
    connection.receiver = ear
    assert await connection.receive() == b"head and body"
    connection.unread(b"and body")
    nursery.start_soon(connection.run)
    with far_sock:
        assert await ear.heard(8) == b"and body"


async def tls_pair(pki: Pki, layers: int) -> tuple[Connection, Connection]:
    near, far = (Connection(sock) for sock in pair())
    for _ in range(layers):
        async with trio.open_nursery() as handshakes:
            handshakes.start_soon(lambda: near.start_tls(pki.client_context(), server_hostname="localhost"))
            handshakes.start_soon(lambda: far.start_tls(pki.server_context(), server=True))
    return near, far


@pytest.mark.parametrize("layers", [1, 2, 3], ids=["TLS", "TLS in TLS", "TLS through two TLS proxies"])
async def test_tls_carries_everything_both_ways_and_its_ends(
    pulse: None, nursery: trio.Nursery, pki: Pki, layers: int
) -> None:
    near, far = await tls_pair(pki, layers)
    near_ear, far_ear = Ear(), Ear()
    near.receiver, far.receiver = near_ear, far_ear
    nursery.start_soon(near.run)
    nursery.start_soon(far.run)
    await trio.testing.wait_all_tasks_blocked()
    near.put(b"small", b" parts")
    near.put(memoryview(LARGE))
    far.put(LARGE)
    assert await far_ear.heard(len(LARGE) + 11) == b"small parts" + LARGE
    assert await near_ear.heard(len(LARGE)) == LARGE
    near.end()
    await far_ear.is_over()
    assert far_ear.is_ended
    far.end()
    await near_ear.is_over()
    assert near_ear.is_ended


async def test_tls_that_is_cut_off_is_a_loss(pulse: None, nursery: trio.Nursery, pki: Pki) -> None:
    near, far = await tls_pair(pki, 1)
    ear = Ear()
    far.receiver = ear
    nursery.start_soon(far.run)
    await trio.testing.wait_all_tasks_blocked()
    near._sock.shutdown(socket.SHUT_WR)
    await ear.is_over()
    assert not ear.is_ended
    assert isinstance(ear.error, ConnectionResetError)
    near.abort()


async def test_a_certificate_nobody_trusts_fails_the_handshake(pki: Pki) -> None:
    near, far = (Connection(sock) for sock in pair())

    async def serve() -> None:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await far.start_tls(pki.server_context(), server=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ssl.SSLCertVerificationError):
            await near.start_tls(ssl.create_default_context(), server_hostname="localhost")
        near.abort()
    far.abort()


async def test_data_right_behind_the_handshake_is_not_lost(pulse: None, nursery: trio.Nursery, pki: Pki) -> None:
    """A client's last handshake message and its first request often share a segment."""
    near_sock, far_sock = pair()
    near, far = Connection(near_sock), Connection(far_sock)
    ear = Ear()
    far.receiver = ear

    async def client() -> None:
        await near.start_tls(pki.client_context(), server_hostname="localhost")
        near.put(b"early bird")

    async with trio.open_nursery() as handshakes:
        handshakes.start_soon(client)
        await trio.testing.wait_all_tasks_blocked()
        await far.start_tls(pki.server_context(), server=True)
    nursery.start_soon(far.run)
    assert await ear.heard(10) == b"early bird"
    near.abort()


async def test_a_relay_passes_bytes_ends_and_resets_exactly(pulse: None, nursery: trio.Nursery) -> None:
    client, client_ear, middle_left, _ = await run_both(nursery)
    middle_right, _, service, service_ear = await run_both(nursery)
    over: list[Exception | None] = []
    relay = Relay(middle_left, middle_right, over.append)
    client.put(LARGE)
    service.put(LARGE[::-1])
    client.end()
    await service_ear.is_over()
    assert hashlib.sha256(service_ear.data).digest() == hashlib.sha256(LARGE).digest()
    assert await client_ear.heard(len(LARGE)) == LARGE[::-1]
    service.put(b"after the end")
    assert (await client_ear.heard(len(LARGE) + 13)).endswith(b"after the end")
    assert over == []
    service.end()
    await client_ear.is_over()
    assert over == [None]
    assert relay.bytes_right == len(LARGE)
    assert relay.bytes_left == len(LARGE) + 13


async def test_a_relay_passes_a_reset_on_as_a_reset(pulse: None, nursery: trio.Nursery) -> None:
    client, client_ear, middle_left, _ = await run_both(nursery)
    middle_right, _, service, _ = await run_both(nursery)
    Relay(middle_left, middle_right)
    client.put(b"x")
    service.abort()
    await client_ear.is_over()
    assert isinstance(client_ear.error, ConnectionResetError)
