"""TCP from a local port through node and agent to a service: bytes, ends and resets arrive as they were sent."""

from __future__ import annotations

import hashlib
import random
import socket

import jwt
import pytest
import trio
from trio.testing import MockClock

from tests.agent.proxies import Proxy
from tests.conftest import Pki
from tests.roles import (
    GET,
    Roles,
    RunningForward,
    Service,
    Talk,
    echo,
    forward_config,
    server_config,
    settle,
    tell_head,
)

NOISE = random.Random(11).randbytes(10 << 20)


async def forwarded(roles: Roles, serve: Service) -> int:
    """A local port that leads to a service."""
    node = await roles.tunnel(serve, protocol="tcp")
    return (await roles.forward(node, "web")).ports[0][1]


async def test_a_service_may_speak_first(roles: Roles) -> None:
    async def smtp(talk: Talk) -> None:
        await talk.say(b"220 mail.test\r\n")
        while (line := await talk.until(b"\r\n")) != b"QUIT\r\n":
            await talk.say(b"250 " + line)
        await talk.say(b"221 bye\r\n")

    port = await forwarded(roles, smtp)
    for _ in range(20):
        client = await roles.dial(port)
        assert await client.until(b"\r\n") == b"220 mail.test\r\n"
        for line in (b"EHLO me\r\n", b"NOOP\r\n"):
            await client.say(line)
            assert await client.until(b"\r\n") == b"250 " + line
        await client.say(b"QUIT\r\n")
        assert await client.rest() == b"221 bye\r\n"


async def test_a_client_may_speak_and_end_before_there_is_a_way(roles: Roles) -> None:
    port = await forwarded(roles, echo)
    for _ in range(50):
        client = await roles.dial(port)
        await client.say(b"hello")
        await client.finish()
        assert await client.rest() == b"hello"


@pytest.mark.parametrize("first", ["client", "service"])
async def test_one_side_may_end_and_hear_all_that_the_other_has_to_say(roles: Roles, first: str) -> None:
    speech = NOISE[: 1 << 20]
    heard = []

    async def serve(talk: Talk) -> None:
        if first == "client":
            heard.append(await talk.rest())
            await talk.say(speech)
        else:
            await talk.say(b"that is all")
            await talk.finish()
            heard.append(await talk.rest())

    port = await forwarded(roles, serve)
    for _ in range(30):
        client = await roles.dial(port)
        if first == "client":
            await client.say(b"that is all")
            await client.finish()
            assert await client.rest() == speech
            assert heard.pop() == b"that is all"
        else:
            assert await client.rest() == b"that is all"
            await client.say(speech)
            await client.finish()
            await settle()
            assert heard.pop() == speech


async def test_a_reset_by_the_service_is_one_for_the_client(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        await talk.exactly(5)
        await talk.reset()

    port = await forwarded(roles, serve)
    for _ in range(50):
        client = await roles.dial(port)
        await client.say(b"hello")
        assert not await client.is_over()


async def test_a_reset_by_the_client_is_one_for_the_service(roles: Roles) -> None:
    ends = []

    async def serve(talk: Talk) -> None:
        await talk.say(await talk.exactly(5))
        ends.append(await talk.is_over())

    port = await forwarded(roles, serve)
    for _ in range(50):
        client = await roles.dial(port)
        await client.say(b"hello")
        await client.exactly(5)
        await client.reset()
    await settle()
    assert ends == [False] * 50


async def test_a_reset_behind_an_end_is_still_one(roles: Roles) -> None:
    has_ended, is_reset = trio.Event(), trio.Event()
    said = []

    async def serve(talk: Talk) -> None:
        await talk.rest()
        has_ended.set()
        await is_reset.wait()
        said.append("tried")
        await talk.say(b"hello")
        said.append("sent")

    port = await forwarded(roles, serve)
    client = await roles.dial(port)
    await client.finish()
    await has_ended.wait()
    await client.reset()
    await settle()
    is_reset.set()
    await settle()
    assert said == ["tried"]


async def test_ten_megabytes_pass_both_ways_at_once(roles: Roles) -> None:
    heard = []

    async def serve(talk: Talk) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk.say, NOISE)
            heard.append(hashlib.sha256(await talk.exactly(len(NOISE))).digest())
        await talk.finish()

    port = await forwarded(roles, serve)
    client = await roles.dial(port)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.say, NOISE)
        heard.append(hashlib.sha256(await client.exactly(len(NOISE))).digest())
    await client.finish()
    assert await client.rest() == b""
    assert heard == [hashlib.sha256(NOISE).digest()] * 2


