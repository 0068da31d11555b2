"""Answers of a service: what leaves a doubt is a 502, and its client sees nothing of it."""

from __future__ import annotations

import gzip

import pytest

from tests.roles import Roles, Talk, answer

OK = b"HTTP/1.1 200 OK\r\n"

SPLIT = {
    "NUL in a value": OK + b"Content-Length: 6\r\nX: a\0b\r\n\r\npoison",
    "CR in a value": OK + b"Content-Length: 6\r\nX: a\rSet-Cookie: a=poison\r\n\r\npoison",
    "LF in a value": OK + b"Content-Length: 6\r\nX: a\nSet-Cookie: a=poison\r\n\r\npoison",
    "a folded field": OK + b"Content-Length: 6\r\nX: a\r\n poison\r\n\r\npoison",
    "a field without a colon": OK + b"Content-Length: 6\r\npoison\r\n\r\npoison",
    "space before a colon": OK + b"Content-Length : 6\r\n\r\npoison",
    "two Content-Length, equal": OK + b"Content-Length: 6\r\nContent-Length: 6\r\n\r\npoison",
    "two Content-Length that differ": OK + b"Content-Length: 6\r\nContent-Length: 0\r\n\r\npoison",
    "Content-Length and Transfer-Encoding": OK
    + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n",
    "Content-Length: -1": OK + b"Content-Length: -1\r\n\r\npoison",
    "Transfer-Encoding: chunked, chunked": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n",
    "HTTP/2": b"HTTP/2 200\r\n\r\npoison",
    "no HTTP": b"poison\r\n\r\n",
    "an empty line first": b"\r\n" + OK + b"Content-Length: 6\r\n\r\npoison",
}


@pytest.mark.parametrize("said", SPLIT.values(), ids=SPLIT)
async def test_an_answer_that_leaves_a_doubt_is_a_502(roles: Roles, said: bytes) -> None:
    asked = []

    async def serve(talk: Talk) -> None:
        asked.append(await talk.until(b"\r\n\r\n"))
        await talk.say(said if len(asked) == 1 else answer(b"good"))
        await talk.rest()

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    post = b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n"
    got = await client.ask(post)
    assert (got.status, got.body) == (502, b'{"error":"upstream unreachable"}\n')
    assert b"poison" not in got.head
    assert (await client.ask(post)).body == b"good"
    assert len(asked) == 2


async def test_what_is_compressed_is_passed_on_as_it_is(roles: Roles) -> None:
    bomb = gzip.compress(bytes(10_000_000))

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(bomb, fields=b"Content-Encoding: gzip\r\n"))

    node = await roles.tunnel(serve)
    got = await (await roles.dial(node.proxy)).ask()
    assert (got.body, got.values(b"content-encoding")) == (bomb, [b"gzip"])
