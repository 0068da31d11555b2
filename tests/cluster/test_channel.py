"""The channel between a supervisor and a worker, by a real pair of sockets."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from engine.cluster.channel import MAX_QUEUED, Channel
from engine.cluster.entry import Change, Entry
from engine.cluster.messages import Ask, Changed, Gone, Message, Peers, ToWorker

WHOLE = Peers([Entry("node.1", "a", "unix:/x")])


Pair = tuple[Channel[Message], Channel[Message]]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, theirs = (Channel[Message](one, ToWorker, lambda: WHOLE) for one in socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


async def test_messages_come_in_their_order(pair: Pair) -> None:
    ours, theirs = pair
    said: list[Message] = [Ask(number) for number in range(100)]
    for message in said:
        ours.send(message)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        await ours.wait_sent()
        assert [await theirs.next() for _ in said] == said
        nursery.cancel_scope.cancel()


async def test_who_does_not_read_is_told_the_whole_later_and_little_is_kept_for_him(pair: Pair) -> None:
    ours, theirs = pair
    change = Changed(Change("node.1", "a", 1, "x" * 1000, 1))
    told = 3 * MAX_QUEUED // 1000
    heard: list[Message | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        for number in range(told):
            ours.tell(change)
            if number % 1000 == 0:
                await trio.testing.wait_all_tasks_blocked()
        ours.send(Gone("node.2"))  # a command is never dropped
        while not isinstance(message := await theirs.next(), Peers):
            heard.append(message)
        assert message == WHOLE
        ours.tell(change)
        assert await theirs.next() == change
        nursery.cancel_scope.cancel()
    assert heard.pop() == Gone("node.2")
    assert heard == [change] * len(heard)
    assert len(heard) * 1000 < 2 * MAX_QUEUED < told * 1000


async def test_an_end_is_an_end_behind_what_was_said(pair: Pair) -> None:
    ours, theirs = pair
    ours.send(Ask(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.run)
        await ours.wait_sent()
        nursery.cancel_scope.cancel()
    ours.close()
    assert await theirs.next() == Ask(1)
    assert await theirs.next() is None


async def test_nobody_waits_for_a_reader_who_is_gone(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    ours.send(Ask(1))
    await ours.run()
    await ours.wait_sent()
    assert await ours.next() is None
