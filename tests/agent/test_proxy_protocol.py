"""Services that are told by the PROXY protocol whose a connection is: by HTTP and TCP, through one node or two."""

from __future__ import annotations

import pytest
import trio

from engine.config import AgentConfig, HealthConfig
from engine.errors import Refused
from engine.wire import proxy_protocol
from engine.wire.proxy_protocol import Address
from tests.agent.upstream_port import Port
from tests.conftest import Pki
from tests.node.test_peers import Cluster
from tests.peers import DATA, RST, SYN, WINDOW, accept
from tests.programs import free_port
from tests.roles import Roles, RunningNode, Talk, agent_config, answer, server_config, values_of

VERSIONS = pytest.mark.parametrize("version", ["1", "2"])


async def header(talk: Talk) -> Address | None:
    """Who is calling."""
    said = b""
    while proxy_protocol.header_end(said) < 0:
        said += await talk._stream.receive_some(1)  # TLS may follow
    return proxy_protocol.source(said)


async def tell_client(talk: Talk) -> None:
    """A service of HTTP that answers who is calling, and how many requests have come by this connection."""
    client = await header(talk)
    number = 0
    while True:
        head = await talk.until(b"\r\n\r\n")
        number += 1
        fields = b"X-Saw: %d\r\n" % len(values_of(head, b"x-piko-client"))
        await talk.say(answer(b"%b %d" % (shown(client), number), fields=fields))


async def tell_client_of_bytes(talk: Talk) -> None:
    await talk.say(shown(await header(talk)) + b"\n")
    await talk.say(await talk.until(b"!"))


def shown(client: Address | None) -> bytes:
    return b"%b:%d" % (client[0].encode(), client[1]) if client is not None else b"nobody"


def config_for(node: RunningNode, service: int | str, version: str, protocol: str = "http") -> AgentConfig:
    config = agent_config(node.upstream, service, protocol=protocol)
    config.listeners[0].proxy_protocol = version  # type: ignore[assignment]
    return config


def own_address(talk: Talk) -> bytes:
    return b"127.0.0.1:%d" % talk._socket.socket.getsockname()[1]


LIAR = b"GET / HTTP/1.1\r\nHost: web.test\r\nX-Piko-Client: 6.6.6.6 6\r\n\r\n"


@VERSIONS
@pytest.mark.parametrize("secured", [False, True])
async def test_each_client_has_connections_of_its_own(roles: Roles, pki: Pki, version: str, secured: bool) -> None:
    async def serve_tls(talk: Talk) -> None:  # the header comes before TLS
        client = await header(talk)
        stream = trio.SSLStream(talk._socket, pki.server_context(), server_side=True, https_compatible=True)
        inner = Talk(stream)
        await inner.until(b"\r\n\r\n")
        await inner.say(answer(shown(client) + b" 1", fields=b"X-Saw: 0\r\n"))

    node = await roles.node()
    number = await roles.service(serve_tls if secured else tell_client)
    config = config_for(node, f"https://127.0.0.1:{number}" if secured else number, version)
    config.listeners[0].tls.root_cas = str(pki.ca)
    await roles.agent_with(config)
    for _ in range(2):
        client = await roles.dial(node.proxy)
        for times in range(1 if secured else 3):
            got = await client.ask(LIAR)
            assert got.body == own_address(client) + b" %d" % (times + 1)
            assert got.values(b"x-saw") == [b"0"]


async def test_whom_a_trusted_proxy_speaks_for_is_the_client(roles: Roles) -> None:
    of_node = server_config()
    of_node.proxy.trusted_proxies = ["127.0.0.1"]
    node = await roles.node(of_node)
    await roles.agent_with(config_for(node, await roles.service(tell_client), "2"))
    client = await roles.dial(node.proxy)
    for address in (b"192.0.2.7", b"2001:db8::7", b"192.0.2.7"):
        request = b"GET / HTTP/1.1\r\nHost: web.test\r\nX-Forwarded-For: 6.6.6.6, %b\r\n\r\n" % address
        got = await client.ask(request)
        assert got.body.rpartition(b" ")[0] == address + b":0"
    assert got.body.endswith(b" 2")  # the first client's connection was kept for it


