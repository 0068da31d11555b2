"""The route for raw TCP on the proxy port, as any WebSocket client may use it; our own is tested in tests/forward."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.roles import Roles, RunningNode, Talk, echo, server_config, settle, tell_head

PATH = "/_piko/v1/tcp/web"
ASK = (
    b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: c2l4dGVlbiAgbGV0dGVycw==\r\n\r\n"
)


@asynccontextmanager
async def connected(node: RunningNode, path: str = PATH) -> AsyncIterator[WebSocketConnection]:
    """trio-websocket's client, which leaves it to us to close a connection that its server has closed."""
    async with await trio.open_tcp_stream("127.0.0.1", node.proxy) as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(nursery, stream, f"127.0.0.1:{node.proxy}", path)
        nursery.cancel_scope.cancel()


async def close_code(socket: WebSocketConnection) -> int:
    """What the other end closes it with, next."""
    with pytest.raises(ConnectionClosed):
        await socket.get_message()
    assert socket.closed is not None
    return int(socket.closed.code)


async def test_messages_are_bytes_whatever_their_borders(roles: Roles) -> None:
    node = await roles.tunnel(echo, protocol="tcp")
    async with connected(node) as socket:
        message = bytes(range(256)) * 2000
        await socket.send_message(b"")
        await socket.send_message(message[:1])
        await socket.send_message(message[1:])
        heard = b""
        while len(heard) < len(message):
            part = await socket.get_message()
            assert isinstance(part, bytes)
            heard += part
        assert heard == message
        await socket.ping()


async def test_what_is_said_right_behind_the_request_is_kept(roles: Roles) -> None:
    node = await roles.tunnel(echo, protocol="tcp")
    client = await roles.dial(node.proxy)
    await client.say(ASK + b"\x82\x85\0\0\0\0hello")  # binary, masked with zeros
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
    assert await client.exactly(7) == b"\x82\x05hello"


async def test_an_endpoint_may_have_a_name_that_has_to_be_escaped(roles: Roles) -> None:
    node = await roles.node()
    await roles.agent(node, await roles.service(echo), endpoint="häuser & co", protocol="tcp")
    path = "/_piko/v1/tcp/h%C3%A4user%20%26%20co?query"
    async with connected(node, path) as socket:
        await socket.send_message(b"hello")
        assert await socket.get_message() == b"hello"


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ([], b"https://evil.test", 403),
        ([], b"http://x", 403),  # as if it were ours: services have pages on the node's hosts, and names can be rebound
        ([], b"null", 403),
        (["https://app.test"], b"https://evil.test", 403),
        (["https://app.test"], b"https://app.test:8443", 403),
        (["https://app.test"], b"https://app.test", 101),
        (["*"], b"https://evil.test", 101),
    ],
)
async def test_a_web_page_opens_a_tcp_endpoint_only_if_its_origin_is_allowed(
    allowed: list[str], origin: bytes, status: int, roles: Roles
) -> None:
    reached = []

    async def serve(talk: Talk) -> None:
        reached.append(True)
        await echo(talk)

    config = server_config()
    config.proxy.allowed_origins = allowed
    node = await roles.node(config)
    await roles.agent(node, await roles.service(serve), protocol="tcp")
    client = await roles.dial(node.proxy)
    head = ASK.replace(b"Host: x\r\n", b"Host: x\r\nOrigin: %b\r\n" % origin)
    await client.say(head + (b"\x82\x85\0\0\0\0hello" if status == 101 else b""))
    assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 %d " % status)
    if status == 101:
        assert await client.exactly(7) == b"\x82\x05hello"
    await settle()
    assert bool(reached) == (status == 101)


async def test_a_client_that_closes_has_ended_and_so_has_a_service(roles: Roles) -> None:
    ends = []

    async def serve(talk: Talk) -> None:
        if await talk.exactly(3) == b"end":
            await talk.say(b"bye")
        else:
            ends.append(await talk.is_over())

    node = await roles.tunnel(serve, protocol="tcp")
    async with connected(node) as socket:
        await socket.send_message(b"...")
        await socket.aclose()
        await settle()
    assert ends == [True]
    async with connected(node) as socket:
        await socket.send_message(b"end")
        assert await socket.get_message() == b"bye"
        assert await close_code(socket) == 1000


@pytest.mark.parametrize("service_there", [True, False])
async def test_a_reset_is_no_proper_close(roles: Roles, service_there: bool) -> None:
    async def serve(talk: Talk) -> None:
        await talk.hear()
        await talk.reset()

    node = await roles.node()
    await roles.agent(node, await roles.service(serve) if service_there else 1, protocol="tcp")
    async with connected(node) as socket:
        await socket.send_message(b"hello")
        assert await close_code(socket) == 1011


async def test_text_is_refused_and_the_service_sees_a_reset(roles: Roles) -> None:
    ends = []

    async def serve(talk: Talk) -> None:
        ends.append(await talk.is_over())

    node = await roles.tunnel(serve, protocol="tcp")
    async with connected(node) as socket:
        await settle()
        await socket.send_message("text")
        assert await close_code(socket) == 1003
    await settle()
    assert ends == [False]


async def test_who_pings_and_does_not_read_is_given_up(roles: Roles) -> None:
    ended = trio.Event()

    async def serve(talk: Talk) -> None:
        assert not await talk.is_over()
        ended.set()

    node = await roles.tunnel(serve, protocol="tcp")
    client = await roles.dial(node.proxy, buffer=4096)
    await client.say(ASK)
    ping = b"\x89\xfd" + bytes(4 + 125)  # masked with zeros

    async def ask() -> None:
        with suppress(trio.BrokenResourceError):  # reset, for it does not read
            await client.say(ping * 200_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await ended.wait()
        nursery.cancel_scope.cancel()


async def test_an_endpoint_that_nobody_serves_is_a_502(roles: Roles) -> None:
    node = await roles.node()
    client = await roles.dial(node.proxy)
    got = await client.ask(ASK)
    assert (got.status, json.loads(got.body)) == (502, {"error": "no available upstreams"})


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"", 400),
        (b"Connection: Upgrade\r\nUpgrade: chat\r\n", 400),
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: c2l4dGVlbiAgbGV0dGVycw==\r\n", 426),
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", 400),
    ],
)
async def test_only_a_websocket_gets_through(roles: Roles, fields: bytes, status: int) -> None:
    node = await roles.tunnel(echo, protocol="tcp")
    client = await roles.dial(node.proxy)
    request = b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n"
    for _ in range(2):
        assert (await client.ask(request)).status == status


async def test_another_method_on_that_path_is_a_request_like_any(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    request = b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n"
    assert (await client.ask(request)).body.startswith(b"POST " + PATH.encode())
