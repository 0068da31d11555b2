"""Listening: addresses, accepting in turns, and who goes when there is no more room."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from engine.errors import CannotListen
from engine.loop.connection import Connection
from engine.loop.listen import (
    ACCEPTED_PER_TURN,
    FRESH_SECONDS,
    FULL_SECONDS,
    Room,
    open_listeners,
    open_shared_listeners,
    serve,
    split_address,
)
from engine.loop.reactor import Reactor
from engine.loop.reading import Reader, start_tls
from tests.conftest import Pki
from tests.loop.ends import Ear


@pytest.mark.parametrize(
    ("address", "expected"),
    [(":8000", ("", 8000)), ("[::1]:80", ("::1", 80)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("a.test:1", ("a.test", 1))],
)
def test_an_address_is_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert split_address(address) == expected


@pytest.mark.parametrize("address", ["", "8000", "a.test", "a.test:", "a.test:x", "a.test:65536", "a.test:-1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)


def test_an_address_in_use_cannot_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(CannotListen):
        open_listeners(f"127.0.0.1:{taken.getsockname()[1]}")


def test_sockets_that_share_a_port_take_all_that_come_and_nobody_else_joins_them() -> None:
    sets = open_shared_listeners("127.0.0.1:0", 3)
    sockets = [one for each in sets for one in each]
    (port,) = {one.getsockname()[1] for one in sockets}
    for again in (open_listeners, lambda address: open_shared_listeners(address, 2)):
        with pytest.raises(CannotListen):
            again(f"127.0.0.1:{port}")
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(30)]
    taken = 0
    for one in sockets:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                one.accept()[0].close()
                taken += 1
    assert taken == len(clients)
    for one in (*clients, *sockets):
        one.close()


def test_a_name_with_several_addresses_has_one_port_on_all_of_them() -> None:
    listeners = open_listeners("localhost:0")
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    for listener in listeners:
        listener.close()


class Port:
    """A port that serves: its address, and what it took of each client, in the clients' order."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.listeners = open_listeners("127.0.0.1:0")
        self.address = self.listeners[0].getsockname()
        self.clients: list[socket.socket] = []
        self.fails = False
        self._taken: dict[object, tuple[Connection, Ear]] = {}  # by the client's name; tasks start in any order

    async def handle(self, connection: Connection) -> None:
        ear = connection.receiver = Ear()
        ear.idle = True
        self._taken[connection.peer] = connection, ear
        if self.fails:
            raise KeyError("a defect")
        await connection.run()

    async def connect(self, count: int = 1) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(self.address))
        await settle()

    def connection(self, number: int) -> Connection:
        return self._taken[self.clients[number].getsockname()][0]

    def ear(self, number: int) -> Ear:
        return self._taken[self.clients[number].getsockname()][1]

    @property
    def served(self) -> list[bool]:
        """Of each client, whether it is."""
        taken = [self._taken.get(client.getsockname()) for client in self.clients]
        return [one is not None and one[0].alive for one in taken]

    def close(self) -> None:
        for client in self.clients:
            client.close()


@asynccontextmanager
async def open_port(room: Room) -> AsyncIterator[Port]:
    port = Port(room)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, port.listeners, port.handle, nursery, room)
        await trio.testing.wait_all_tasks_blocked()
        yield port
        nursery.cancel_scope.cancel()
    port.close()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_every_connection_has_its_task_and_who_has_gone_leaves_room(reactor: Reactor) -> None:
    room, many = Room(1000), 3 * ACCEPTED_PER_TURN
    async with open_port(room) as port:
        await port.connect(many)
        assert port.served == [True] * many
        assert len(room._members) == many
        port.clients[7].send(b"hello")
        assert await port.ear(7).heard(5) == b"hello"
        for number in range(many):
            port.connection(number).abort()
        await settle()
        assert not room._members


async def test_accepting_gives_way_after_some_connections(reactor: Reactor) -> None:
    """A connection that is ready beside the port is served between its turns."""
    async with open_port(Room(1000)) as port:
        await port.connect()
        accepted_before: list[int] = []

        class Counting(Ear):
            def received(self, data: memoryview) -> int:
                accepted_before.append(len(port.room._members))
                return super().received(data)

        port.connection(0).receiver = Counting()
        port.clients[0].send(b"x")
        await port.connect(10 * ACCEPTED_PER_TURN)
        assert accepted_before[0] <= 1 + ACCEPTED_PER_TURN
        assert len(port.room._members) == 1 + 10 * ACCEPTED_PER_TURN