async def test_connections_that_rest_hold_up_no_other(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        if await talk.exactly(1) == b"L":
            await talk.say(NOISE)
        else:
            await echo(talk)

    port = await forwarded(roles, serve)
    resting = [await roles.dial(port, buffer=4096) for _ in range(2)]
    for client in resting:
        await client.say(b"L")
        await client.exactly(1)
    busy = await roles.dial(port)
    await busy.say(b"e")
    for _ in range(300):
        await busy.say(b"hello")
        assert await busy.exactly(5) == b"hello"
    for client in resting:
        assert hashlib.sha256(NOISE[:1] + await client.rest()).digest() == hashlib.sha256(NOISE).digest()


async def test_each_port_leads_to_its_endpoint(roles: Roles) -> None:
    node = await roles.node()
    for name in ("one", "two"):

        async def serve(talk: Talk, name: str = name) -> None:
            await talk.say(name.encode())

        await roles.agent(node, await roles.service(serve), endpoint=name, protocol="tcp")
    forward = await roles.forward(node, "two", "one")
    assert [await (await roles.dial(port)).rest() for _, port in forward.ports] == [b"two", b"one"]


async def test_http_is_only_bytes_on_such_a_way(roles: Roles) -> None:
    port = await forwarded(roles, tell_head)
    client = await roles.dial(port)
    assert (await client.ask(GET)).body == GET


async def test_what_cannot_be_reached_is_a_closed_connection_and_no_more(roles: Roles) -> None:
    node = await roles.node()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        await roles.agent(node, nobody.getsockname()[1], endpoint="refused", protocol="tcp")
        forward = await roles.forward(node, "missing", "refused")
        for _, port in forward.ports * 3:
            assert not await (await roles.dial(port)).is_over()
    await roles.agent(node, await roles.service(echo), endpoint="missing", protocol="tcp")
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"


async def test_a_node_that_dies_breaks_what_it_carried(roles: Roles) -> None:
    node = await roles.tunnel(echo, protocol="tcp")
    forward = await roles.forward(node, "web")
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"hello")
    await client.exactly(5)
    await node.kill()
    assert not await client.is_over()
    assert not await (await roles.dial(forward.ports[0][1])).is_over()


async def test_a_connection_may_be_silent_for_as_long_as_it_likes(roles: Roles, mock_clock: MockClock) -> None:
    port = await forwarded(roles, echo)
    client = await roles.dial(port)
    for _ in range(2):
        await client.say(b"hello")
        assert await client.exactly(5) == b"hello"
        for _ in range(20):
            mock_clock.jump(9.0)  # less than a session waits for a pong
            await settle()


# -- The way to the node


