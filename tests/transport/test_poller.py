"""The poller: handlers of many sockets in one task, without keeping Trio's other tasks waiting."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from engine.transport.poller import AWAY_SECONDS, READABLE, WRITABLE, Poller, current_poller
from engine.transport.pulse import open_pulse


@pytest.fixture
def ends() -> list[tuple[socket.socket, socket.socket]]:
    return [socket.socketpair() for _ in range(200)]


async def test_every_ready_socket_is_told_of_and_no_other(ends: list[tuple[socket.socket, socket.socket]]) -> None:
    told: set[int] = set()
    batches = []
    poller = Poller(lambda: batches.append(len(told)))

    def handler(near: socket.socket, number: int) -> None:
        near.recv(10)
        told.add(number)

    async with trio.open_nursery() as nursery:
        for number, (near, far) in enumerate(ends):
            poller.watch(near, lambda _, near=near, number=number: handler(near, number), READABLE)  # type: ignore[misc]
            if number % 2:
                far.send(b"x")
        nursery.start_soon(poller.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert told == set(range(1, len(ends), 2))
    assert batches[-1] == len(told)
    poller.close()
    for pair in ends:
        for end in pair:
            end.close()


async def test_what_is_not_watched_any_more_is_not_told_of_in_the_same_batch() -> None:
    (a, far_a), (b, far_b) = socket.socketpair(), socket.socketpair()
    told: list[str] = []
    poller = Poller(lambda: None)

    def first_come(name: str, other: socket.socket) -> None:
        told.append(name)
        poller.watch(other, lambda _: None, 0)
        poller.watch(a if other is b else b, lambda _: None, 0)

    far_a.send(b"x")
    far_b.send(b"x")
    poller.watch(a, lambda _: first_come("a", b), READABLE)
    poller.watch(b, lambda _: first_come("b", a), READABLE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        await trio.testing.wait_all_tasks_blocked(0.01)
        nursery.cancel_scope.cancel()
    assert len(told) == 1
    poller.close()
    for end in (a, far_a, b, far_b):
        end.close()


async def test_lingering_over_endless_events_leaves_trio_its_turns() -> None:
    near, far = socket.socketpair()
    poller = Poller(lambda: None, lingers=True)
    calls = 0

    def always_ready(events: int) -> None:
        nonlocal calls
        calls += 1

    poller.watch(near, always_ready, WRITABLE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        before = trio.current_time()
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert calls > 10, "it does linger"
        assert trio.current_time() - before < 100 * AWAY_SECONDS
        nursery.cancel_scope.cancel()
    poller.close()
    near.close()
    far.close()


async def test_a_task_may_wait_for_a_socket_of_its_own() -> None:
    near, far = socket.socketpair()
    async with open_pulse(alone=True), trio.open_nursery() as nursery:
        nursery.start_soon(current_poller().wait_readable, near)
        await trio.testing.wait_all_tasks_blocked(0.01)
        far.send(b"x")
    assert near.recv(1) == b"x"
    near.close()
    far.close()


async def test_outside_of_a_role_there_is_no_poller() -> None:
    with pytest.raises(RuntimeError, match="open_pulse"):
        current_poller()
