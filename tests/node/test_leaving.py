"""A node that is told to stop: agents and clients are sent elsewhere, what is under way ends well, then it is gone."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import MockClock

from engine.gateway.clocks import LEAVING_SECONDS
from engine.node.node import MOVE_SECONDS, Door
from tests.peers import ACK, DATA, FIN, GO_AWAY, WINDOW, Peer, register
from tests.roles import (
    GET,
    Roles,
    RunningNode,
    Talk,
    agent_config,
    answer,
    echo,
    forward_config,
    join,
    says,
    server_config,
    settle,
)


async def begin(roles: Roles) -> tuple[RunningNode, Peer, Talk]:
    """A node, an agent that a test plays, and a client whose request waits for the agent's answer on stream 2."""
    config = server_config()
    config.grace_period = 20
    node = await roles.node(config)
    peer = await register(roles, node)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await peer.hear_data(2, b"\r\n\r\n")
    return node, peer, client


async def moves(peer: Peer) -> None:
    """The agent hears that it is to go, and says that it has arrived elsewhere."""
    assert (await peer.hear_until(GO_AWAY, 0)).length == 0
    await peer.say(GO_AWAY)


async def ready(roles: Roles, node: RunningNode) -> int:
    client = await roles.dial(node.admin)
    return (await client.ask(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")).status


async def test_a_request_under_way_gets_its_answer_and_the_session_ends_behind_it(roles: Roles) -> None:
    node, peer, client = await begin(roles)
    assert await ready(roles, node) == 200
    node.tell_to_stop()
    await moves(peer)
    await settle()
    assert await ready(roles, node) == 503
    for port in (node.proxy, node.upstream):
        with pytest.raises(ConnectionRefusedError):
            await roles.dial(port)
    await peer.say(DATA, ACK, 2, answer(b"at last"))
    got = await client.answer()
    assert (got.body, got.values(b"connection")) == (b"at last", [b"close"])
    assert await client.is_over()
    await client.close()
    await peer.hear_until(WINDOW, FIN, 2)
    assert await peer.hear_until(GO_AWAY, 0)
    assert await peer.hear() is None
    assert peer.closed is not None
    assert (peer.closed.code, peer.closed.reason) == (1001, "node is stopping")
    await node.ended.wait()


async def test_a_client_that_asks_meanwhile_is_served_by_the_agent_that_has_moved(roles: Roles) -> None:
    node, peer, client = await begin(roles)
    idle = await roles.dial(node.proxy)
    await idle.say(GET)
    await peer.hear_data(4, b"\r\n\r\n")
    await peer.say(DATA, ACK, 4, answer(b"once"))
    assert (await idle.answer()).values(b"connection") == []
    node.tell_to_stop()
    await moves(peer)
    await settle()
    await idle.say(GET)
    await peer.hear_data(6, b"\r\n\r\n")
    await peer.say(DATA, ACK, 6, answer(b"twice"))
    assert (await idle.answer()).values(b"connection") == [b"close"]
    await idle.close()
    await peer.say(DATA, ACK, 2, answer(b"at last"))
    assert (await client.answer()).status == 200
    await client.close()
    await node.ended.wait()


async def test_a_client_that_nobody_has_let_in_yet_is_served(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is connected, by the kernel, and would be reset with the port."""
    node = await roles.node()
    clients = []
    close = Door.close

    async def close_upon_a_client(door: Door) -> None:
        clients.append(socket.create_connection(("127.0.0.1", node.proxy)))
        clients[-1].sendall(GET)
        await close(door)

    monkeypatch.setattr(Door, "close", close_upon_a_client)
    node.tell_to_stop()
    await node.ended.wait()
    for client in clients:  # of each door
        with client:
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 502 ")
    assert len(clients) == 2


async def test_idle_clients_are_sent_away_after_the_second_in_which_a_request_might_be_on_its_way(
    roles: Roles, mock_clock: MockClock
) -> None:
    node = await roles.node()
    clients = [await roles.dial(node.proxy) for _ in range(3)]
    assert (await clients[0].ask()).status == 502
    await clients[1].say(GET[:10])
    await settle()
    node.tell_to_stop()
    await settle()
    mock_clock.jump(LEAVING_SECONDS + 0.5)
    assert await clients[0].is_over()
    assert await clients[2].is_over()
    await clients[1].say(GET[10:])
    assert (await clients[1].answer()).values(b"connection") == [b"close"]
    assert not node.ended.is_set()
    for client in clients:
        await client.close()
    await node.ended.wait()


async def test_a_node_without_clients_stops_at_once(roles: Roles) -> None:
    node = await roles.node()
    node.tell_to_stop()
    await node.ended.wait()


@pytest.mark.parametrize("kind", ["websocket", "stream", "poll"])
@pytest.mark.parametrize("resume", [0, 30])
async def test_the_connections_of_a_forward_go_on(
    roles: Roles, mock_clock: MockClock, kind: str, resume: float
) -> None:
    node = await roles.tunnel(echo, protocol="tcp")
    forward = await roles.forward_with(forward_config(node.proxy, "web", carriers=[kind], resume=resume))
    client = await roles.dial(forward.ports[0][1])

    async def is_answered() -> bool:
        await client.say(b"hello")
        return await client.exactly(5) == b"hello"

    assert await is_answered()
    node.tell_to_stop()
    for seconds in (MOVE_SECONDS, LEAVING_SECONDS + 0.5, LEAVING_SECONDS + 0.5):
        await settle()
        mock_clock.jump(seconds)
        assert await is_answered()
    assert not node.ended.is_set()
    await client.finish()
    assert await client.rest() == b""
    while not node.ended.is_set():
        await settle()
        mock_clock.jump(LEAVING_SECONDS)


async def test_agents_that_do_not_move_are_not_waited_for_for_ever(roles: Roles, mock_clock: MockClock) -> None:
    node = await roles.node()
    peer = await register(roles, node)
    node.tell_to_stop()
    await peer.hear_until(GO_AWAY, 0)
    await settle()
    assert not node.ended.is_set()
    mock_clock.jump(MOVE_SECONDS)
    await node.ended.wait()


async def test_the_grace_period_is_the_longest_that_anything_may_take(roles: Roles, mock_clock: MockClock) -> None:
    node, peer, client = await begin(roles)
    node.tell_to_stop()
    await moves(peer)
    await settle()
    mock_clock.jump(19)
    await settle()
    assert not node.ended.is_set()
    mock_clock.jump(2)
    await node.ended.wait()
    assert not await client.is_over()


async def test_a_second_signal_ends_it_at_once(roles: Roles) -> None:
    node, peer, client = await begin(roles)
    node.tell_to_stop()
    await moves(peer)
    node.tell_to_stop()
    await node.ended.wait()
    assert not await client.is_over()


async def test_no_request_fails_while_agents_and_clients_move_from_node_to_node(roles: Roles) -> None:
    """The agents' way in leads to whichever node is to be used, as a balancer has it; clients come again when sent."""
    nodes = [await roles.node()]

    async def balance(talk: Talk) -> None:
        await join(talk, await roles.dial(nodes[-1].upstream))

    agents = await roles.service(balance)
    service = await roles.service(says(b"ok"))
    for _ in range(3):
        await roles.agent_with(agent_config(agents, service))
    asked, moving = 0, True

    async def ask() -> None:
        nonlocal asked
        while moving:
            client = await roles.dial(nodes[-1].proxy)
            closing = False
            while moving and not closing:
                await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n")
                got = await client.answer()
                assert (got.status, got.body) == (200, b"ok")
                closing = got.values(b"connection") == [b"close"]
                asked += 1
            await client.close()

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(ask)
        for _ in range(5):
            leaving = nodes[-1]
            nodes.append(await roles.node())
            leaving.tell_to_stop()
            await leaving.ended.wait()
        moving = False
    assert asked > 100
