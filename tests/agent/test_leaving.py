"""An agent that is told to stop: nothing new, what is under way to its end, and then the sessions."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.agent.upstream_port import Port, start
from tests.peers import DATA, FIN, GO_AWAY, PING, SYN, WINDOW, Peer
from tests.roles import GET, Role, Roles, Talk, agent_config, answer, echo, says, settle


class Slow:
    """A service that answers, as `ok`, when it may."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = trio.Event()

    async def serve(self, talk: Talk) -> None:
        while True:
            await talk.until(b"\r\n\r\n")
            self.asked += 1
            await self.may_answer.wait()
            await talk.say(answer(b"ok"))


@pytest.fixture
def slow() -> Slow:
    return Slow()


async def begin(roles: Roles, port: Port, service: int, protocol: str = "http") -> tuple[Role, Peer]:
    """An agent and its session, with a request under way on stream 2."""
    config = agent_config(port.number, service, protocol=protocol)
    config.grace_period = 20
    peer = await start(roles, port, config)
    agent = roles.running[-1]
    await peer.say(DATA, SYN, 2, GET)
    await settle()
    return agent, peer


async def test_what_is_under_way_ends_well_before_the_session_does(roles: Roles, port: Port, slow: Slow) -> None:
    agent, peer = await begin(roles, port, await roles.service(slow.serve))
    agent.tell_to_stop()
    assert (await peer.hear_until(GO_AWAY, 0)).length == 0
    await settle()
    assert not agent.ended.is_set()
    slow.may_answer.set()
    assert (await peer.hear_data(2, b"ok")).startswith(b"HTTP/1.1 200 ")
    # The node, which has heard the go-away, closes the stream where it would have kept it.
    await peer.say(WINDOW, FIN, 2)
    while await peer.hear() is not None:
        pass
    assert peer.closed is not None
    assert peer.closed.code == 1000
    await agent.ended.wait()


async def test_a_stream_that_the_node_opened_before_it_heard_is_served(roles: Roles, port: Port, slow: Slow) -> None:
    agent, peer = await begin(roles, port, await roles.service(slow.serve))
    slow.may_answer.set()
    await peer.hear_data(2, b"ok")
    await peer.say(WINDOW, FIN, 2)
    agent.tell_to_stop()
    while (frame := await peer.hear(pings=True)) is not None and frame.kind != GO_AWAY:
        pass
    await peer.say(DATA, SYN, 4, GET)
    while (frame := await peer.hear(pings=True)) is not None and frame.kind != PING:
        pass
    assert frame is not None
    await peer.say(PING, 2, length=frame.length)
    assert (await peer.hear_data(4, b"ok")).startswith(b"HTTP/1.1 200 ")
    await peer.say(WINDOW, FIN, 4)
    await agent.ended.wait()


async def test_an_idle_agent_leaves_as_soon_as_it_is_heard(roles: Roles, port: Port) -> None:
    peer = await start(roles, port, agent_config(port.number, 1))
    roles.running[-1].tell_to_stop()
    while await peer.hear() is not None:
        pass
    await roles.running[-1].ended.wait()


async def test_a_tcp_connection_is_carried_to_its_end(roles: Roles, port: Port) -> None:
    agent, peer = await begin(roles, port, await roles.service(echo), protocol="tcp")
    agent.tell_to_stop()
    await peer.hear_until(GO_AWAY, 0)
    await peer.say(DATA, FIN, 2, b"the end")
    await peer.hear_data(2, b"the end")
    await peer.hear_until(WINDOW, FIN, 2)
    await agent.ended.wait()


async def test_the_grace_period_is_the_longest_that_anything_may_take(
    roles: Roles, port: Port, slow: Slow, mock_clock: MockClock
) -> None:
    agent, peer = await begin(roles, port, await roles.service(slow.serve))
    agent.tell_to_stop()
    await peer.hear_until(GO_AWAY, 0)
    await settle()
    mock_clock.jump(9)
    await settle()
    assert not agent.ended.is_set()
    mock_clock.jump(12)
    await agent.ended.wait()


async def test_a_second_signal_ends_it_at_once(roles: Roles, port: Port, slow: Slow, mock_clock: MockClock) -> None:
    agent, peer = await begin(roles, port, await roles.service(slow.serve))
    agent.tell_to_stop()
    await peer.hear_until(GO_AWAY, 0)
    agent.tell_to_stop()
    await agent.ended.wait()


@pytest.mark.parametrize("where", ["waiting", "dialling", "silent"])
async def test_an_agent_without_a_session_leaves_at_once(
    roles: Roles, port: Port, mock_clock: MockClock, where: str
) -> None:
    peer = await start(roles, port, agent_config(port.number, 1))
    agent = roles.running[-1]
    if where != "silent":
        await peer.talk.reset()
        await settle()
    if where == "dialling":
        mock_clock.jump(1)
        await port.arrivals.receive()
    agent.tell_to_stop()
    if where == "silent":  # a node that is no more: it does not answer the ping that follows the go-away
        await settle()
        mock_clock.jump(11)
    await agent.ended.wait()


async def test_no_request_fails_while_an_agent_leaves_that_is_not_the_only_one(roles: Roles) -> None:
    node = await roles.node()
    service = await roles.service(says(b"ok"))
    for_ever = True

    async def ask() -> None:
        client = await roles.dial(node.proxy)
        while for_ever:
            assert (await client.ask(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n")).status == 200

    leaving = await roles.agent(node, service)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask)
        for _ in range(20):
            staying = await roles.agent(node, service)
            leaving.tell_to_stop()
            await leaving.ended.wait()
            leaving = staying
        for_ever = False
