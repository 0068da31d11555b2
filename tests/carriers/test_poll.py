"""Carriers of bounded requests, posted by hand: what is repeated, reordered or missing does the session no harm."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from engine.carriers import resumable
from engine.carriers.carrier import Kind
from engine.carriers.inbox import AHEAD_BYTES
from engine.carriers.ladder import Ladder, registration
from engine.carriers.poll import MAX_REPEATS, RETRY_SECONDS
from engine.loop.dial import Server
from engine.loop.duplex import Nobody
from engine.loop.reactor import Reactor
from engine.session.liveness import PONG_SECONDS
from engine.wire import posts, yamux
from engine.wire.posts import Hello
from perf.topologies.cutter import Cutter
from proxy_adapters import Router
from tests.carriers.posting import ID, error, poster
from tests.roles import Roles, RunningNode, Talk, agent_config, answer, settle

PING = yamux.header(yamux.PING, yamux.SYN, 0, 77)
ANSWER = yamux.header(yamux.PING, yamux.ACK, 0, 77)


async def opened(roles: Roles) -> RunningNode:
    """A node with one carrier, whose first ping is collected: the next number is 1."""
    node = await roles.node()
    asks = await poster(roles, node)
    assert (await asks.open()).status == 200
    assert (await asks.post(posts.encode_down(ID, 0, 0, 20))).body.startswith(b"data 0\n")
    return node


async def test_the_same_number_gets_the_same_answer_until_it_is_said_to_have_come(roles: Roles) -> None:
    node = await opened(roles)
    asks = await poster(roles, node)
    first = await asks.post(posts.encode_down(ID, 0, 0, 20))
    assert (await asks.post(posts.encode_down(ID, 0, 0, 20))).body == first.body
    await asks.post(posts.encode_up(ID, 0) + PING)
    second = await asks.post(posts.encode_down(ID, 1, 1, 20))
    assert second.body.endswith(ANSWER)


async def test_a_repeated_number_whose_answer_has_come_takes_nothing_from_the_session(roles: Roles) -> None:
    node = await opened(roles)
    asks = await poster(roles, node)
    await asks.say(posts.encode_down(ID, 1, 1, 20))
    await settle()
    late = await (await poster(roles, node)).post(posts.encode_down(ID, 0, 0, 20))
    assert (late.status, error(late)) == (409, "that is no number of a request that is due")
    await (await poster(roles, node)).post(posts.encode_up(ID, 0) + PING)
    assert (await asks.talk.answer()).body.endswith(ANSWER)


async def test_who_repeats_what_waits_gets_the_same_answer(roles: Roles) -> None:
    node = await opened(roles)
    several = [await poster(roles, node) for _ in range(MAX_REPEATS)]
    for asks in several:
        await asks.say(posts.encode_down(ID, 1, 1, 20))
    await settle()
    refused = await (await poster(roles, node)).post(posts.encode_down(ID, 1, 1, 20))
    assert refused.status == 429
    await (await poster(roles, node)).post(posts.encode_up(ID, 0) + PING)
    bodies = {(await asks.talk.answer()).body for asks in several}
    assert len(bodies) == 1
    assert bodies.pop().endswith(ANSWER)


@pytest.mark.parametrize("number", [5, 10**14])
async def test_a_number_that_is_far_ahead_is_refused(roles: Roles, number: int) -> None:
    node = await opened(roles)
    assert (await (await poster(roles, node)).post(posts.encode_down(ID, number, 1, 20))).status == 409


@pytest.mark.parametrize("session", ["", "new 30"])
async def test_what_is_posted_right_behind_the_opening_is_heard(roles: Roles, session: str) -> None:
    node = await roles.node()
    asks = await poster(roles, node)
    await asks.say(posts.encode_open("poll", ID, Hello(session)))
    await asks.say(posts.encode_up(ID, 0) + PING)
    await asks.talk.answer()
    await asks.talk.answer()
    await settle()
    assert ANSWER in (await asks.post(posts.encode_down(ID, 0, 0, 20))).body


async def test_batches_that_come_twice_overlapping_and_out_of_order_are_heard_once(roles: Roles) -> None:
    node = await opened(roles)
    asks = await poster(roles, node)
    frames = PING * 3
    for start, end, taken in (
        (20, 36, 0),
        (0, 10, 10),
        (0, 10, 10),
        (5, 15, 15),
        (20, 30, 15),
        (12, 22, 36),
        (0, 36, 36),
    ):
        got = await asks.post(posts.encode_up(ID, start) + frames[start:end])
        assert got.body == posts.encode_taken(taken)
    heard = (await asks.post(posts.encode_down(ID, 1, 1, 20))).body
    assert heard.count(ANSWER) == 3


async def test_a_batch_that_is_far_ahead_is_refused_and_its_session_goes_on(roles: Roles) -> None:
    node = await opened(roles)
    asks = await poster(roles, node)
    got = await asks.post(posts.encode_up(ID, AHEAD_BYTES) + b"x")
    assert (got.status, error(got)) == (409, "that is too far ahead")
    asks = await poster(roles, node)
    await asks.post(posts.encode_up(ID, 0) + PING)
    assert (await asks.post(posts.encode_down(ID, 1, 1, 20))).body.endswith(ANSWER)


async def test_who_leaves_one_out_is_ended_and_what_is_ahead_of_it_is_bounded(
    roles: Roles, mock_clock: MockClock
) -> None:
    node = await opened(roles)
    asks = await poster(roles, node)
    step = posts.MAX_UP
    answers = [await asks.post(posts.encode_up(ID, offset) + bytes(step)) for offset in range(1, AHEAD_BYTES, step)]
    assert [got.body for got in answers[:-1]] == [posts.encode_taken(0)] * (len(answers) - 1)
    assert answers[-1].status == 409
    await settle()
    mock_clock.jump(PONG_SECONDS + 1)  # that of the node's ping would have been behind it
    await settle()
    asks = await poster(roles, node)
    assert (await asks.post(posts.encode_up(ID, 0) + b"x")).body == b"gone\n"
    assert (await asks.post(posts.encode_down(ID, 1, 1, 20))).body == b"gone\n"


@pytest.mark.interpreted
async def test_who_collects_all_and_confirms_nothing_is_ended(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable, "LIMIT", 16 * 1024)
    monkeypatch.setattr(resumable, "FAR_LIMIT", 16 * 1024)
    monkeypatch.setattr(resumable, "EXCESS", 48 * 1024)
    node = await roles.node()
    asks = await poster(roles, node)
    assert (await asks.open(session="new 30")).status == 200
    pings = PING * 200
    collected, answer = 0, b""
    for number in range(100):
        answer = (await asks.post(posts.encode_down(ID, number, number, 20))).body
        if answer == b"gone\n":
            break
        collected += len(answer)
        await asks.post(posts.encode_up(ID, number * len(pings)) + pings)
    assert answer == b"gone\n"
    assert collected < 3 * 64 * 1024


async def test_what_was_said_before_a_good_bye_is_collected_behind_it(roles: Roles) -> None:
    node = await opened(roles)
    asks = await poster(roles, node)
    await asks.say(posts.encode_down(ID, 1, 1, 20))
    await settle()
    node.tell_to_stop()
    said = (await asks.talk.answer()).body
    assert said.startswith(b"data ")


@pytest.mark.parametrize("size", [10, 3_000_000])
async def test_an_agent_that_is_told_to_stop_says_all_before_it_goes(roles: Roles, size: int) -> None:
    asked = trio.Event()
    go = trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        await go.wait()
        await talk.say(answer(b"x" * size))

    node = await roles.node()
    agent = await roles.agent_with(agent_config(node.upstream, await roles.service(serve), carriers=["poll"]))
    client = await roles.dial(node.proxy)
    async with trio.open_nursery() as nursery:

        async def ask() -> None:
            assert (await client.ask()).body == b"x" * size

        nursery.start_soon(ask)
        await asked.wait()
        agent.tell_to_stop()
        go.set()
    await agent.ended.wait()


class Waits(Nobody):
    """Hears that a carrier was lost."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def lost(self, error: Exception) -> None:
        self.error = error


async def test_a_client_that_is_cut_off_knows_it_soon(roles: Roles, reactor: Reactor, mock_clock: MockClock) -> None:
    node = await roles.node()
    cutter = Cutter(node.upstream)
    server = Server(f"http://127.0.0.1:{await roles.nursery.start(cutter.run)}", router=Router(["direct"]))
    carrier, _ = await Ladder(registration(server, "web", list), [Kind.POLL]).open(lambda: None)
    carrier.receiver = waits = Waits()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(carrier.run)
        await settle()
        passed = 0.0
        with cutter.away():
            await settle()
            while waits.error is None:
                mock_clock.jump(RETRY_SECONDS / 3)
                passed += RETRY_SECONDS / 3
                await settle()
    assert passed <= 2 * RETRY_SECONDS
