"""No secret of a client or a service is in anything that a node and an agent write, whatever becomes of the request."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from engine import log
from tests.roles import Roles, Talk, agent_config, answer, server_config, settle

SECRET = b"canary"


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    log.configure("debug", (), stream)
    yield stream
    log.configure("warn")


FIELDS = (
    b"Host: web.test\r\nX-Api-Key: %b\r\nAuthorization: Bearer %b\r\nReferer: https://a.test/?code=%b\r\nCookie: %b\r\n"
    b"X-Original-URL: /?x=%b\r\nSec-WebSocket-Protocol: %b\r\n\r\n"
) % ((SECRET,) * 6)
ASKED = [
    b"GET /answered?token=%b HTTP/1.1\r\n" % SECRET + FIELDS,
    b"GET /closed?token=%b HTTP/1.1\r\n" % SECRET + FIELDS,
    b"GET /broken?token=%b HTTP/1.1\r\n" % SECRET + FIELDS,
    b"GET /bad?token=%b HTTP/1.1\r\n" % SECRET + FIELDS,
    b"GET /nobody?token=%b HTTP/1.1\r\n" % SECRET + FIELDS.replace(b"web.test", b"nobody.test"),
    b"GET / HTTP/1.1\r\nHost: web.test\r\nCookie: a\x00%b\r\n\r\n" % SECRET,
    b"GET / HTTP/1.1\r\nHost: web.test\r\nAuthorization: Bearer\r\n %b\r\n\r\n" % SECRET,
    b"GET / HTTP/1.1\r\nHost: web.test\r\nCookie: a=b\r\n%b@b: c\r\n\r\n" % SECRET,
    b"GET / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %b\r\n\r\n" % SECRET,
    b'{"password": "%b"}\r\n\r\n' % SECRET,
    b"POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n" % SECRET,
]


async def test_a_secret_is_written_nowhere(roles: Roles, logged: io.StringIO) -> None:
    location = b"Location: https://user:%b@b.test/?code=%b#%b\r\nSet-Cookie: a=%b\r\n" % ((SECRET,) * 4)

    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            if b"/answered" in head:
                await talk.say(answer(status=b"302 Found", fields=location))
            elif b"/bad" in head:
                await talk.say(b"HTTP/1.1 200 OK\r\nSet-Cookie: \x00%b\r\n\r\n" % SECRET)
            elif b"/broken" in head:
                await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n%b" % SECRET)
                return
            else:
                return

    config = server_config()
    config.proxy.access_log.disable = False
    node = await roles.node(config)
    agent = agent_config(node.upstream, await roles.service(serve))
    agent.listeners[0].access_log.disable = False
    await roles.agent_with(agent)
    for request in ASKED:
        client = await roles.dial(node.proxy)
        await client.say(request)
        await client.finish()
        await client.is_over()
    await settle()
    assert log.flush()
    text = logged.getvalue()
    for what in ("/answered", "302", "upstream unreachable", "response aborted", "request refused", "/nobody"):
        assert what in text
    assert SECRET.decode() not in text