async def test_who_waits_in_the_queue_is_served_when_the_port_closes(reactor: Reactor) -> None:
    many = 3 * ACCEPTED_PER_TURN
    port = Port(Room(many))
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(serve, port.listeners, port.handle, nursery, port.room)
            await trio.testing.wait_all_tasks_blocked()
            port.clients += [socket.create_connection(port.address) for _ in range(many + 1)]
            accepting.cancel_scope.cancel()
        await settle()
        assert port.served == [True] * many + [False]  # there is no room for the last
        with pytest.raises(ConnectionResetError):
            port.clients[-1].recv(1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(port.address)
        nursery.cancel_scope.cancel()
    port.close()


async def test_one_that_fills_the_room_drives_nobody_out(reactor: Reactor) -> None:
    async with open_port(Room(3)) as port:
        await port.connect(3)
        assert port.served == [True, True, True]
        assert port.room.made == 0


async def test_when_it_is_full_the_oldest_idle_one_goes_and_busy_ones_stay(reactor: Reactor) -> None:
    async with open_port(Room(3)) as port:
        for _ in range(3):
            await port.connect()
        port.ear(0).idle = False
        await port.connect()
        assert port.served == [True, False, True, True]
        await port.connect()
        assert port.served == [True, False, False, True, True]
        assert port.room.made == 2


@pytest.mark.parametrize("what", ["a TLS handshake", "a head"])
async def test_a_task_that_waits_for_one_that_has_to_go_ends_with_it(reactor: Reactor, pki: Pki, what: str) -> None:
    over: list[str] = []

    async def handle(connection: Connection) -> None:
        try:
            if what == "a head":
                await Reader(connection).some()
            else:
                await start_tls(connection, pki.server_context(), server=True)
        except ConnectionError as error:
            over.append(str(error))

    room = Room(2)
    listeners = open_listeners("127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listeners, handle, nursery, room)
        await settle()
        clients = []
        for _ in range(5):
            clients.append(socket.create_connection(listeners[0].getsockname()))
            await settle()
        assert over == ["closed to make room for others"] * 3
        nursery.cancel_scope.cancel()
    for client in clients:
        client.close()


async def test_who_dawdles_goes_behind_who_is_idle_and_before_who_has_just_come(
    reactor: Reactor, mock_clock: trio.testing.MockClock
) -> None:
    slow: set[Connection] = set()
    async with open_port(Room(2, slow.__contains__)) as port:
        await port.connect(2)
        port.ear(0).idle = False
        slow.add(port.connection(0))
        mock_clock.jump(FRESH_SECONDS)
        await settle()
        await port.connect()
        assert port.served == [True, False, True]  # the idle one has gone
        await port.connect()
        assert port.served == [False, False, True, True]


async def test_while_nobody_is_idle_the_queue_waits(reactor: Reactor, autojump_clock: trio.testing.MockClock) -> None:
    async with open_port(Room(2)) as port:
        await port.connect(2)
        for number in range(2):
            port.ear(number).idle = False
        await port.connect()
        await trio.sleep(10 * FULL_SECONDS)
        assert port.served == [True, True, False]
        port.connection(0).abort()
        await trio.sleep(10 * FULL_SECONDS)
        assert port.served == [False, True, True]


async def test_a_handler_that_raises_loses_its_connection_and_the_port_goes_on(reactor: Reactor) -> None:
    async with open_port(Room(10)) as port:
        port.fails = True
        await port.connect()
        port.fails = False
        await port.connect()
        assert port.served == [False, True]
        assert reactor.internal_errors == {"connection": 1}
        assert len(port.room._members) == 1


async def test_without_descriptors_the_oldest_idle_one_goes(reactor: Reactor) -> None:
    """The clients are in this process as well, so it is the one who accepts that runs out first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with open_port(Room(1000)) as port:
        await port.connect(5)
        waiting = [socket.socket() for _ in range(3)]
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            for client in waiting:
                client.connect(port.address)
                port.clients.append(client)
                await settle()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert port.served == [False] * 3 + [True] * 5
        assert port.room.made == 3
        assert reactor.internal_errors == {}


def test_descriptors_are_left_for_everything_else() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < Room().limit < soft
