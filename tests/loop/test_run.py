"""A role's reactor: made, used by all tasks of the role, and ended with it."""

from __future__ import annotations

import gc
import socket

import pytest
import trio
import trio.testing

from engine.loop import reactor as reactor_module
from engine.loop.connection import Connection
from engine.loop.reactor import Reactor, current_reactor
from engine.loop.run import GARBAGE_THRESHOLDS, open_reactor
from tests.loop.ends import Ear


class Collected:
    def __init__(self) -> None:
        self.flushes: list[bool] = []

    def flush(self) -> None:
        self.flushes.append(True)

    def break_off(self, error: Exception) -> None: ...


async def test_all_tasks_of_a_role_have_its_reactor(nursery: trio.Nursery) -> None:
    found: list[Reactor] = []

    async def look() -> None:
        found.append(current_reactor())

    async with open_reactor() as reactor, trio.open_nursery() as inner:
        inner.start_soon(look)
        inner.start_soon(look)
    assert found == [reactor, reactor]


async def test_what_a_task_puts_is_flushed_before_trio_sleeps(reactor: Reactor) -> None:
    collected = Collected()
    reactor.flush_soon(collected)
    assert not collected.flushes
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert collected.flushes == [True]


async def test_a_task_that_is_woken_by_what_is_flushed_before_sleep_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Waking(Collected):
        def flush(self) -> None:
            woken.set()
            reactor.hand_over()

    # What else wakes Trio is far away.
    monkeypatch.setattr(reactor_module, "CLOCK_SECONDS", 3600.0)
    woken = trio.Event()
    with trio.move_on_after(10):
        async with open_reactor() as reactor:
            await trio.testing.wait_all_tasks_blocked()
            before = trio.current_time()
            reactor.flush_soon(Waking())
            await woken.wait()
            assert trio.current_time() - before < 5


async def test_a_role_that_is_alone_has_the_garbage_collector_look_less_often() -> None:
    before = gc.get_threshold()
    try:
        async with open_reactor():
            assert gc.get_threshold() == before
        async with open_reactor(alone=True):
            assert gc.get_threshold() == GARBAGE_THRESHOLDS
            assert gc.get_freeze_count() > 0
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def test_connections_end_with_their_role(nursery: trio.Nursery) -> None:
    ear = Ear()
    near, far = socket.socketpair()
    async with open_reactor():
        connection = Connection(near)
        connection.receiver = ear
        async with trio.open_nursery() as inner:
            inner.start_soon(connection.run)
            await trio.testing.wait_all_tasks_blocked()
            inner.cancel_scope.cancel()
    assert isinstance(ear.error, ConnectionAbortedError)
    far.close()
