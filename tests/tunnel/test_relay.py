"""Two duplexes joined: bytes, ends, losses and back-pressure pass from each to the other."""

from __future__ import annotations

import hashlib
import math

import pytest
import trio
import trio.testing

from engine.loop.duplex import NOBODY
from engine.loop.reactor import Reactor
from engine.tunnel.relay import Relay
from tests.loop.ends import LARGE, End, Turns, run_both


async def test_a_relay_passes_bytes_ends_and_resets_exactly(reactor: Reactor, nursery: trio.Nursery) -> None:
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
    assert relay.passed == [len(LARGE), len(LARGE) + 13]


async def test_a_relay_passes_a_reset_on_as_a_reset(reactor: Reactor, nursery: trio.Nursery) -> None:
    client, client_ear, middle_left, _ = await run_both(nursery)
    middle_right, _, service, _ = await run_both(nursery)
    Relay(middle_left, middle_right)
    client.put(b"x")
    service.abort()
    await client_ear.is_over()
    assert isinstance(client_ear.error, ConnectionResetError)


class Joined:
    """Two ends in memory, and what was said when it was over."""

    def __init__(self) -> None:
        turns = Turns()
        self.left, self.right = End(turns), End(turns)
        self.over: list[Exception | None] = []
        self.relay = Relay(self.left, self.right, self.over.append)


@pytest.fixture
def joined() -> Joined:
    return Joined()


def test_it_is_over_when_both_have_ended_and_nothing_is_closed(joined: Joined) -> None:
    joined.left.hear(b"hello")
    joined.left.hear_end()
    assert (joined.right.said, joined.right.ended, joined.over) == (b"hello", True, [])
    joined.right.hear(b"bye")
    joined.right.hear_end()
    assert (joined.left.said, joined.left.ended, joined.over) == (b"bye", True, [None])
    assert not joined.left.closed
    assert joined.relay.passed == [5, 3]


@pytest.mark.parametrize("ended_before", [True, False])
def test_a_loss_on_one_side_aborts_the_other_and_is_told_once(joined: Joined, ended_before: bool) -> None:
    if ended_before:
        joined.left.hear_end()
    joined.right.hear_reset()
    assert joined.left.aborted
    assert [type(error) for error in joined.over] == [ConnectionResetError]
    joined.left.hear(b"behind it")
    joined.left.hear_end()
    assert len(joined.over) == 1


def test_what_is_full_pauses_the_other_side_until_it_has_drained(joined: Joined) -> None:
    joined.right.full = True
    joined.left.hear(b"first")
    joined.left.hear(b"second")
    assert (joined.right.said, joined.left.held, joined.left.paused) == (b"first", b"second", True)
    joined.right.drain()
    assert (joined.right.said, joined.left.paused, joined.right.paused) == (b"firstsecond", False, False)


def test_breaking_off_aborts_both_sides_and_tells_once(joined: Joined) -> None:
    joined.left.receiver.break_off(KeyError("a defect"))
    assert joined.left.aborted
    assert joined.right.aborted
    joined.relay.break_off(KeyError("another"))
    assert [type(error) for error in joined.over] == [KeyError]
    assert joined.left.receiver is joined.right.receiver is NOBODY


async def test_it_ends_when_what_allowed_it_has_expired(reactor: Reactor, joined: Joined) -> None:
    joined.relay.end_at(reactor.precise_now() - 1, reactor)
    while not joined.over:
        await trio.testing.wait_all_tasks_blocked()
        await trio.lowlevel.checkpoint()
    assert [type(error) for error in joined.over] == [PermissionError]
    assert joined.left.aborted
    assert joined.right.aborted


async def test_one_that_is_over_has_no_clock_any_more(reactor: Reactor, joined: Joined) -> None:
    joined.relay.end_at(math.inf, reactor)
    joined.left.hear_end()
    joined.right.hear_end()
    assert joined.relay not in reactor._clocked
