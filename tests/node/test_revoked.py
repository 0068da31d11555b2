"""Tokens that are taken back: nobody is let in by them any more, and what goes on by them ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

import jwt
import pytest
import trio
from trio.testing import MockClock

from engine.errors import ConfigError
from engine.loop.renewed import SOON_SECONDS
from engine.wire.websocket import WebSocket
from engine.wire.yamux import ACK, DATA, PING, SYN, header
from tests.node.test_tokens import SECRET, bearer, client_is_told, protected, token
from tests.roles import (
    GET,
    Roles,
    RunningNode,
    Talk,
    agent_config,
    echo,
    forward_config,
    settle,
    tell_head,
    values_of,
)

UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


class Revoked:
    """The file, and the moments at which a node looks at it."""

    def __init__(self, folder: Path, clock: MockClock) -> None:
        self.path = folder / "revoked"
        self._clock = clock
        self.path.write_bytes(b"# none yet\n")

    async def write(self, content: bytes) -> None:
        new = self.path.with_suffix(".new")
        new.write_bytes(content)
        os.replace(new, self.path)
        await self.look()

    async def look(self) -> None:
        await settle()
        self._clock.jump(SOON_SECONDS)
        await settle()


@pytest.fixture
def revoked(tmp_path: Path, mock_clock: MockClock) -> Revoked:
    return Revoked(tmp_path, mock_clock)


async def start(roles: Roles, revoked: Revoked) -> RunningNode:
    config = protected("proxy", "upstream")
    for port in (config.proxy, config.upstream):
        port.auth.revoked_file = str(revoked.path)
    return await roles.node(config)


async def register(roles: Roles, node: RunningNode, service: int, token_id: str, protocol: str = "http") -> None:
    config = agent_config(node.upstream, service, protocol=protocol)
    config.connect.token = token(jti=token_id)
    await roles.agent_with(config)


async def test_a_revoked_token_lets_nobody_in_and_others_are_as_before(
    roles: Roles, revoked: Revoked, mock_clock: MockClock
) -> None:
    node = await start(roles, revoked)
    await register(roles, node, await roles.service(tell_head), "agent")
    kept = await roles.dial(node.proxy)
    request = bearer(token(jti="one"))
    assert (await kept.ask(request)).status == 200
    await revoked.write(b"# taken back\n\n one \r\n")
    assert (await kept.ask(request)).status == 401
    assert await client_is_told(roles, node, bearer(token(jti="one"))) == (401, "invalid token")
    assert await client_is_told(roles, node, bearer(token(jti="two"))) == (200, "")
    assert await client_is_told(roles, node, bearer(token())) == (200, "")
    await revoked.write(b"")
    assert await client_is_told(roles, node, bearer(token(jti="one"))) == (200, "")


async def test_the_session_of_a_revoked_token_ends_and_its_streams_with_it(
    roles: Roles, revoked: Revoked, mock_clock: MockClock
) -> None:
    asked = trio.Event()

    async def never(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        await trio.sleep_forever()

    node = await start(roles, revoked)
    config = agent_config(node.upstream, await roles.service(never))
    config.connect.token = token(jti="agent")
    await roles.agent_with(config)
    client = await roles.dial(node.proxy)
    await client.say(GET[:-2] + b"Authorization: Bearer " + token(jti="client").encode() + b"\r\n\r\n")
    await asked.wait()
    await revoked.write(b"agent\n")
    assert (await client.answer()).status == 502


@pytest.mark.parametrize("way", ["tcp", "upgrade", "answer"])
async def test_what_a_client_has_under_way_ends_with_its_token(
    roles: Roles, revoked: Revoked, mock_clock: MockClock, way: str
) -> None:
    async def serve(talk: Talk) -> None:
        if way != "tcp":
            await talk.until(b"\r\n\r\n")
        if way == "upgrade":
            await talk.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        if way == "answer":
            await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        await trio.sleep_forever()

    node = await start(roles, revoked)
    await register(roles, node, await roles.service(serve), "agent", "tcp" if way in ("tcp", "leg") else "http")
    target = b"/_piko/v1/tcp/web" if way == "tcp" else b"/"
    open_ones = []
    for name in ("bad", "good"):
        client = await roles.dial(node.proxy)
        signed = b"Authorization: Bearer " + token(jti=name).encode() + b"\r\n"
        upgrade = b"" if way == "answer" else UPGRADE + KEY
        await client.say(b"GET " + target + b" HTTP/1.1\r\nHost: web.example.com\r\n" + upgrade + signed + b"\r\n")
        await client.until(b"12345" if way == "answer" else b"\r\n\r\n")
        open_ones.append(client)
    await revoked.write(b"bad\n")
    bad, good = open_ones
    assert not await bad.is_over()  # reset: what has come is not the whole
    assert await goes_on(good)


async def test_a_forwards_connection_ends_with_its_token_though_its_session_could_go_on(
    roles: Roles, revoked: Revoked, mock_clock: MockClock
) -> None:
    node = await start(roles, revoked)
    await register(roles, node, await roles.service(echo), "agent", "tcp")
    config = forward_config(node.proxy, "web")
    config.connect.token = token(jti="forward")
    config.connect.resume = 30
    forward = await roles.forward_with(config)
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"
    await revoked.write(b"forward\n")
    assert not await client.is_over()


async def opening(roles: Roles, node: RunningNode, wish: bytes, shown: str) -> tuple[Talk, bytes]:
    """A forward's session is wanted; what the node answers."""
    client = await roles.dial(node.proxy)
    await client.say(
        b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: x\r\n%b%bX-Trioduct-Session: %b\r\nAuthorization: Bearer %b\r\n\r\n"
        % (UPGRADE, KEY, wish, shown.encode())
    )
    return client, await client.until(b"\r\n\r\n")


