"""The upstream port: who may register, what is said to who may not, and sessions whose agent a test plays."""

from __future__ import annotations

import json

import pytest
from trio.testing import MockClock
from wsproto.events import CloseConnection, TextMessage

from engine.node.agent_port import HANDSHAKE_SECONDS
from tests.conftest import Pki
from tests.peers import ACK, DATA, FIN, GO_AWAY, RST, SYN, WINDOW, Peer, register
from tests.roles import GET, Roles, RunningNode, Talk, answer, server_config, settle, values_of

UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: c2l4dGVlbiAgbGV0dGVycw==\r\n"
)


# -- Registering


@pytest.mark.parametrize(
    ("request_line", "fields", "status"),
    [
        (b"GET /piko/v1/upstream/web HTTP/1.1", b"", 400),
        (b"GET /piko/v1/upstream/web HTTP/1.1", UPGRADE.replace(b"13", b"8"), 426),
        (b"GET /piko/v1/upstream/web HTTP/1.1", UPGRADE.replace(b"c2l4", b""), 400),
        (b"GET /piko/v1/upstream/web HTTP/1.1", UPGRADE.replace(b"websocket", b"h2c"), 400),
        (b"GET /piko/v1/upstream/web HTTP/1.1", UPGRADE + b"Origin: https://web.test\r\n", 403),
        (b"POST /piko/v1/upstream/web HTTP/1.1", UPGRADE, 405),
        (b"GET /piko/v1/upstream/ HTTP/1.1", UPGRADE, 404),
        (b"GET /piko/v1/upstream/a/b HTTP/1.1", UPGRADE, 404),
        (b"GET /piko/v1/upstream/%0A HTTP/1.1", UPGRADE, 400),
        (b"GET /piko/v1/upstream/" + b"a" * 256 + b" HTTP/1.1", UPGRADE, 400),
        (b"GET / HTTP/1.1", UPGRADE, 404),
        (b"GET /piko/v1/upstream/web HTTP/2.0", UPGRADE, 505),
        (b"GET /piko/v1/upstream/web HTTP/1.1", UPGRADE + b"X: " + b"x" * 40_000 + b"\r\n", 431),
        (b"hello", b"", 400),
    ],
)
async def test_who_does_not_ask_properly_is_told_and_hung_up_on(
    roles: Roles, request_line: bytes, fields: bytes, status: int
) -> None:
    node = await roles.node()
    agent = await roles.dial(node.upstream)
    got = await agent.ask(request_line + b"\r\nHost: node.test\r\n" + fields + b"\r\n")
    assert (got.status, got.values(b"connection")) == (status, [b"close"])
    assert list(json.loads(got.body)) == ["error"]
    assert await agent.rest() == b""


@pytest.mark.parametrize(
    ("secure", "said"), [(False, b""), (False, b"GET /piko/v1/upstream/"), (True, b""), (True, b"\x16\x03\x01\x02")]
)
async def test_who_does_not_finish_asking_is_hung_up_on_in_time(
    roles: Roles, mock_clock: MockClock, pki: Pki, secure: bool, said: bytes
) -> None:
    config = server_config()
    if secure:
        for section in (config.upstream.tls, config.proxy.tls):
            section.cert, section.key = str(pki.cert), str(pki.key)
    node = await roles.node(config)
    ports = [node.upstream, node.proxy] if secure else [node.upstream]
    agents = [await roles.dial(port) for port in ports]
    for agent in agents:
        for byte in said:
            await settle()
            await agent.say(bytes([byte]))
    # Ten seconds in all; what is said meanwhile starts nobody's patience anew.
    for byte in b"abcdefghi":
        await settle()
        mock_clock.jump(HANDSHAKE_SECONDS / 10)
        for agent in agents if said else []:
            await agent.say(bytes([byte]))
    await settle()
    mock_clock.jump(HANDSHAKE_SECONDS / 10)
    for agent in agents:
        await agent.is_over()


@pytest.mark.parametrize(
    ("configured", "told"),
    [
        ("", []),
        ("https://*.example.com", [b"https://*.example.com"]),
        ("HTTP://Tunnel.example.com:8000/", [b"http://tunnel.example.com:8000"]),
    ],
)
async def test_an_agent_is_told_where_clients_come_in(roles: Roles, configured: str, told: list[bytes]) -> None:
    config = server_config()
    config.proxy.public_url = configured
    agent = await roles.dial((await roles.node(config)).upstream)
    await agent.say(b"GET /piko/v1/upstream/web HTTP/1.1\r\nHost: node.test\r\n" + UPGRADE + b"\r\n")
    head = await agent.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert values_of(head, b"x-trioduct-public-url") == told


