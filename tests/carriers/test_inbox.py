"""Pieces that come in any order, twice, or overlapping: each byte is given once, in its turn, or the end is seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.carriers.inbox import AHEAD_BYTES, MAX_AHEAD, Inbox
from engine.loop.memory import Account
from engine.loop.reactor import Reactor, current
from tests.roles import settle

SIZE = 2000


class Taker:
    """A receiver that takes as much as it is told to, each time."""

    idle = False

    def __init__(self, takes: list[int] | None = None) -> None:
        self.heard = b""
        self.takes = takes or []
        self.before: Callable[[], None] | None = None

    def received(self, data: memoryview) -> int:
        if self.before is not None:
            self.before()
        taken = min(len(data), self.takes.pop(0)) if self.takes else len(data)
        self.heard += data[:taken]
        return taken

    def ended(self) -> None: ...

    def lost(self, error: Exception) -> None: ...

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None: ...


class Owner:
    def overdrawn(self) -> None: ...


def pattern(start: int, end: int) -> bytes:
    return bytes((at * 7 + at // 256) % 256 for at in range(start, end))


def open_inbox(reactor: Reactor, taker: Taker, limit: int = 1 << 30) -> tuple[Inbox, Account, list[Exception]]:
    failures: list[Exception] = []
    account = Account(reactor.memory, Owner(), limit)
    inbox = Inbox(account, failures.append, failures.append)
    inbox.receiver = taker
    return inbox, account, failures


@given(
    st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, 400)), max_size=60),
    st.lists(st.integers(0, 300), max_size=40),
    st.lists(st.integers(0, 59), max_size=6),
)
@settings(max_examples=50)
def test_pieces_in_any_order_give_each_byte_once(
    pieces: list[tuple[int, int]], takes: list[int], pauses: list[int]
) -> None:
    async def run() -> None:
        reactor = Reactor()
        current.set(reactor)
        taker = Taker(takes)
        inbox, account, failures = open_inbox(reactor, taker)
        for index, (offset, size) in enumerate(pieces):
            if index in pauses:
                inbox.pause()
            assert inbox.receive(offset, pattern(offset, offset + size))
            assert taker.heard == pattern(0, len(taker.heard))
            assert len(taker.heard) <= inbox.end
            if index % 3 == 0:
                inbox.resume()
        # Whatever did not come is said again, as a sender does that was not answered.
        for offset in range(0, SIZE + 400, 100):
            assert inbox.receive(offset, pattern(offset, offset + 100))
        inbox.resume()
        for _ in range(len(takes) + 2):
            inbox.turn()
        assert taker.heard == pattern(0, inbox.end)
        assert inbox.end >= SIZE + 400
        assert account.used == 0
        assert failures == []
        reactor.close()

    trio.run(run)


async def test_a_piece_that_comes_again_with_more_behind_it_is_not_cut_short(reactor: Reactor) -> None:
    taker = Taker()
    inbox, account, _ = open_inbox(reactor, taker)
    inbox.receive(10, pattern(10, 15))
    inbox.receive(10, pattern(10, 30))
    inbox.receive(10, pattern(10, 12))
    assert account.used == 20
    inbox.receive(0, pattern(0, 10))
    assert taker.heard == pattern(0, 30)
    assert account.used == 0


async def test_pieces_that_are_too_far_ahead_are_not_taken(reactor: Reactor) -> None:
    inbox, account, _ = open_inbox(reactor, Taker())
    assert not inbox.receive(AHEAD_BYTES, b"x")
    assert not inbox.receive(10**17, b"x")
    assert inbox.receive(AHEAD_BYTES - 1, b"x")
    for offset in range(1, MAX_AHEAD):
        assert inbox.receive(2 * offset, b"x")
    assert not inbox.receive(2 * MAX_AHEAD, b"x")
    assert inbox.receive(2, b"x"), "one that has come may come again"
    assert account.used == MAX_AHEAD


async def test_more_than_may_be_held_is_told(reactor: Reactor) -> None:
    inbox, _, failures = open_inbox(reactor, Taker([0] * 100), limit=100)
    inbox.pause()
    inbox.receive(0, bytes(60))
    assert failures == []
    inbox.receive(200, bytes(60))
    assert [type(error) for error in failures] == [MemoryError]


async def test_nothing_is_given_while_it_is_paused(reactor: Reactor) -> None:
    taker = Taker()
    inbox, _, _ = open_inbox(reactor, taker)
    inbox.pause()
    inbox.receive(0, b"hello")
    await settle()
    assert taker.heard == b""
    inbox.resume()
    await settle()
    assert taker.heard == b"hello"


async def test_what_is_not_taken_is_offered_again(reactor: Reactor) -> None:
    taker = Taker([2, 0, 1])
    inbox, account, _ = open_inbox(reactor, taker)
    inbox.receive(0, b"hello")
    assert account.used == 3
    await inbox.wait_taken()
    assert taker.heard == b"hello"
    assert account.used == 0


async def test_a_receiver_may_close_it_while_it_is_given_something(reactor: Reactor) -> None:
    taker = Taker()
    inbox, account, _ = open_inbox(reactor, taker)
    taker.before = partial(_close, inbox, account)
    inbox.receive(5, b"world")
    inbox.receive(0, b"hello")
    await settle()
    assert taker.heard == b"hello"
    assert reactor.memory.used == 0
    assert inbox.receive(10, b"more"), "what comes then is of no interest"
    assert account.used == 0


def _close(inbox: Inbox, account: Account) -> None:
    inbox.close()
    account.end()


async def test_all_who_wait_for_it_to_be_taken_are_told(reactor: Reactor) -> None:
    inbox, _, _ = open_inbox(reactor, Taker())
    inbox.pause()
    inbox.receive(0, b"hello")
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(inbox.wait_taken)
            nursery.start_soon(inbox.wait_taken)
            await settle()
            inbox.resume()


async def test_who_waits_for_it_to_be_taken_hears_of_its_end(reactor: Reactor) -> None:
    inbox, _, _ = open_inbox(reactor, Taker())
    inbox.pause()
    inbox.receive(0, b"hello")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_taken)
        await settle()
        inbox.close()
