"""Tasks that read a connection by themselves, and TLS handshakes with every kind of other end."""

from __future__ import annotations

import gc
import socket
import ssl

import pytest
import trio
import trio.testing

from engine.loop.connection import Connection
from engine.loop.duplex import NOBODY
from engine.loop.reactor import Reactor
from engine.loop.reading import Reader, start_tls
from engine.wire.tls import TLS
from tests.conftest import Pki
from tests.loop.ends import Ear, pair


def line_end(data: bytes) -> int:
    return data.find(b"\n") + 1 or -1


def one() -> tuple[Connection, socket.socket]:
    near, far = pair()
    return Connection(near), far


async def test_no_more_is_taken_than_was_asked_for_and_the_rest_stays_for_the_next(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    connection, far = one()
    far.sendall(b"one\ntwo\nand the rest")
    reader = Reader(connection)
    assert await reader.until(line_end) == b"one\n"
    assert await Reader(connection).until(line_end) == b"two\n"
    ear = connection.receiver = Ear()
    nursery.start_soon(connection.run)
    assert await ear.heard(12) == b"and the rest"
    far.close()


async def test_what_comes_byte_by_byte_is_put_together(reactor: Reactor, nursery: trio.Nursery) -> None:
    connection, far = one()
    got: list[bytes] = []

    async def read() -> None:
        got.append(await Reader(connection).until(line_end))

    nursery.start_soon(read)
    for byte in b"line\nx":
        far.send(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    assert got == [b"line\n"]
    assert await Reader(connection).some() == b"x"
    connection.abort()
    far.close()


async def test_what_was_left_over_by_a_proxys_handshake_is_read_first(reactor: Reactor) -> None:
    near, far = pair()
    connection = Connection(near, leftover=b"one\nt")
    far.send(b"wo\n")
    reader = Reader(connection)
    assert [await reader.until(line_end), await reader.until(line_end)] == [b"one\n", b"two\n"]
    connection.abort()
    far.close()


async def test_some_is_what_there_is_and_nothing_at_the_end(reactor: Reactor) -> None:
    connection, far = one()
    reader = Reader(connection)
    far.send(b"some")
    assert await reader.some() == b"some"
    far.close()
    assert await reader.some() == b""
    assert await reader.some() == b""
    connection.abort()


async def test_an_end_before_what_was_asked_for_is_a_reset(reactor: Reactor) -> None:
    connection, far = one()
    far.send(b"half a li")
    far.close()
    with pytest.raises(ConnectionResetError, match="hung up"):
        await Reader(connection).until(line_end)
    connection.abort()


async def test_a_loss_is_raised_whoever_asks(reactor: Reactor) -> None:
    connection, far = one()
    reader = Reader(connection)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await reader.some()
    with pytest.raises(ConnectionResetError):
        await Reader(connection).until(line_end)


async def test_what_the_search_raises_is_the_tasks(reactor: Reactor) -> None:
    def refuse(data: bytes) -> int:
        if data:
            raise ValueError("no line of mine")
        return -1

    connection, far = one()
    far.send(b"x")
    with pytest.raises(ValueError, match="of mine"):
        await Reader(connection).until(refuse)
    assert reactor.internal_errors == {}
    connection.abort()
    far.close()


async def test_a_task_that_is_cancelled_leaves_what_was_not_read_in_the_socket(
    reactor: Reactor, autojump_clock: trio.testing.MockClock
) -> None:
    connection, far = one()
    with trio.move_on_after(1):
        await Reader(connection).some()
    far.send(b"later")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert connection.bytes_in == 0
    assert await Reader(connection).some() == b"later"
    connection.abort()
    far.close()


async def test_one_that_is_broken_off_is_lost_like_others(reactor: Reactor, nursery: trio.Nursery) -> None:
    connection, far = one()

    async def break_off() -> None:
        await trio.testing.wait_all_tasks_blocked()
        connection.break_off(KeyError("a defect"))

    nursery.start_soon(break_off)
    with pytest.raises(ConnectionAbortedError, match="a defect"):
        await Reader(connection).some()
    far.close()


# -- TLS handshakes


class Client:
    """The other end of a handshake, by hand."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.layer = TLS.over(context, server_hostname="localhost")

    async def shake_hands(self, step: int) -> None:
        """Send `step` bytes at a time."""
        done = self.layer.handshake()
        while True:
            data = self.layer.pending()
            for at in range(0, len(data), step):
                self.sock.send(data[at : at + step])
                if step < 100:
                    await trio.testing.wait_all_tasks_blocked()
            if done:
                return
            await trio.lowlevel.wait_readable(self.sock)
            done = self.layer.handshake(self.sock.recv(65536))


@pytest.mark.parametrize("step", [1, 7, 100_000], ids=["byte by byte", "in small pieces", "whole"])
async def test_hands_are_shaken_however_the_bytes_come(
    reactor: Reactor, nursery: trio.Nursery, pki: Pki, step: int
) -> None:
    connection, far = one()
    client = Client(far, pki.client_context())
    nursery.start_soon(client.shake_hands, step)
    await start_tls(connection, pki.server_context(), server=True)
    assert connection.receiver is NOBODY
    ear = connection.receiver = Ear()
    nursery.start_soon(connection.run)
    far.send(client.layer.send([b"hello"]))
    assert await ear.heard(5) == b"hello"
    far.close()


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + bytes(70_000)], ids=["HTTP", "0", "TLS"]
)
async def test_what_is_no_handshake_is_refused_and_told(reactor: Reactor, pki: Pki, noise: bytes) -> None:
    connection, far = one()
    far.sendall(noise)
    with pytest.raises(ssl.SSLError):
        await start_tls(connection, pki.server_context(), server=True)
    assert connection.alive, "whoever asked for TLS closes it"
    connection.abort()
    far.close()
    assert reactor.internal_errors == {}


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02"])
async def test_who_hangs_up_in_a_handshake_is_gone(reactor: Reactor, pki: Pki, said: bytes) -> None:
    connection, far = one()
    far.sendall(said)
    far.close()
    with pytest.raises(ConnectionResetError):
        await start_tls(connection, pki.server_context(), server=True)
    connection.abort()


async def test_who_is_reset_in_a_handshake_is_lost(reactor: Reactor, pki: Pki) -> None:
    connection, far = one()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        await start_tls(connection, pki.client_context(), server_hostname="localhost")
    connection.abort()


async def test_a_handshake_on_a_connection_that_is_closed_fails_at_once(
    reactor: Reactor, pki: Pki, autojump_clock: trio.testing.MockClock
) -> None:
    connection, far = one()
    connection.abort()
    with trio.fail_after(5), pytest.raises(ConnectionResetError):
        await start_tls(connection, pki.client_context(), server_hostname="localhost")
    far.close()


async def test_who_refuses_our_certificate_is_heard(reactor: Reactor, pki: Pki, nursery: trio.Nursery) -> None:
    connection, far = one()
    client = Client(far, ssl.create_default_context())  # it trusts nobody

    async def distrust() -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.shake_hands(100_000)
        far.send(client.layer.pending())

    nursery.start_soon(distrust)
    with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
        await start_tls(connection, pki.server_context(), server=True)
    connection.abort()
    far.close()


@pytest.mark.parametrize("way", ["reset while read", "reset in the handshake", "ended"])
async def test_a_connection_that_has_ended_is_freed_without_the_garbage_collector(reactor: Reactor, way: str) -> None:
    async def use(connection: Connection) -> None:
        if way == "reset in the handshake":
            await start_tls(connection, ssl.create_default_context(), server_hostname="localhost")
        else:
            await Reader(connection).until(line_end)

    async def serve() -> None:
        connection, far = one()
        if way != "ended":
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        with pytest.raises(ConnectionResetError):
            await use(connection)
        connection.abort()

    gc.collect()
    gc.disable()
    try:
        await serve()
        await trio.testing.wait_all_tasks_blocked()
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
    finally:
        gc.enable()