@VERSIONS
async def test_a_tcp_service_is_told_of_clients_of_a_port_and_of_forwards(roles: Roles, version: str) -> None:
    of_node, number = server_config(), free_port()
    of_node.proxy.tcp = [(f"127.0.0.1:{number}", "web")]
    node = await roles.node(of_node)
    await roles.agent_with(config_for(node, await roles.service(tell_client_of_bytes), version, "tcp"))
    direct = await roles.dial(number)
    await direct.say(b"at once!")
    assert await direct.until(b"!") == own_address(direct) + b"\nat once!"
    forward = await roles.forward(node, "web")
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"hello!")
    assert (await client.until(b"!")).startswith(b"127.0.0.1:")


@pytest.mark.parametrize("protocol", ["http", "tcp"])
async def test_clients_of_another_node_are_told_of(roles: Roles, protocol: str) -> None:
    cluster, number = Cluster(roles), free_port()
    of_first = server_config()
    of_first.proxy.tcp = [(f"127.0.0.1:{number}", "web")]
    first, second = await cluster.node("first", config=of_first), await cluster.node("second")
    serve = tell_client if protocol == "http" else tell_client_of_bytes
    await roles.agent_with(config_for(second, await roles.service(serve), "2", protocol))
    if protocol == "http":
        client = await roles.dial(first.proxy)
        assert (await client.ask(LIAR)).body == own_address(client) + b" 1"
    else:
        client = await roles.dial(number)
        await client.say(b"hello!")
        assert (await client.until(b"\n")).startswith(b"127.0.0.1:")


@pytest.mark.parametrize("carriers", [["websocket"], ["poll"], ["stream"]])
async def test_every_carrier_asks_and_every_check_speaks_for_the_agent(roles: Roles, carriers: list[str]) -> None:
    seen: list[Address | None] = []

    async def serve(talk: Talk) -> None:
        seen.append(await header(talk))
        while True:
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(b"here"))

    node = await roles.node()
    config = config_for(node, await roles.service(serve), "1")
    config.connect.carriers = carriers
    config.listeners[0].health = HealthConfig(check="http")
    await roles.agent_with(config)
    client = await roles.dial(node.proxy)
    assert (await client.ask(LIAR)).body == b"here"
    assert seen[0] is None
    assert seen[1] is not None


async def test_a_node_that_does_not_tell_is_not_served(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Piko's, which does not know the field."""
    monkeypatch.setattr("engine.wire.clients.are_asked_for", lambda fields: False)
    node = await roles.node()
    for carrier in ("websocket", "stream", "poll"):
        config = config_for(node, await roles.service(tell_client), "2")
        config.connect.carriers = [carrier]
        error = await roles.failure_of_agent(config)
        assert isinstance(error, Refused)
        assert "does not tell who clients are, as proxy_protocol needs it" in str(error)


async def test_a_stream_that_does_not_begin_as_it_was_asked_for_is_reset(roles: Roles, port: Port) -> None:
    config = agent_config(
        port.number, await roles.service(tell_client_of_bytes), protocol="tcp", carriers=["websocket"]
    )
    config.listeners[0].proxy_protocol = "2"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        talk, head = await port.arrivals.receive()
        peer = await accept(talk, head, fields=b"X-Trioduct-Clients: told\r\n")
        await peer.say(DATA, SYN, 2, b"GET / HTTP/1.1\r\n")
        await peer.hear_until(WINDOW, RST, 2)
        await peer.say(DATA, SYN, 4, proxy_protocol.encode(2, ("192.0.2.7", 1), ("0.0.0.0", 0)) + b"hello!")
        await peer.hear_data(4, b"192.0.2.7:1\nhello!")
