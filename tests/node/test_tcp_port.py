"""Public TCP ports: a client that speaks nothing but TCP reaches an agent's TCP endpoint, and nobody else's."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from engine import log
from engine.node.aborts import ABORT_SECONDS, MAX_ABORTS
from proxy_adapters.proxy_protocol import proxy_header
from tests.peers import ACK, DATA, FIN, GO_AWAY, RST, SYN, WINDOW, Peer, register
from tests.roles import Roles, RunningNode, Service, Talk, echo, server_config, settle

BIG = bytes(range(256)) * 20_000
Captured = pytest.CaptureFixture[str]


async def node_with_port(roles: Roles, endpoint: str = "web", *, access_log: bool = False) -> RunningNode:
    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", endpoint)]
    config.proxy.access_log.disable = not access_log
    return await roles.node(config)


def port_of(node: RunningNode) -> int:
    (address,) = node.addresses.tcp
    return address[1]


async def opened_stream(peer: Peer) -> int:
    return (await peer.hear_until(WINDOW, SYN)).stream


async def metrics(roles: Roles, node: RunningNode) -> str:
    admin = await roles.dial(node.admin)
    got = await admin.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await admin.close()
    return got.body.decode()


async def test_bytes_go_both_ways_and_each_way_has_its_own_end(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        heard = await talk.rest()
        await talk.say(heard[::-1])
        await talk.finish()

    node = await node_with_port(roles)
    await roles.agent(node, await roles.service(serve), protocol="tcp")
    client = await roles.dial(port_of(node))
    await client.say(BIG)
    await client.finish()
    assert await client.rest() == BIG[::-1]


async def test_a_service_may_speak_first(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        await talk.say(b"220 ready\r\n")
        await talk.is_over()

    node = await node_with_port(roles)
    await roles.agent(node, await roles.service(serve), protocol="tcp")
    client = await roles.dial(port_of(node))
    assert await client.until(b"\r\n") == b"220 ready\r\n"


async def test_each_port_leads_to_its_own_endpoint(roles: Roles) -> None:
    def says(word: bytes) -> Service:
        async def serve(talk: Talk) -> None:
            await talk.say(word)
            await talk.finish()
            await talk.is_over()

        return serve

    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", "one"), ("0", "two")]  # a port alone is one of the proxy port's host
    node = await roles.node(config)
    for endpoint in ("one", "two"):
        await roles.agent(node, await roles.service(says(endpoint.encode())), endpoint=endpoint, protocol="tcp")
    for (host, port), word in zip(node.addresses.tcp, (b"one", b"two"), strict=True):
        assert host == "127.0.0.1"
        client = await roles.dial(port)
        assert await client.rest() == word


@pytest.mark.parametrize("who", ["client", "service"])
async def test_a_reset_is_passed_on_as_a_reset(roles: Roles, who: str) -> None:
    ends = []
    over = trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.exactly(5)
        if who == "service":
            await talk.reset()
        else:
            await talk.say(b"world")
            ends.append(await talk.is_over())
            over.set()

    node = await node_with_port(roles)
    await roles.agent(node, await roles.service(serve), protocol="tcp")
    client = await roles.dial(port_of(node))
    await client.say(b"hello")
    if who == "service":
        assert not await client.is_over()
    else:
        await client.exactly(5)
        await client.reset()
        await over.wait()
        assert ends == [False]


async def test_an_endpoint_that_nobody_offers_is_a_reset_and_ten_lines_a_minute(roles: Roles, capsys: Captured) -> None:
    log.configure("warn")
    node = await node_with_port(roles, "database")
    for _ in range(20):
        client = await roles.dial(port_of(node))
        assert not await client.is_over()
    log.flush()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert all('"no available upstreams","endpoint-id":"database","client-ip":"127.0.0.1"' in line for line in lines)


async def test_a_service_that_is_not_there_is_a_reset(roles: Roles) -> None:
    node = await node_with_port(roles)
    await roles.agent(node, 1, protocol="tcp")
    client = await roles.dial(port_of(node))
    assert not await client.is_over()


async def test_who_comes_right_after_the_start_is_served_by_the_agent_that_comes_back(
    roles: Roles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.node.node.PATIENCE_SECONDS", 20.0)
    node = await node_with_port(roles)
    client = await roles.dial(port_of(node))
    await client.say(b"hello")
    await settle()
    await roles.agent(node, await roles.service(echo), protocol="tcp")
    assert await client.exactly(5) == b"hello"


async def test_nobody_is_waited_for_longer_than_that(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setattr("engine.node.node.PATIENCE_SECONDS", 20.0)
    node = await node_with_port(roles)
    client = await roles.dial(port_of(node))
    await settle()
    mock_clock.jump(20)
    assert not await client.is_over()


async def test_a_client_may_stop_reading_for_as_long_as_it_likes(roles: Roles, mock_clock: MockClock) -> None:
    async def serve(talk: Talk) -> None:
        await talk.say(BIG)
        await talk.finish()
        await talk.is_over()

    node = await node_with_port(roles)
    await roles.agent(node, await roles.service(serve), protocol="tcp")
    client = await roles.dial(port_of(node), buffer=4096)
    for _ in range(12):
        await settle()
        mock_clock.jump(10)
    await settle()
    assert await client.rest() == BIG


async def test_what_passed_is_counted_and_logged_when_it_is_over(roles: Roles, capsys: Captured) -> None:
    log.configure("info")
    node = await node_with_port(roles, access_log=True)
    await roles.agent(node, await roles.service(echo), protocol="tcp")
    client = await roles.dial(port_of(node))
    await client.say(b"hello")
    await client.exactly(5)
    assert "trioduct_tcp_connections_open 1.0" in await metrics(roles, node)
    await client.finish()
    assert await client.is_over()
    await settle()
    shown = await metrics(roles, node)
    assert "trioduct_tcp_connections_open 0.0" in shown
    assert 'trioduct_tcp_connections_total{endpoint="web"} 1.0' in shown
    assert 'trioduct_tcp_bytes_total{direction="in",endpoint="web"} 5.0' in shown
    log.flush()
    lines = [line for line in capsys.readouterr().err.splitlines() if '"client-ip"' in line and "proxy.tcp" in line]
    opened, closed = lines
    assert (
        '"subsystem":"proxy.tcp.access","msg":"connection opened","endpoint-id":"web","client-ip":"127.0.0.1"' in opened
    )
    assert '"msg":"connection closed","endpoint-id":"web","client-ip":"127.0.0.1","bytes_in":5,"bytes_out":5' in closed


async def test_a_node_that_leaves_lets_nobody_in_and_waits_for_who_is_there(roles: Roles) -> None:
    node = await node_with_port(roles)
    peer = await register(roles, node)
    client = await roles.dial(port_of(node))
    stream = await opened_stream(peer)
    node.tell_to_stop()
    await peer.hear_until(GO_AWAY, 0)
    await peer.say(GO_AWAY)  # it has arrived elsewhere
    await settle()
    with pytest.raises(ConnectionRefusedError):
        await roles.dial(port_of(node))
    assert not node.ended.is_set()
    await client.say(b"hello")
    await client.finish()
    assert await peer.hear_data(stream, b"hello") == b"hello"
    await peer.hear_until(WINDOW, FIN, stream)
    await peer.say(DATA, ACK | FIN, stream, b"world")
    assert await client.rest() == b"world"
    await node.ended.wait()


async def test_who_opens_and_resets_again_and_again_is_not_let_in_for_a_while(
    roles: Roles, mock_clock: MockClock
) -> None:
    node = await node_with_port(roles)
    peer = await register(roles, node)
    for _ in range(MAX_ABORTS + 1):
        client = await roles.dial(port_of(node))
        stream = await opened_stream(peer)
        await client.reset()
        await peer.hear_until(WINDOW, RST, stream)
    client = await roles.dial(port_of(node))
    assert not await client.is_over()
    mock_clock.jump(ABORT_SECONDS)
    client = await roles.dial(port_of(node))
    await opened_stream(peer)


@pytest.mark.parametrize("version", [1, 2])
async def test_a_balancer_in_front_says_who_calls_and_none_of_that_goes_on(
    roles: Roles, version: int, capsys: Captured
) -> None:
    log.configure("info")
    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    config.proxy.trusted_proxies, config.proxy.proxy_protocol = ["127.0.0.1"], True
    config.proxy.access_log.disable = False
    node = await roles.node(config)
    await roles.agent(node, await roles.service(echo), protocol="tcp")
    header = proxy_header(version, ("192.0.2.7", 4711), ("198.51.100.1", 5432))
    for pieces in ([header + b"hello"], [header, b"hello"], [header[:9], header[9:] + b"he", b"llo"]):
        client = await roles.dial(port_of(node))
        for piece in pieces:
            await client.say(piece)
            await settle()
        assert await client.exactly(5) == b"hello"
        await client.close()
    await settle()
    log.flush()
    lines = [line for line in capsys.readouterr().err.splitlines() if '"connection opened"' in line]
    assert sum('"client-ip":"192.0.2.7"' in line for line in lines) == 3


async def test_who_is_trusted_and_does_not_say_who_calls_is_not_served(roles: Roles) -> None:
    config = server_config()
    config.proxy.tcp = [("127.0.0.1:0", "web")]
    config.proxy.trusted_proxies, config.proxy.proxy_protocol = ["127.0.0.1"], True
    node = await roles.node(config)
    await roles.agent(node, await roles.service(echo), protocol="tcp")
    client = await roles.dial(port_of(node))
    await client.say(b"hello, and more than a signature\r\n")
    assert not await client.is_over()
