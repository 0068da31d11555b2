"""A node's side of carriers that are made of requests: whoever asks for what is not his gets a clear answer, and others
are served all the while.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import pytest
import trio
from jwt.algorithms import HMACAlgorithm
from trio.testing import MockClock

from engine import limits
from engine.carriers import host
from engine.carriers.host import BODY_SECONDS, PAIR_SECONDS
from engine.carriers.poll import GONE_SECONDS
from engine.node import kept
from engine.node.agent_port import HANDSHAKE_SECONDS, IDLE_SECONDS
from engine.wire import posts, yamux
from engine.wire.posts import Hello
from tests.carriers.posting import ID, Poster, error, poster
from tests.roles import Answer, Roles, RunningNode, says, server_config, settle

SECRET = "a secret of some forty characters, or more"
OTHER = b"fedcba9876543210fedcba9876543210"


@asynccontextmanager
async def victim(roles: Roles, node: RunningNode) -> AsyncIterator[None]:
    """Another agent, with a client that asks all the time and is answered."""
    await roles.agent(node, await roles.service(says(b"hello")), endpoint="victim")
    client = await roles.dial(node.proxy)
    asked = 0

    async def ask() -> None:
        nonlocal asked
        while True:
            got = await client.ask(b"GET / HTTP/1.1\r\nHost: victim.test\r\n\r\n")
            assert (got.status, got.body) == (200, b"hello")
            asked += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        yield
        before = asked
        while asked < before + 10:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"hello", 400),
        (b"hello\n", 400),
        (b"x" * 2000, 400),
        (b"poll x {}\n", 400),
        (b"poll " + ID + b" {\xff}\n", 400),
        (b"poll " + ID + b' {"session": "new x"}\n', 400),
        (b"poll " + ID + b' {"session": "resume ' + ID + b' 1 0"}\n', 410),
        (b"stream-up " + ID + b"\n", 400),
        (b"up " + ID + b" 0\n" + bytes(posts.MAX_UP + 1), 413),
    ],
)
async def test_what_is_no_message_is_refused(roles: Roles, body: bytes, status: int) -> None:
    node = await roles.node()
    async with victim(roles, node):
        got = await (await poster(roles, node)).post(body)
        assert got.status == status
        assert error(got)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /trioduct/v1/upstream/web/1 HTTP/1.1\r\nHost: n\r\n\r\n", 405),
        (b"POST /trioduct/v1/upstream/web/1 HTTP/1.1\r\nHost: n\r\n\r\n", 400),
        (b"POST /trioduct/v1/upstream/web/1 HTTP/1.1\r\nHost: n\r\nContent-Length: 10000000\r\n\r\n", 413),
        (
            b"POST /trioduct/v1/upstream/web/1 HTTP/1.1\r\nHost: n\r\nOrigin: https://x\r\nContent-Length: 5\r\n\r\n",
            403,
        ),
        (b"POST /trioduct/v1/upstream/%0A/1 HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\n\r\n", 400),
        (b"POST /trioduct/v1/upstream/web/x HTTP/1.1\r\nHost: n\r\nContent-Length: 5\r\n\r\n", 404),
    ],
)
async def test_a_head_that_asks_for_nothing_here_is_refused(roles: Roles, head: bytes, status: int) -> None:
    node = await roles.node()
    got = await (await roles.dial(node.upstream)).ask(head)
    assert got.status == status
    assert error(got)


@pytest.mark.parametrize(
    "message",
    [
        posts.encode_up(OTHER, 0) + b"stolen",
        posts.encode_down(OTHER, 0, 0, 20),
        posts.encode_close(OTHER, 1000, "bye"),
    ],
)
@pytest.mark.parametrize("endpoint", [b"web", b"other"])
async def test_a_forged_name_and_one_of_another_endpoint_are_of_no_carrier(
    roles: Roles, message: bytes, endpoint: bytes
) -> None:
    node = await roles.node()
    if endpoint == b"other":
        await (await poster(roles, node)).open(OTHER)
    got = await (await poster(roles, node, endpoint)).post(message)
    assert (got.status, got.body) == (200, b"gone\n")


async def test_a_name_of_another_tenant_is_of_no_carrier(roles: Roles) -> None:
    node = await roles.node()
    await (await poster(roles, node, fields=b"x-piko-tenant-id: one\r\n")).open()
    other = await poster(roles, node, fields=b"x-piko-tenant-id: two\r\n")
    assert (await other.post(posts.encode_down(ID, 0, 0, 20))).body == b"gone\n"


async def test_an_opening_that_is_repeated_has_one_carrier_and_one_answer(roles: Roles) -> None:
    node = await roles.node()
    first = await (await poster(roles, node)).open(session="new 30")
    again = await (await poster(roles, node)).open(session="new 30")
    assert (first.status, first.body) == (again.status, again.body)
    other = await (await poster(roles, node)).open(session="new 5")
    assert other.status == 409
    foreign = await (await poster(roles, node, b"other")).open(session="new 30")
    assert foreign.status == 409


async def test_no_more_are_open_than_may_be_and_those_are_forgotten_in_time(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setattr(host, "MAX_OF_ONE", 50)
    node = await roles.node()
    asks = await poster(roles, node)
    for number in range(50):
        assert (await asks.open(b"%032x" % number)).status == 200
    refused = await asks.open()
    assert (refused.status, error(refused)) == (429, "too many carriers are open")
    asks = await poster(roles, node)
    assert (await asks.post(posts.encode_close(b"%032x" % 7, 1000, "bye"))).body == b"gone\n"
    assert (await asks.open()).status == 200, "who has said good-bye leaves his place"
    assert (await asks.open(OTHER)).status == 429
    for _ in range(round(GONE_SECONDS) + 5):
        mock_clock.jump(1)
        await settle()
    asks = await poster(roles, node)
    assert (await asks.open(OTHER)).status == 200
    shown = await (await roles.dial(node.admin)).ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b"\ntrioduct_carriers_refused_total 2.0\n" in shown.body


@pytest.mark.parametrize("finish", [True, False])
async def test_half_a_body_is_told_of(roles: Roles, mock_clock: MockClock, finish: bool) -> None:
    node = await roles.node()
    talk = await roles.dial(node.upstream)
    await talk.say(Poster(talk).head(b"Content-Length: 100\r\n") + posts.encode_up(ID, 0))
    await settle()
    if finish:
        await talk.finish()
        got = await talk.answer()
        assert got.status == 400
    else:
        mock_clock.jump(BODY_SECONDS + 1)
        got = await talk.answer()
        assert got.status == 408
    assert error(got)


@pytest.mark.parametrize("first", [True, False])
async def test_half_a_head_is_waited_for_for_so_long(roles: Roles, mock_clock: MockClock, first: bool) -> None:
    node = await roles.node()
    asks = await poster(roles, node)
    if not first:
        assert (await asks.open()).status == 200
    await asks.talk.say(asks.head(b"Content-Length: 100\r\n")[:-10])
    await settle()
    mock_clock.jump((HANDSHAKE_SECONDS if first else IDLE_SECONDS) + 1)
    await asks.talk.is_over()


async def test_who_has_finished_behind_its_request_is_answered(roles: Roles) -> None:
    node = await roles.node()
    asks = await poster(roles, node)
    await asks.open()
    first = await asks.post(posts.encode_down(ID, 0, 0, 20))  # the session's ping
    assert first.body.startswith(b"data 0\n")
    waits = await poster(roles, node)
    await waits.say(posts.encode_down(ID, 1, 1, 20))
    await waits.talk.finish()
    await settle()
    await asks.post(posts.encode_up(ID, 0) + yamux.header(yamux.PING, yamux.SYN, 0, 5))
    got = await waits.talk.answer()
    assert got.body.endswith(yamux.header(yamux.PING, yamux.ACK, 0, 5))
    assert got.values(b"connection") == [b"close"]


async def test_chunks_are_as_good_as_a_length_and_100_is_said_if_it_is_waited_for(roles: Roles) -> None:
    node = await roles.node()
    asks = await poster(roles, node)
    line = posts.encode_open("poll", ID, Hello())
    await asks.talk.say(asks.head(b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"))
    assert await asks.talk.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await asks.talk.say(b"5\r\n" + line[:5] + b"\r\n%x\r\n" % len(line[5:]) + line[5:] + b"\r\n0\r\n\r\n")
    assert (await asks.talk.answer()).status == 200


async def test_requests_in_a_pipeline_are_answered_in_order(roles: Roles) -> None:
    node = await roles.node()
    asks = await poster(roles, node)
    await asks.say(posts.encode_open("poll", ID, Hello()))
    await asks.say(posts.encode_down(ID, 0, 0, 20))
    await asks.say(posts.encode_down(OTHER, 0, 0, 20))
    assert (await asks.talk.answer()).body == posts.encode_welcome(posts.Welcome())
    assert (await asks.talk.answer()).body.startswith(b"data 0\n")
    assert (await asks.talk.answer()).body == b"gone\n"


async def test_a_client_of_http_1_0_is_answered_and_hung_up_on(roles: Roles) -> None:
    node = await roles.node()
    asks = await poster(roles, node)
    line = posts.encode_open("poll", ID, Hello())
    await asks.talk.say(asks.head(b"Content-Length: %d\r\n" % len(line)).replace(b"HTTP/1.1", b"HTTP/1.0") + line)
    got = await asks.talk.answer()
    assert (got.status, got.values(b"connection")) == (200, [b"close"])
    assert await asks.talk.rest() == b""


# -- Streams


async def halves(roles: Roles, node: RunningNode, fields: bytes = b"") -> tuple[Poster, Poster]:
    return await poster(roles, node), await poster(roles, node, fields=fields)


async def say_up(up: Poster, id: bytes = ID) -> None:
    line = posts.encode_up_stream(id)
    await up.talk.say(up.head(b"Transfer-Encoding: chunked\r\n") + b"%x\r\n%b\r\n" % (len(line), line))


@pytest.mark.parametrize("first", ["down", "up"])
async def test_a_stream_that_is_refused_is_told_so_on_both_halves(roles: Roles, first: str) -> None:
    node = await roles.node()
    down, up = await halves(roles, node)
    hello = Hello(f"resume {ID.decode()} 1 0")
    if first == "up":
        await say_up(up)
        await settle()
    await down.say(posts.encode_open("stream", ID, hello))
    if first == "down":
        await settle()
        await say_up(up)
    for half in (down, up):
        got = await half.talk.answer()
        assert (got.status, error(got)) == (410, "no such session")


@pytest.mark.parametrize("half", ["down", "up"])
async def test_a_half_that_stays_alone_is_told_so(roles: Roles, mock_clock: MockClock, half: str) -> None:
    node = await roles.node()
    alone = await poster(roles, node)
    if half == "up":
        await say_up(alone)
    else:
        await alone.say(posts.encode_open("stream", ID, Hello()))
    await settle()
    mock_clock.jump(PAIR_SECONDS + 1)
    assert (await alone.talk.answer()).status == 408


@pytest.mark.parametrize("half", ["down", "up"])
async def test_half_of_a_half_is_told_of(roles: Roles, mock_clock: MockClock, half: str) -> None:
    node = await roles.node()
    alone = await poster(roles, node)
    if half == "up":
        await alone.talk.say(alone.head(b"Transfer-Encoding: chunked\r\n") + b"20\r\n" + posts.encode_up_stream(ID)[:9])
    else:
        await alone.talk.say(alone.head(b"Content-Length: 99\r\n") + posts.encode_open("stream", ID, Hello()))
    await settle()
    mock_clock.jump(BODY_SECONDS + 1)
    assert (await alone.talk.answer()).status == 408


async def test_the_other_half_has_to_be_for_the_same(roles: Roles) -> None:
    node = await roles.node()
    down, up = await halves(roles, node, b"x-piko-tenant-id: another\r\n")
    await down.say(posts.encode_open("stream", ID, Hello()))
    await settle()
    await say_up(up)
    assert (await up.talk.answer()).status == 409
    up = await poster(roles, node)
    await say_up(up)
    assert (await down.talk.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_stream_that_ends_as_it_begins_is_over(roles: Roles) -> None:
    node = await roles.node()
    down, up = await halves(roles, node)
    await down.say(posts.encode_open("stream", ID, Hello("new 30")))
    await settle()
    await say_up(up)
    await up.talk.say(b"0\r\n\r\n")
    assert (await down.talk.until(b"0\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert (await up.talk.answer()).status == 200


# -- Tokens and resumptions


async def test_each_request_is_asked_for_its_token(roles: Roles) -> None:
    config = server_config()
    config.upstream.auth.hmac_secret_key = SECRET
    node = await roles.node(config)
    bearer = b"Authorization: Bearer %b\r\n"
    good = jwt.encode({"piko": {"endpoints": ["web"]}}, SECRET, "HS256").encode()
    expired = jwt.encode({"exp": time.time() - 60}, SECRET, "HS256").encode()
    opened = await (await poster(roles, node, fields=bearer % good)).open()
    assert opened.status == 200
    for fields in (b"", bearer % expired, bearer % b"x.y.z"):
        got = await (await poster(roles, node, fields=fields)).post(posts.encode_down(ID, 0, 0, 20))
        assert got.status == 401
        assert error(got)


async def test_a_token_of_a_key_that_is_not_here_is_looked_at_again_with_newer_keys(
    roles: Roles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.auth.key_set.REFETCH_SECONDS", 0)

    def write(kid: str) -> None:
        key = json.loads(HMACAlgorithm.to_jwk(SECRET)) | {"kid": kid, "alg": "HS256"}
        (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))

    async def open_with(kid: str) -> Answer:
        token = jwt.encode({}, SECRET, "HS256", {"kid": kid}).encode()
        return await (await poster(roles, node, fields=b"Authorization: Bearer %b\r\n" % token)).open(posts.new_id())

    write("old")
    config = server_config()
    config.upstream.auth.jwks.endpoint = f"file://{tmp_path}/keys.json"
    node = await roles.node(config)
    write("new")
    assert (await open_with("new")).status == 200
    unknown = await open_with("made up")
    assert (unknown.status, error(unknown)) == (401, "invalid token")


async def test_a_resumption_that_is_not_due_is_refused(roles: Roles) -> None:
    node = await roles.node()
    opened = posts.parse_welcome((await (await poster(roles, node)).open(session="new 30")).body)
    name = opened.session.split()[1]

    async def resume(
        generation: int, received: int, *, endpoint: bytes = b"web", name: str = name
    ) -> tuple[int, bytes]:
        id = posts.new_id()
        got = await (await poster(roles, node, endpoint)).open(id, f"resume {name} {generation} {received}")
        return got.status, got.body

    assert (await resume(1, 10**9))[0] == 409, "so much was never said"
    assert (await resume(1, 0, endpoint=b"other"))[0] == 410
    assert (await resume(1, 0, name=OTHER.decode()))[0] == 410
    assert await resume(1, 0) == (200, posts.encode_welcome(posts.Welcome("resumed 0")))
    assert (await resume(1, 0))[0] == 409, "it was used before"
    fenced = await (await poster(roles, node)).post(posts.encode_up(ID, 0) + b"from the grave")
    assert fenced.body == b"gone\n"
    assert (await resume(2, 0))[1] == posts.encode_welcome(posts.Welcome("resumed 0")), "what it said was not heard"


async def test_a_session_that_was_given_up_is_not_resumed(roles: Roles, mock_clock: MockClock) -> None:
    node = await roles.node()
    opened = posts.parse_welcome((await (await poster(roles, node)).open(session="new 5")).body)
    name = opened.session.split()[1]
    for _ in range(50):
        mock_clock.jump(1)
        await settle()
    got = await (await poster(roles, node)).open(OTHER, f"resume {name} 1 0")
    assert (got.status, error(got)) == (410, "no such session")


async def test_only_its_principal_goes_on_with_a_session(roles: Roles) -> None:
    config = server_config()
    config.upstream.auth.hmac_secret_key = SECRET
    node = await roles.node(config)

    def shown(**claims: object) -> bytes:
        return b"Authorization: Bearer %b\r\n" % jwt.encode(claims, SECRET, "HS256").encode()

    async def come(id: bytes, session: str, **claims: object) -> Answer:
        return await (await poster(roles, node, fields=shown(**claims))).open(id, session)

    opened = posts.parse_welcome((await come(ID, "new 30", sub="alice")).body)
    resume = f"resume {opened.session.split()[1]} 1 0"
    for claims in ({"sub": "mallory"}, {}):
        got = await come(posts.new_id(), resume, **claims)
        assert (got.status, error(got)) == (410, "no such session")
        foreign = await poster(roles, node, fields=shown(**claims))
        assert (await foreign.post(posts.encode_up(ID, 0) + b"hello")).body == b"gone\n"
    assert (await come(posts.new_id(), resume, sub="alice", exp=time.time() - 60)).status == 401
    assert (await come(posts.new_id(), resume, sub="alice", endpoints=["x"])).status == 200, "another token of hers"


async def test_carriers_are_counted_by_who_opens_them(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "MAX_OF_ONE", 5)
    monkeypatch.setattr(limits, "_whose", _by_principal)  # all of them come from one address here
    config = server_config()
    config.upstream.auth.hmac_secret_key = SECRET
    node = await roles.node(config)

    async def come(principal: str, endpoint: bytes) -> int:
        token = jwt.encode({"sub": principal}, SECRET, "HS256").encode()
        asks = await poster(roles, node, endpoint, b"Authorization: Bearer %b\r\n" % token)
        return (await asks.open(posts.new_id(), "new 30")).status

    assert [await come("alice", b"web") for _ in range(6)] == [200] * 5 + [429]
    assert await come("bob", b"other") == 200


def _by_principal(address: str, principal: str) -> list[str]:
    return [principal]


async def test_many_that_are_opened_and_left_are_gone_in_time(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    monkeypatch.setattr(kept, "MAX_SUSPENDED_OF_ONE", 30)
    config = server_config()
    config.upstream.resume = 20
    node = await roles.node(config)
    asks = await poster(roles, node)
    for _ in range(50):
        assert (await asks.open(posts.new_id(), "new 600")).status == 200

    async def shown() -> bytes:
        return (await (await roles.dial(node.admin)).ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).body

    async def pass_by(seconds: float) -> None:
        for _ in range(round(seconds)):
            mock_clock.jump(1)
            await settle()

    assert b'\ntrioduct_sessions{carrier="poll"} 50.0\n' in await shown()
    lines = b""
    for _ in range(20):  # 20 s, and as long as it is kept
        await pass_by(1)
        lines = await shown()
        if b"\ntrioduct_sessions_suspended 0.0\n" not in lines:
            break
    assert b"\ntrioduct_sessions_suspended 30.0\n" in lines
    assert b"\ntrioduct_suspensions_refused_total 20.0\n" in lines
    await pass_by(config.upstream.resume + 1)
    lines = await shown()
    assert b'\ntrioduct_sessions{carrier="poll"} 0.0\n' in lines
    assert b"\ntrioduct_sessions_suspended 0.0\n" in lines
