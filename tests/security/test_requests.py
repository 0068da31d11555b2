"""Requests on the proxy port: what leaves a doubt is answered by the node, and its service sees nothing of it."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from tests.roles import GET, Answer, Roles, RunningNode, Talk, settle, tell_head, values_of
from tests.security.conftest import Logged
from tests.security.refused import BODIES, HEADS, POST, Refused, head

CHUNKED = head(b"Transfer-Encoding: chunked", first=POST)


class Recorder:
    """A service that answers nothing and keeps all that it hears, and how each of its connections ended."""

    def __init__(self) -> None:
        self.heard = b""
        self.spoken_to = trio.Event()
        self.ends: list[bool] = []

    async def serve(self, talk: Talk) -> None:
        try:
            while data := await talk.hear():
                self.heard += data
                self.spoken_to.set()
        except trio.BrokenResourceError:
            self.ends.append(False)
        else:
            self.ends.append(True)


async def silence(client: Talk) -> None:
    """Nothing more is said to it; that it is hung up on with bytes of its own unread is a reset."""
    try:
        assert await client.rest() == b""
    except trio.BrokenResourceError:
        pass


@pytest.mark.parametrize("refused", HEADS + [each._replace(sent=CHUNKED + each.sent) for each in BODIES], ids=str)
async def test_doubt_is_refused_and_nothing_behind_it_is_read(roles: Roles, refused: Refused, logged: Logged) -> None:
    recorder = Recorder()
    node = await roles.tunnel(recorder.serve)
    client = await roles.dial(node.proxy)
    try:
        await client.say(refused.sent + GET)
    except trio.BrokenResourceError:
        pass  # it was too long to be heard to its end
    got = await client.answer()
    assert (got.status, got.values(b"connection")) == (refused.status, [b"close"])
    await silence(client)
    await settle()
    # Of a body that does not come at once, the head may have gone on; the request never becomes whole.
    if len(refused.sent) < 8 * 1024 or refused.line == 16:
        assert recorder.heard == b""
    assert b"0\r\n\r\n" not in recorder.heard
    assert b"GET" not in recorder.heard
    assert True not in recorder.ends
    [line] = logged.lines("request refused")
    assert line["status"] == refused.status
    assert all(len(str(value)) <= 250 and str(value).isprintable() for value in line.values())
    assert "Traceback" not in logged.text()


@pytest.mark.parametrize("refused", BODIES, ids=str)
async def test_a_bad_body_breaks_its_request_off(roles: Roles, refused: Refused) -> None:
    recorder = Recorder()
    node = await roles.tunnel(recorder.serve)
    client = await roles.dial(node.proxy)
    good = b"3\r\nabc\r\n"
    await client.say(CHUNKED + good)
    await recorder.spoken_to.wait()
    try:
        await client.say(refused.sent + GET)
    except trio.BrokenResourceError:
        pass
    got = await client.answer()
    assert (got.status, got.values(b"connection")) == (refused.status, [b"close"])
    await silence(client)
    await settle()
    request, _, body = recorder.heard.partition(b"\r\n\r\n")
    assert request.startswith(b"POST / ")
    assert body.startswith(good)
    assert b"0\r\n\r\n" not in body
    assert b"GET" not in body
    assert recorder.ends == [False]


# -- What is right, and must stay what it is


async def ask(roles: Roles, node: RunningNode, request: bytes) -> Answer:
    client = await roles.dial(node.proxy)
    return await client.ask(request)


async def test_an_absolute_target_routes_and_is_the_host_that_the_service_reads(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    for host in (b"other.test", b"web.test"):
        seen = await ask(roles, node, head(first=b"GET http://web.test/a HTTP/1.1", host=b"Host: " + host))
        assert seen.status == 200
        assert seen.body.startswith(b"GET /a HTTP/1.1\r\n")
        assert values_of(seen.body, b"host") == [b"web.test"]
        assert values_of(seen.body, b"x-forwarded-host") == [b"web.test"]
    assert (await ask(roles, node, head(first=b"GET http://other.test/a HTTP/1.1"))).status == 502


@pytest.mark.parametrize("switches", [False, True], ids=["", "with an upgrade"])
async def test_what_is_for_the_service_cannot_be_nominated_away(roles: Roles, switches: bool) -> None:
    node = await roles.tunnel(tell_head)
    sent = {
        b"Content-Length": b"0",
        b"Authorization": b"Basic dXNlcjpwYXNz",
        b"Cookie": b"a=b",
        b"Origin": b"https://web.test",
        b"If-Match": b'"a"',
        b"Range": b"bytes=0-",
    }
    names = [b"Host", *sent, b"x-piko-endpoint", b"X-Forwarded-For", b"X-Own", *([b"Upgrade"] if switches else [])]
    seen = await ask(
        roles,
        node,
        head(
            b"Connection: " + b", ".join(names),
            b"X-Own: of this connection",
            *map(b": ".join, sent.items()),
            *([b"Upgrade: chat"] if switches else []),
            first=POST,
        ),
    )
    assert seen.status == 200
    assert {name: values_of(seen.body, name) for name in sent} == {name: [value] for name, value in sent.items()}
    assert values_of(seen.body, b"host") == [b"web.test"]
    assert values_of(seen.body, b"x-forwarded-for") == [b"127.0.0.1"]
    assert values_of(seen.body, b"x-own") == []


async def test_an_upgrade_that_the_connection_field_does_not_name_is_none(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    for fields in ([b"Upgrade: chat"], [b"Upgrade: websocket", b"Connection: keep-alive"]):
        seen = await ask(roles, node, head(*fields))
        assert seen.status == 200
        assert values_of(seen.body, b"upgrade") == values_of(seen.body, b"connection") == []


async def test_a_trailer_that_frames_routes_or_lets_in_is_dropped(roles: Roles) -> None:
    recorder = Recorder()
    node = await roles.tunnel(recorder.serve)
    client = await roles.dial(node.proxy)
    await client.say(
        CHUNKED
        + b"5\r\nhello\r\n0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: other.test\r\n"
        + b"Authorization: Bearer x\r\nCookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\nx-piko-endpoint: other\r\n"
        + b"X-Sum: 1\r\n\r\n"
    )
    while not recorder.heard.endswith(b"\r\n\r\n") or b"hello" not in recorder.heard:
        await settle()
    assert recorder.heard.partition(b"\r\n\r\n")[2] == b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    assert values_of(recorder.heard, b"host") == [b"web.test"]


# -- Slow ones


async def test_a_head_a_byte_at_a_time_has_ten_seconds_in_all(roles: Roles, mock_clock: MockClock) -> None:
    recorder = Recorder()
    node = await roles.tunnel(recorder.serve)
    client = await roles.dial(node.proxy)
    for byte in GET[:9]:
        await client.say(bytes([byte]))
        await settle()
        mock_clock.jump(1)
    await settle()
    mock_clock.jump(1.5)
    got = await client.answer()
    assert (got.status, got.values(b"connection")) == (408, [b"close"])
    assert await client.is_over()
    assert recorder.heard == b""


async def test_a_body_of_less_than_240_bytes_a_second_is_broken_off_after_thirty(
    roles: Roles, mock_clock: MockClock
) -> None:
    recorder = Recorder()
    node = await roles.tunnel(recorder.serve)
    client = await roles.dial(node.proxy)
    await client.say(head(b"Content-Length: 100000", first=POST))
    await recorder.spoken_to.wait()
    for second in range(0, 42, 3):  # which are no pauses
        assert second <= 30 or not recorder.ends
        await client.say(b"x")
        await settle()
        mock_clock.jump(3)
        await settle()
        if recorder.ends:
            break
    assert second >= 27
    got = await client.answer()
    assert (got.status, got.values(b"connection")) == (408, [b"close"])
    await settle()
    assert recorder.ends == [False]
