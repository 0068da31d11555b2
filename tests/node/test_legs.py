"""A forward's session on the proxy port, over a real socket."""

from __future__ import annotations

from engine.wire.websocket import BINARY, WebSocket
from engine.wire.yamux import DATA, SYN, header
from tests.roles import Roles, echo

OPENING = (
    b"GET /_piko/v1/tcp/web HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"X-Trioduct-Session: new 30\r\n\r\n"
)


async def test_what_a_forward_says_right_behind_its_opening_is_heard(roles: Roles) -> None:
    node = await roles.tunnel(echo, protocol="tcp")
    client = await roles.dial(node.proxy)
    codec = WebSocket(client=True)
    said = b"".join(codec.message([header(DATA, SYN, 2, 5), b"hello"]))
    await client.say(OPENING + said)
    assert b"X-Trioduct-Session: opened ".lower() in (await client.until(b"\r\n\r\n")).lower()
    heard = b""
    while b"hello" not in heard:
        for opcode, payload, _ in codec.receive(memoryview(await client.hear())):
            assert opcode == BINARY
            heard += payload
