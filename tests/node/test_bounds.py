"""How much a message may have: the same for who sends it, whatever node and agent add to it on the way."""

from __future__ import annotations

import pytest

from engine.gateway.outbound import MAX_INTERIM, MAX_INTERIM_BYTES
from engine.wire.http1 import MAX_FIELDS, MAX_HEAD
from tests.roles import Roles, Talk, answer, tell_head

UPGRADE = b"Connection: Upgrade\r\nUpgrade: chat\r\n"  # with that, agents read a head anew
EXPECT = b"Expect: 100-continue\r\nContent-Length: 0\r\n"


@pytest.mark.parametrize("more", [b"", UPGRADE, EXPECT])
async def test_a_request_with_as_many_fields_as_it_may_have_arrives(roles: Roles, more: bytes) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    own = b"Host: web.test\r\n" + more
    for count, status in ((MAX_FIELDS, 200), (MAX_FIELDS + 1, 431)):
        fields = b"".join(b"X-%d: 1\r\n" % number for number in range(count - own.count(b"\r\n")))
        got = await client.ask(b"GET / HTTP/1.1\r\n" + own + fields + b"\r\n")
        assert got.status == status
        if status == 200:
            assert got.body.count(b"\r\nX-") >= fields.count(b"\r\n") + 3


@pytest.mark.parametrize("more", [b"", UPGRADE])
async def test_a_request_with_as_large_a_head_as_it_may_have_arrives(roles: Roles, more: bytes) -> None:
    node = await roles.tunnel(tell_head)
    host = b"Host: " + b"a" * 1000 + b".test\r\nx-piko-endpoint: web\r\n"
    for size, status in ((MAX_HEAD, 200), (MAX_HEAD + 1, 431)):
        client = await roles.dial(node.proxy)
        head = b"GET / HTTP/1.1\r\n" + host + more + b"X: \r\n\r\n"
        got = await client.ask(head.replace(b"X: ", b"X: " + b"x" * (size - len(head))))
        assert got.status == status


async def test_a_host_that_is_no_name_is_refused_before_it_is_repeated(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    assert (await client.ask(b"GET / HTTP/1.1\r\nHost: " + b"a" * 1025 + b"\r\n\r\n")).status == 400


@pytest.mark.parametrize("framing", [b"Content-Length: 2\r\n", b"Connection: close\r\n"])
async def test_an_answer_with_as_many_fields_as_it_may_have_arrives(roles: Roles, framing: bytes) -> None:
    counts = [MAX_FIELDS, MAX_FIELDS + 1]

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        fields = b"".join(b"X-%d: 1\r\n" % number for number in range(counts.pop(0) - 1))
        await talk.say(b"HTTP/1.1 200 OK\r\n" + framing + fields + b"\r\nok")

    node = await roles.tunnel(serve)
    for status in (200, 502):
        client = await roles.dial(node.proxy)
        await client.say(b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n")
        heard = await client.rest()
        assert heard.startswith(b"HTTP/1.1 %d " % status)
        assert (b"\r\nX-98: 1\r\n" in heard) == (status == 200)


@pytest.mark.parametrize(
    ("interim", "count"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", MAX_INTERIM + 1),
        (b"HTTP/1.1 103 Early Hints\r\nLink: %b\r\n\r\n" % (b"x" * 8000), MAX_INTERIM_BYTES // 8000 + 1),
    ],
)
async def test_answers_before_the_answer_are_bounded_in_number_and_bytes(
    roles: Roles, interim: bytes, count: int
) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(interim * count + answer(b"too late"))

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n")
    heard = await client.rest()
    assert b"\r\n\r\nHTTP/1.1 502 " in heard
    assert b"too late" not in heard
    assert heard.count(b"HTTP/1.1 103 ") < count