async def test_who_registers_twice_serves_twice(roles: Roles) -> None:
    node = await roles.node()
    for _ in range(2):
        await register(roles, node, "a%20b")
    admin = await roles.dial(node.admin)
    answered = await admin.ask(b"GET /status/upstream/endpoints HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert json.loads(answered.body) == {"a b": 2}


# -- A session, as a foreign agent has it


async def request_of(peer: Peer, stream: int) -> bytes:
    return await peer.hear_data(stream, b"\r\n\r\n")


async def ask(roles: Roles, node: RunningNode) -> Talk:
    """A client that has asked and has no answer yet."""
    client = await roles.dial(node.proxy)
    await client.say(GET)
    return client


async def test_a_stream_is_opened_for_a_request_and_used_again_for_the_next(roles: Roles) -> None:
    node = await roles.node()
    peer = await register(roles, node)
    client = await roles.dial(node.proxy)
    for number in range(5):
        await client.say(GET)
        assert (await request_of(peer, 2)).startswith(b"GET / HTTP/1.1\r\nHost: web.test\r\n")
        await peer.say(DATA, 0 if number else ACK, 2, answer(b"%d" % number))
        assert (await client.answer()).body == b"%d" % number


async def test_requests_at_the_same_time_have_streams_of_their_own(roles: Roles) -> None:
    node = await roles.node()
    peer = await register(roles, node)
    clients = [await roles.dial(node.proxy) for _ in range(3)]
    for number, client in enumerate(clients):
        await client.say(b"GET /%d HTTP/1.1\r\nHost: web.test\r\n\r\n" % number)
    asked = {stream: (await request_of(peer, stream)).split()[1] for stream in (2, 4, 6)}
    for stream in (6, 2, 4):
        await peer.say(DATA, ACK, stream, answer(asked[stream]))
    assert [(await client.answer()).body for client in clients] == [b"/0", b"/1", b"/2"]


async def test_an_agent_that_went_away_gets_nothing_new_and_may_finish(roles: Roles) -> None:
    node = await roles.node()
    going, staying = await register(roles, node), await register(roles, node)
    client = await ask(roles, node)
    await request_of(going, 2)
    await going.say(GO_AWAY)
    for number in range(3):
        other = await ask(roles, node)
        await request_of(staying, 2)
        await staying.say(DATA, ACK if number == 0 else 0, 2, answer(b"staying"))
        assert (await other.answer()).body == b"staying"
    await going.say(DATA, ACK, 2, answer(b"going"))
    assert (await client.answer()).body == b"going"
    await going.hear_until(WINDOW, FIN, 2)  # not kept for another request


async def test_a_stream_that_is_reset_before_its_answer_is_a_502_or_another_try(roles: Roles) -> None:
    node = await roles.node()
    peer = await register(roles, node)
    client = await ask(roles, node)
    await request_of(peer, 2)
    await peer.say(WINDOW, RST, 2)
    await request_of(peer, 4)
    await peer.say(DATA, ACK, 4, answer(b"at last"))
    assert (await client.answer()).body == b"at last"
    await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n")
    await request_of(peer, 4)
    await peer.say(WINDOW, RST, 4)
    assert (await client.answer()).status == 502


async def test_a_stream_that_is_reset_inside_its_answer_breaks_it(roles: Roles) -> None:
    node = await roles.node()
    peer = await register(roles, node)
    client = await ask(roles, node)
    await request_of(peer, 2)
    await peer.say(DATA, ACK, 2, answer(b"hello")[:-1])
    await client.until(b"hell")
    await peer.say(WINDOW, RST, 2)
    assert not await client.is_over()


async def test_a_client_that_goes_away_resets_its_stream_and_no_other(roles: Roles) -> None:
    node = await roles.node()
    peer = await register(roles, node)
    leaving = await ask(roles, node)
    await request_of(peer, 2)
    staying = await ask(roles, node)
    await request_of(peer, 4)
    await leaving.reset()
    await peer.hear_until(WINDOW, RST, 2)
    await peer.say(DATA, ACK, 2, answer(b"too late"))
    await peer.say(DATA, ACK, 4, answer(b"in time"))
    assert (await staying.answer()).body == b"in time"


@pytest.mark.parametrize("how", ["RST", "FIN", "close", "text", "stream of its own", "nonsense"])
async def test_a_session_that_ends_ends_its_requests_and_nothing_else(roles: Roles, how: str) -> None:
    node = await roles.node()
    peer, other = await register(roles, node), await register(roles, node, "other")
    client = await roles.dial(node.proxy)
    await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n")
    await request_of(peer, 2)
    if how == "RST":
        await peer.talk.reset()
    elif how == "FIN":
        await peer.talk.finish()
    elif how == "close":
        await peer.send(CloseConnection(1000))
    elif how == "text":
        await peer.send(TextMessage("hello"))
    elif how == "stream of its own":
        await peer.say(WINDOW, SYN, 1)
    else:
        await peer.talk.say(b"\xff" * 50)
    assert (await client.answer()).status == 502
    assert (await client.ask()).status == 502
    if how == "text":
        while await peer.hear() is not None:
            pass
        assert peer.closed is not None
        assert peer.closed.code == 1003
    elif how == "stream of its own":
        assert (await peer.hear_until(GO_AWAY, 0)).length == 1
    await client.say(GET.replace(b"web", b"other"))
    await request_of(other, 2)


async def test_an_agent_that_answers_no_ping_is_given_up(roles: Roles, mock_clock: MockClock) -> None:
    node = await roles.node()
    peer = await register(roles, node)
    await settle()
    mock_clock.jump(10.5)
    assert not await peer.talk.is_over()
    assert (await (await roles.dial(node.proxy)).ask()).status == 502
