"""Connections over real sockets: splits, ends, resets, back-pressure, TLS and TLS in TLS."""

from __future__ import annotations

import socket
import ssl

import pytest
import trio
import trio.testing

from engine.loop import connection
from engine.loop.connection import Connection
from engine.loop.duplex import MOST_READ
from engine.loop.memory import Overdrawn
from engine.loop.reactor import Reactor
from engine.loop.reading import Reader, start_tls
from tests.conftest import Pki
from tests.loop.ends import LARGE, Clumsy, Ear, pair, run_both


async def test_bytes_arrive_in_order_however_much_is_put_at_once(reactor: Reactor, nursery: trio.Nursery) -> None:
    near, near_ear, _, far_ear = await run_both(nursery)
    assert near.put(b"a", memoryview(b"b"))
    assert not near.put(LARGE, b"end"), "10 MB cannot fit into the kernel"
    assert near.backlog
    near.put(b"!")
    assert await far_ear.heard(len(LARGE) + 6) == b"ab" + LARGE + b"end!"
    assert near.backlog == 0
    assert near_ear.drains == 1


async def test_what_was_put_as_a_view_may_be_overwritten_at_once(reactor: Reactor, nursery: trio.Nursery) -> None:
    near, _, _, far_ear = await run_both(nursery)
    buffer = bytearray(LARGE)
    near.put(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert await far_ear.heard(len(LARGE)) == LARGE


async def test_an_end_is_an_end_in_one_direction_only(reactor: Reactor, nursery: trio.Nursery) -> None:
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


async def test_an_abort_is_seen_as_a_loss(reactor: Reactor, nursery: trio.Nursery) -> None:
    near, near_ear, _, far_ear = await run_both(nursery)
    near.abort()
    await far_ear.is_over()
    assert isinstance(far_ear.error, ConnectionResetError)
    assert near_ear.error is None, "who aborts hears nothing more"


async def test_sending_to_who_has_gone_is_reported_once_and_not_from_inside_put(
    reactor: Reactor, nursery: trio.Nursery
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


async def test_a_paused_connection_reads_nothing_and_loses_nothing(reactor: Reactor, nursery: trio.Nursery) -> None:
    near, _, far, far_ear = await run_both(nursery)
    far.pause()
    near.put(b"first")
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert far_ear.data == b""
    far.resume()
    assert await far_ear.heard(5) == b"first"


async def test_close_sends_what_is_queued_first(reactor: Reactor, nursery: trio.Nursery) -> None:
    near, _, _, far_ear = await run_both(nursery)
    near.put(LARGE)
    near.close()
    assert await far_ear.heard(len(LARGE)) == LARGE


async def test_closing_over_unread_bytes_does_not_reset_what_was_said_last(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
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


async def test_cancelling_the_task_is_a_loss_for_the_receiver(reactor: Reactor) -> None:
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


@pytest.mark.parametrize("call", ["received", "ended"])
async def test_what_a_receiver_raises_ends_its_connection_only(
    reactor: Reactor, nursery: trio.Nursery, call: str
) -> None:
    near, _, far, far_ear = await run_both(nursery)
    clumsy = near.receiver = Clumsy(call)
    other, _, _, other_ear = await run_both(nursery)
    far.put(b"x")
    far.end()
    await far_ear.is_over()
    assert isinstance(far_ear.error, ConnectionResetError)
    assert isinstance(clumsy.broken_off, KeyError)
    assert not near.alive
    assert reactor.internal_errors == {"ready": 1}
    other.put(b"still here")
    assert await other_ear.heard(10) == b"still here"


async def test_a_receiver_that_raises_when_it_is_told_of_a_loss_is_counted_and_nothing_more(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    near, _, far, _ = await run_both(nursery)
    clumsy = near.receiver = Clumsy("lost")
    far.abort()
    await clumsy.is_over()
    assert not near.alive
    assert reactor.internal_errors == {"lost": 1}


async def test_what_was_read_too_much_in_a_handshake_is_received_first(reactor: Reactor, nursery: trio.Nursery) -> None:
    near_sock, far_sock = pair()
    far_sock.send(b"head and body")
    connection, ear = Connection(near_sock, leftover=b"left over, "), Ear()
    head = await Reader(connection).until(lambda data: data.find(b"head ") + 5 if b"head " in data else -1)
    assert head == b"left over, head "
    connection.receiver = ear
    nursery.start_soon(connection.run)
    with far_sock:
        assert await ear.heard(8) == b"and body"


async def tls_pair(pki: Pki, layers: int) -> tuple[Connection, Connection]:
    near, far = (Connection(sock) for sock in pair())
    for _ in range(layers):
        async with trio.open_nursery() as handshakes:
            handshakes.start_soon(lambda: start_tls(near, pki.client_context(), server_hostname="localhost"))
            handshakes.start_soon(lambda: start_tls(far, pki.server_context(), server=True))
    return near, far


@pytest.mark.parametrize("layers", [1, 2, 3], ids=["TLS", "TLS in TLS", "TLS through two TLS proxies"])
async def test_tls_carries_everything_both_ways_and_its_ends(
    reactor: Reactor, nursery: trio.Nursery, pki: Pki, layers: int
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


class Keeper(Ear):
    """Keeps what it is given beyond the call, which nobody may."""

    kept = memoryview(b"")

    def received(self, data: memoryview) -> int:
        self.kept = data
        return super().received(data)


@pytest.mark.interpreted
@pytest.mark.parametrize("layers", [0, 1, 2])
async def test_a_poisoned_buffer_finds_out_who_keeps_a_view(
    reactor: Reactor, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, pki: Pki, layers: int
) -> None:
    monkeypatch.setattr(connection, "_POISON", True)
    near, far = await tls_pair(pki, layers)
    far.receiver = keeper = Keeper()
    nursery.start_soon(near.run)
    nursery.start_soon(far.run)
    near.put(b"hello")
    assert await keeper.heard(5) == b"hello"
    assert bytes(keeper.kept) == b"\xa5" * 5


async def test_what_is_kept_is_not_copied_where_nobody_can_change_it(
    reactor: Reactor, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    spare: list[memoryview] = []
    monkeypatch.setattr(connection, "_spare_buffers", spare)
    large = bytes(MOST_READ)
    kept = connection.keep(memoryview(large)[100:])
    assert isinstance(kept, memoryview)
    assert kept.obj is large
    small = connection.keep(memoryview(large)[:100])
    assert isinstance(small, bytes), "it would keep the whole of what it is a part of"
    connection.give_back(kept)
    connection.give_back(small)
    assert spare == [], "nothing is received into what somebody else has made"


async def test_tls_that_is_cut_off_is_a_loss(reactor: Reactor, nursery: trio.Nursery, pki: Pki) -> None:
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


async def test_a_certificate_nobody_trusts_fails_the_handshake(reactor: Reactor, pki: Pki) -> None:
    near, far = (Connection(sock) for sock in pair())

    async def serve() -> None:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            await start_tls(far, pki.server_context(), server=True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises(ssl.SSLCertVerificationError):
            await start_tls(near, ssl.create_default_context(), server_hostname="localhost")
        near.abort()
    far.abort()


async def test_data_right_behind_the_handshake_is_not_lost(reactor: Reactor, nursery: trio.Nursery, pki: Pki) -> None:
    """A client's last handshake message and its first request often share a segment."""
    near_sock, far_sock = pair()
    near, far = Connection(near_sock), Connection(far_sock)
    ear = Ear()

    async def client() -> None:
        await start_tls(near, pki.client_context(), server_hostname="localhost")
        near.put(b"early bird")

    async with trio.open_nursery() as handshakes:
        handshakes.start_soon(client)
        await trio.testing.wait_all_tasks_blocked()
        await start_tls(far, pki.server_context(), server=True)
    far.receiver = ear
    nursery.start_soon(far.run)
    assert await ear.heard(10) == b"early bird"
    near.abort()


# -- what is bounded


async def test_who_takes_nothing_of_what_is_queued_is_lost_and_who_takes_a_little_is_not(
    reactor: Reactor, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    near_sock, far_sock = pair()
    near, ear = Connection(near_sock), Ear()
    near.receiver = ear
    nursery.start_soon(near.run)
    for _ in range(4):  # more than both kernels keep, and than is read below
        near.put(LARGE)

    async def pass_seconds(seconds: float) -> None:
        mock_clock.jump(seconds)
        await trio.testing.wait_all_tasks_blocked(0.01)

    alive = []
    for _ in range(4):
        for _ in range(20):
            far_sock.recv(100_000)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await pass_seconds(near.stall_seconds)
        alive.append(near.alive)
    for _ in range(10):  # the kernels move a little on their own
        await pass_seconds(near.stall_seconds)
    assert alive == [True] * 4
    assert isinstance(ear.error, TimeoutError)
    assert (near.alive, near.backlog, near.account.used) == (False, 0, 0)
    far_sock.close()


async def test_more_than_an_account_holds_ends_the_connection_with_nothing_kept(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    near_sock, far_sock = pair()
    near, ear = Connection(near_sock), Ear()
    near.receiver = ear
    near.account.limit = len(LARGE)
    nursery.start_soon(near.run)
    near.put(LARGE)
    near.put(LARGE)
    told_inside = ear.error
    await ear.is_lost()
    assert told_inside is None, "not from inside its own call"
    assert isinstance(ear.error, Overdrawn)
    assert (near.alive, near.backlog, near.account.used, reactor.memory.used) == (False, 0, 0, 0)
    far_sock.close()


async def test_when_the_process_holds_too_much_the_connection_that_takes_nothing_goes(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    silent_sock, silent_far = pair()
    silent, silent_ear = Connection(silent_sock), Ear()
    silent.receiver = silent_ear
    nursery.start_soon(silent.run)
    silent.put(LARGE)
    reading, _, _, far_ear = await run_both(nursery)
    reactor.memory.limit = len(LARGE)
    reading.put(LARGE)
    await silent_ear.is_lost()
    assert isinstance(silent_ear.error, Overdrawn)
    assert await far_ear.heard(len(LARGE)) == LARGE
    assert reactor.memory.ended == 1
    silent_far.close()


@pytest.mark.parametrize("layers", [0, 1])
async def test_what_is_taken_in_parts_is_offered_again_and_the_end_comes_behind_it(
    reactor: Reactor, nursery: trio.Nursery, pki: Pki, layers: int
) -> None:
    near, far = await tls_pair(pki, layers)
    ear = Ear(takes=100_000)
    far.receiver = ear
    nursery.start_soon(near.run)
    nursery.start_soon(far.run)
    near.put(LARGE)
    near.end()
    await ear.is_over()
    assert ear.is_ended
    assert ear.data == LARGE
    assert far.account.used == 0
    near.abort()
    far.abort()


async def test_an_idle_connection_is_looked_at_before_it_is_used_again(reactor: Reactor, nursery: trio.Nursery) -> None:
    near, near_ear, far, _ = await run_both(nursery)
    assert near.look()
    assert near_ear.calls == 0
    far.put(b"stray")
    near.look()
    assert near_ear.data == b"stray", "its receiver has seen it, and may have closed it"
    far.end()
    assert not near.look()
    assert near_ear.is_ended
