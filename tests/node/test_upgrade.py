"""Protocols that begin as an HTTP request and go on as something else: whatever it is, its bytes pass."""

from __future__ import annotations

import pytest
from trio.testing import MockClock
from trio_websocket import ConnectionClosed, WebSocketRequest, open_websocket, serve_websocket

from tests.roles import GET, Roles, Service, Talk, answer, settle, tell_head

ASK = b"GET /chat HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"


async def test_a_websocket_carries_messages_of_any_size_both_ways(roles: Roles) -> None:
    async def serve(request: WebSocketRequest) -> None:
        assert request.path == "/echo?a=b"
        socket = await request.accept()
        try:
            while True:
                await socket.send_message(await socket.get_message())
        except ConnectionClosed:
            pass

    listener = await roles.nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
    node = await roles.node()
    await roles.agent(node, listener.port)
    async with open_websocket(
        "127.0.0.1", node.proxy, "/echo?a=b", use_ssl=False, extra_headers=[(b"x-piko-endpoint", b"web")]
    ) as socket:
        for message in (b"", "text", b"x" * 125, "ü" * 40_000, b"\xff" * 1_000_000):
            await socket.send_message(message)
            assert await socket.get_message() == message
        await socket.ping()
        await socket.aclose(4321, "enough")
        assert socket.closed is not None
        assert (socket.closed.code, socket.closed.reason) == (4321, "enough")


async def switched(roles: Roles, serve: Service, protocol: bytes = b"chat/2") -> Talk:
    """A client whose connection is a service's own by now."""
    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(ASK % protocol)
    assert await client.until(b"\r\n\r\n") == SWITCH % protocol
    return client


async def test_the_bytes_around_the_switch_are_kept(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        assert b"\r\nConnection: Upgrade\r\nUpgrade: chat/2\r\n\r\n" in await talk.until(b"\r\n\r\n")
        await talk.say(SWITCH % b"chat/2" + b"service first")
        await talk.say(await talk.exactly(len(b"client first")))

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(ASK % b"chat/2" + b"client first")
    assert await client.rest() == SWITCH % b"chat/2" + b"service firstclient first"


@pytest.mark.parametrize("first", ["client", "service"])
async def test_each_side_may_end_before_the_other(roles: Roles, first: str) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(SWITCH % b"chat/2")
        if first == "client":
            await talk.say(b"all of it: " + await talk.rest())
            await talk.finish()
        else:
            await talk.say(b"that is all")
            await talk.finish()
            heard.append(await talk.rest())

    heard: list[bytes] = []
    client = await switched(roles, serve)
    if first == "client":
        await client.say(b"words")
        await client.finish()
        assert await client.rest() == b"all of it: words"
    else:
        assert await client.rest() == b"that is all"
        await client.say(b"words")
        await client.finish()
        await settle()
        assert heard == [b"words"]


@pytest.mark.parametrize("who", ["client", "service"])
async def test_a_reset_is_passed_on_as_one(roles: Roles, who: str) -> None:
    ends = []

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(SWITCH % b"chat/2")
        await talk.until(b"hello")
        if who == "service":
            await talk.reset()
        else:
            await talk.say(b"hello")
            ends.append(await talk.is_over())

    client = await switched(roles, serve)
    await client.say(b"hello")
    if who == "service":
        assert not await client.is_over()
    else:
        await client.until(b"hello")
        await client.reset()
        await settle()
        assert ends == [False]


async def test_a_service_may_decline_and_go_on_in_http(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    for _ in range(3):
        assert (await client.ask(ASK % b"chat/2")).status == 200


@pytest.mark.parametrize("protocol", [b"h2c", b"HTTP/2.0"])
async def test_nobody_gets_past_our_rules_by_switching_to_another_http(roles: Roles, protocol: bytes) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    seen = await client.ask(
        b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n"
        b"Upgrade: " + protocol + b"\r\n\r\n"
    )
    assert b"Upgrade" not in seen.body
    assert b"HTTP2" not in seen.body


async def test_a_switch_that_nobody_asked_for_is_a_502(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(SWITCH % b"chat/2" + answer(b"poison"))
        await talk.rest()

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    assert (await client.ask(GET)).status == 502


async def test_what_was_switched_is_on_no_clock_of_http(roles: Roles, mock_clock: MockClock) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(SWITCH % b"chat/2")
        while True:
            await talk.say(await talk.exactly(5))

    client = await switched(roles, serve)
    for _ in range(40):
        mock_clock.jump(9.0)  # less than a session waits for a pong
        await settle()
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"