@pytest.mark.parametrize(("token", "lets_in"), [("good", True), ("", False), ("bad", False)])
async def test_a_token_is_shown_to_the_node(roles: Roles, token: str, lets_in: bool) -> None:
    config = server_config()
    config.proxy.auth.hmac_secret_key = "a secret of some forty characters, or more"
    node = await roles.node(config)
    await roles.agent(node, await roles.service(echo), protocol="tcp")
    forwarding = forward_config(node.proxy, "web")
    forwarding.connect.token = jwt.encode({}, config.proxy.auth.hmac_secret_key) if token == "good" else token
    client = await roles.dial((await roles.forward_with(forwarding)).ports[0][1])
    if lets_in:
        await client.say(b"hello")
        assert await client.exactly(5) == b"hello"
    else:
        assert not await client.is_over()


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_forward_gets_out_through_a_proxy(roles: Roles, pki: Pki, kind: str, scheme: str) -> None:
    config = server_config()
    if scheme == "https":
        config.proxy.tls.cert, config.proxy.tls.key = str(pki.cert), str(pki.key)
    node = await roles.node(config)
    await roles.agent(node, await roles.service(echo), protocol="tcp")
    proxy = Proxy()
    forwarding = forward_config(node.proxy, "web", scheme=scheme)
    forwarding.connect.proxy_url = f"{kind}://127.0.0.1:{await roles.service(getattr(proxy, kind))}"
    forwarding.connect.tls.root_cas = str(pki.ca)
    client = await roles.dial((await roles.forward_with(forwarding)).ports[0][1])
    await client.say(NOISE[:100_000])
    await client.finish()
    assert await client.rest() == NOISE[:100_000]
    assert proxy.asked == [f"127.0.0.1:{node.proxy}"]


async def test_a_node_that_does_not_answer_is_not_waited_for_for_ever(roles: Roles, mock_clock: MockClock) -> None:
    async def silent(talk: Talk) -> None:
        await talk.rest()

    config = forward_config(await roles.service(silent), "web")
    client = await roles.dial((await roles.forward_with(config)).ports[0][1])
    await client.say(b"hello")
    await settle()
    mock_clock.jump(config.connect.timeout + 1)
    assert not await client.is_over()


# -- Being told to stop


async def connected(roles: Roles) -> tuple[RunningForward, Talk]:
    node = await roles.tunnel(echo, protocol="tcp")
    forward = await roles.forward(node, "web")
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"hello")
    await client.exactly(5)
    return forward, client


async def test_a_forward_that_is_told_to_stop_ends_with_its_last_connection(roles: Roles) -> None:
    forward, client = await connected(roles)
    forward.tell_to_stop()
    await settle()
    with pytest.raises(ConnectionRefusedError):
        await roles.dial(forward.ports[0][1])
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"
    assert not forward.ended.is_set()
    await client.finish()
    assert await client.rest() == b""
    await forward.ended.wait()


async def test_a_client_that_has_ended_is_owed_an_answer_by_a_forward_that_is_told_to_stop(roles: Roles) -> None:
    done = trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.rest()
        await done.wait()
        await talk.say(b"an answer")

    node = await roles.tunnel(serve, protocol="tcp")
    forward = await roles.forward(node, "web")
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"a question")
    await client.finish()
    forward.tell_to_stop()
    await settle()
    assert not forward.ended.is_set()
    done.set()
    assert await client.rest() == b"an answer"
    await forward.ended.wait()


async def test_a_forward_that_is_told_twice_ends_at_once(roles: Roles) -> None:
    forward, client = await connected(roles)
    for _ in range(2):
        forward.tell_to_stop()
    await forward.ended.wait()
    assert not await client.is_over()


async def test_an_idle_forward_stops_at_once(roles: Roles) -> None:
    forward = await roles.forward_with(forward_config(1, "web"))
    forward.tell_to_stop()
    await forward.ended.wait()


async def test_a_port_in_use_is_an_error_and_no_other_port_stays_open(roles: Roles) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = forward_config(1, "one", "two")
        config.ports[1].addr = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            await roles.forward_with(config)


async def test_while_a_proxy_wants_a_pause_clients_are_let_go_at_once(roles: Roles, mock_clock: MockClock) -> None:
    asked = 0

    async def busy(talk: Talk) -> None:
        nonlocal asked
        await talk.until(b"\r\n\r\n")
        asked += 1
        await talk.say(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n")

    config = forward_config(9, "web")
    config.connect.proxy_url = f"http://127.0.0.1:{await roles.service(busy)}"
    (port,) = (await roles.forward_with(config)).ports
    for minute in range(3):
        for _ in range(3):
            with pytest.raises(trio.BrokenResourceError):
                await (await roles.dial(port[1])).rest()
        assert asked == 1 + minute // 2
        mock_clock.jump(60)
