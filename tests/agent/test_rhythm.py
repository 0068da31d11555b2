"""Pings that come sooner once a proxy's timer has shown itself."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from engine.agent.rhythm import LEAST_SECONDS, Rhythm
from engine.session.liveness import PING_SECONDS
from tests.roles import Roles, agent_config, roles, says, settle

__all__ = ["roles"]


def test_one_cut_proves_nothing_and_two_alike_are_a_timers() -> None:
    rhythm = Rhythm()
    assert not rhythm.cut_after(10.0)
    assert rhythm.seconds == PING_SECONDS
    assert rhythm.cut_after(10.4)
    assert 5 < rhythm.seconds < 7


def test_cuts_after_unlike_silences_teach_nothing() -> None:
    rhythm = Rhythm()
    assert not any(map(rhythm.cut_after, (3.0, 9.0, 2.0, 17.0, 0.0)))
    assert rhythm.seconds == PING_SECONDS


def test_sessions_lost_in_the_middle_of_traffic_teach_nothing() -> None:
    rhythm = Rhythm()
    assert not any(rhythm.cut_after(0.0) for _ in range(5))


def test_pings_only_come_sooner_and_never_too_soon() -> None:
    rhythm = Rhythm()
    assert [rhythm.cut_after(4.0), rhythm.cut_after(4.0)] == [False, True]
    faster = rhythm.seconds
    assert [rhythm.cut_after(12.0), rhythm.cut_after(12.0)] == [False, False]
    assert rhythm.seconds == faster
    assert [rhythm.cut_after(1.1), rhythm.cut_after(1.1)] == [False, True]
    assert rhythm.seconds == LEAST_SECONDS


@pytest.mark.parametrize("resume", [0, 30])
async def test_an_agent_behind_a_timer_stays_connected_in_the_end(
    roles: Roles, mock_clock: MockClock, resume: float
) -> None:
    timer_seconds = 10.0
    node, service = await roles.node(), await roles.service(says(b"here"))
    sessions = 0

    async def cut_when_silent(outside: trio.SocketStream) -> None:
        """A proxy's timer, which any byte in any direction sets back."""
        nonlocal sessions
        sessions += 1
        async with outside, await trio.open_tcp_stream("127.0.0.1", node.upstream) as inside:
            with trio.move_on_after(timer_seconds) as timer:
                async with trio.open_nursery() as nursery:

                    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
                        async for data in source:
                            timer.deadline = trio.current_time() + timer_seconds
                            await sink.send_all(data)
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(pump, outside, inside)
                    nursery.start_soon(pump, inside, outside)

    async def let_pass(seconds: float) -> None:
        await settle()
        mock_clock.jump(seconds)
        await settle()

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await roles.nursery.start(trio.serve_listeners, cut_when_silent, listeners)
    await roles.agent_with(agent_config(listeners[0].socket.getsockname()[1], service, resume=resume))
    for count in (2, 3):
        await let_pass(timer_seconds)
        await let_pass(1)  # before it dials again, without resumption
        assert sessions == count
    await let_pass(0.7 * timer_seconds)  # a ping
    await let_pass(0.7 * timer_seconds)  # and another
    await let_pass(1)
    assert sessions == 3