async def answer_ping(client: Talk, number: int = 1) -> None:
    """Answer the node's ping with this number, without which it would give the session up."""
    codec, heard, ping = WebSocket(client=True), b"", header(PING, SYN, 0, 0)[:8]
    while heard.count(ping) < number or len(heard) < heard.rindex(ping) + 12:
        heard += b"".join(bytes(payload) for _, payload, _ in codec.receive(memoryview(await client.hear())))
    value = int.from_bytes(heard[heard.rindex(ping) :][8:12], "big")
    await client.say(b"".join(codec.message([header(PING, ACK, 0, value)])))


async def leg(roles: Roles, node: RunningNode, **claims: object) -> tuple[Talk, bytes]:
    """A forward's session by such a token, with its stream; and what to ask to go on with it."""
    client, head = await opening(roles, node, b"new 60", token(**claims))
    await client.say(b"".join(WebSocket(client=True).message([header(DATA, SYN, 2, 5), b"hello"])))
    await answer_ping(client)
    wish = b"resume %b 1 0" % values_of(head, b"x-trioduct-session")[0].split()[1]
    return client, wish


async def goes_on(client: Talk) -> bool:
    """Whether it is still open, when all that was said has been heard."""
    over = False

    async def wait() -> None:
        nonlocal over
        await client.is_over()
        over = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await settle()
        nursery.cancel_scope.cancel()
    return not over


@pytest.mark.parametrize("how", ["expired", "revoked"])
async def test_a_leg_lives_by_the_token_of_its_latest_carrier(
    roles: Roles, revoked: Revoked, mock_clock: MockClock, how: str
) -> None:
    node = await start(roles, revoked)
    await register(roles, node, await roles.service(echo), "agent", "tcp")
    now = time.time()
    first, wish = await leg(roles, node, jti="old", exp=now + 60)
    client, head = await opening(roles, node, wish, token(jti="new", exp=now + 3600))
    assert b" 101 " in head
    await answer_ping(client, 2)  # behind the first, which is said once more
    await first.is_over()
    if how == "expired":
        mock_clock.jump(1800)  # its first token's time is over, and the wall clock's does not count
    else:
        await revoked.write(b"old\n")
    await settle()
    assert await goes_on(client)
    if how == "expired":
        mock_clock.jump(1800)  # in which an answer to a ping is missed as well: either ends it
        await client.is_over()
    else:
        await revoked.write(b"new\n")
        assert b"token revoked" in await client.rest()


@pytest.mark.parametrize("way", ["leg", "websocket", "upgrade", "agent"])
@pytest.mark.parametrize("how", ["expired", "revoked"])
async def test_what_a_token_permits_ends_within_two_seconds_of_its_end(
    roles: Roles, revoked: Revoked, mock_clock: MockClock, way: str, how: str
) -> None:
    async def switch(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await echo(talk)

    node = await start(roles, revoked)
    serve, protocol = (switch, "http") if way == "upgrade" else (echo, "tcp")
    claims = {"jti": "bad", "exp": time.time() + 3600}
    if way != "agent":
        await register(roles, node, await roles.service(serve), "agent", protocol)
    if way == "leg":
        client, _ = await leg(roles, node, **claims)
    else:
        client = await roles.dial(node.upstream if way == "agent" else node.proxy)
        target = {"websocket": b"/_piko/v1/tcp/web", "upgrade": b"/", "agent": b"/piko/v1/upstream/web"}[way]
        shown = b"Authorization: Bearer " + token(**claims).encode() + b"\r\n"
        await client.say(b"GET %b HTTP/1.1\r\nHost: web.example.com\r\n%b%b%b\r\n" % (target, UPGRADE, KEY, shown))
        assert b" 101 " in await client.until(b"\r\n\r\n")
        if way == "agent":
            await answer_ping(client)
    if how == "expired":
        mock_clock.jump(3599 - 1)
        await settle()
        assert await goes_on(client)
    else:
        new = revoked.path.with_suffix(".new")
        new.write_bytes(b"bad\n")
        os.replace(new, revoked.path)
    for _ in range(8):  # two seconds, and the one that was left
        mock_clock.jump(0.5)
        await settle()
    await client.is_over()


@pytest.mark.parametrize("content", [None, b"good\n\xff\xfe\n", b"a\x00b\n", b"x" * 2000])
async def test_a_file_that_is_broken_or_gone_changes_nothing(
    roles: Roles, revoked: Revoked, mock_clock: MockClock, content: bytes | None
) -> None:
    node = await start(roles, revoked)
    await register(roles, node, await roles.service(tell_head), "agent")
    await revoked.write(b"bad\n")
    if content is None:
        revoked.path.unlink()
        await revoked.look()
    else:
        await revoked.write(content)
    assert await client_is_told(roles, node, bearer(token(jti="bad"))) == (401, "invalid token")
    assert await client_is_told(roles, node, bearer(token(jti="good"))) == (200, "")


async def test_a_token_whose_name_is_no_text_is_refused(roles: Roles, revoked: Revoked, mock_clock: MockClock) -> None:
    node = await start(roles, revoked)
    odd = jwt.PyJWS().encode(b'{"jti":1}', SECRET, "HS256")
    assert await client_is_told(roles, node, bearer(odd)) == (401, "invalid token")


def test_a_file_of_revoked_tokens_needs_a_key(tmp_path: Path) -> None:
    config = protected()
    config.proxy.auth.revoked_file = str(tmp_path / "none")
    with pytest.raises(ConfigError, match="no token is asked for"):
        config.proxy.auth.verify()
    config.proxy.auth.hmac_secret_key = SECRET
    with pytest.raises(ConfigError, match="expected a file with the jti"):
        config.proxy.auth.verify()
