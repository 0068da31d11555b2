"""Agents that break the rules of WebSocket or yamux: their session ends with a code, and no other one notices."""

from __future__ import annotations

import struct

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import BytesMessage

from engine.session.liveness import MAX_RESETS
from tests.node.test_agent_port import UPGRADE
from tests.peers import ACK, DATA, GO_AWAY, PING, RST, SYN, WINDOW, Peer, register
from tests.roles import GET, Roles, RunningNode, Talk, answer, echo, values_of

OTHER = GET.replace(b"web.test", b"other.test")


def frame(first: int, payload: bytes = b"", *, length: bytes | None = None) -> bytes:
    """A frame of a client, masked with zeros; `length` is what it announces in place of its own."""
    announced = bytes([0x80 | len(payload)]) if length is None else length
    return bytes([first]) + announced + bytes(4) + payload


FRAMES = {
    "29-unmasked": (b"\x82\x05hello", 1002),
    "29-RSV1": (frame(0xC2, b"x"), 1002),
    "29-RSV3": (frame(0x92, b"x"), 1002),
    "29-opcode 3": (frame(0x83, b"x"), 1002),
    "29-opcode 11": (frame(0x8B), 1002),
    "29-a ping in fragments": (frame(0x09), 1002),
    "29-a ping of 126 bytes": (frame(0x89, bytes(126), length=b"\xfe\0\x7e"), 1002),
    "29-a continuation of nothing": (frame(0x80, b"x"), 1002),
    "29-a message inside another": (frame(0x02, b"x") + frame(0x82, b"x"), 1002),
    "29-text": (frame(0x81, b"x"), 1003),
    "29-a close of one byte": (frame(0x88, b"\x03"), 1002),
    "29-a close with code 1005": (frame(0x88, b"\x03\xed"), 1002),
    "29-a close whose reason is no UTF-8": (frame(0x88, b"\x03\xe8\xff"), 1007),
    "30-a frame of 2^63-1 bytes": (frame(0x82, length=b"\xff\x7f" + b"\xff" * 7), 1009),
    "30-a frame of 2^63 bytes": (frame(0x82, length=b"\xff\x80" + bytes(7)), 1002),
    "30-a frame over 1 MiB": (frame(0x82, length=b"\xff" + struct.pack(">Q", (1 << 20) + 1)), 1009),
    "30-a length that is not minimal": (frame(0x82, length=b"\xfe\0\x05"), 1002),
}


async def attacked(roles: Roles) -> tuple[RunningNode, Peer, Talk]:
    """A node with an agent that a test plays and a good one, and a client of the former, who waits for its answer."""
    node = await roles.node()
    bad, good = await register(roles, node), await register(roles, node, "other")
    roles.nursery.start_soon(serve, good)
    client = await roles.dial(node.proxy)
    await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n")
    assert (await bad.hear_data(2, b"\r\n\r\n")).startswith(b"POST / ")
    return node, bad, client


async def serve(good: Peer) -> None:
    await good.hear_data(2, b"\r\n\r\n")
    await good.say(DATA, ACK, 2, answer(b"good"))


async def nobody_else_notices(roles: Roles, node: RunningNode, client: Talk) -> None:
    """The client of the bad agent gets a 502, and so does the next; the other agent serves."""
    assert (await client.answer()).status == 502
    assert (await client.ask()).status == 502
    assert (await client.ask(OTHER)).body == b"good"


@pytest.mark.parametrize(("said", "code"), FRAMES.values(), ids=FRAMES)
async def test_a_frame_that_websocket_forbids_ends_the_session_with_its_code(
    roles: Roles, said: bytes, code: int
) -> None:
    node, bad, client = await attacked(roles)
    await bad.talk.say(said)
    while await bad.hear() is not None:
        pass
    assert bad.closed is not None
    assert bad.closed.code == code
    await nobody_else_notices(roles, node, client)


def yamux(version: int, kind: int, flags: int, stream: int, length: int) -> bytes:
    return struct.pack(">BBHII", version, kind, flags, stream, length)


YAMUX = {
    "34-version 1": yamux(1, DATA, 0, 2, 0),
    "34-type 9": yamux(0, 9, 0, 2, 0),
    "34-data on stream 0": yamux(0, DATA, 0, 0, 1) + b"x",
    "34-a window for stream 0": yamux(0, WINDOW, 0, 0, 1),
    "34-SYN of an odd stream": yamux(0, WINDOW, SYN, 1, 0),
    "34-SYN of an even stream": yamux(0, WINDOW, SYN, 4, 0),
    "34-SYN of a stream that is open": yamux(0, DATA, SYN, 2, 0),
    "34-data on a stream that never was": yamux(0, DATA, 0, 4, 1) + b"x",
    "34-RST of a stream that never was": yamux(0, WINDOW, RST, 100, 0),
    "35-data over the window": yamux(0, DATA, ACK, 2, 1 << 30),
    "35-data over the window with SYN": yamux(0, DATA, SYN, 2, (256 << 10) + 1),
    "35-data over any window": yamux(0, DATA, ACK, 2, (1 << 32) - 1),
    "35-a window over 2^32": yamux(0, WINDOW, ACK, 2, (1 << 32) - 1),
}


@pytest.mark.parametrize("said", YAMUX.values(), ids=YAMUX)
async def test_what_yamux_forbids_ends_the_session_with_a_go_away(roles: Roles, said: bytes) -> None:
    node, bad, client = await attacked(roles)
    await bad.send(BytesMessage(said))
    assert (await bad.hear_until(GO_AWAY, 0)).length == 1
    assert await bad.hear() is None
    await nobody_else_notices(roles, node, client)


async def test_an_agent_that_resets_a_thousand_streams_in_ten_seconds_is_sent_away(
    roles: Roles, mock_clock: MockClock
) -> None:
    node, bad, client = await attacked(roles)
    for number in range(1, MAX_RESETS + 1):
        await bad.say(WINDOW, RST, 2 * number)
        assert (await client.answer()).status == 502
        await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\n\r\n")
        await bad.hear_data(2 * number + 2, b"\r\n\r\n")
    await bad.say(WINDOW, RST, 2 * MAX_RESETS + 2)
    assert (await bad.hear_until(GO_AWAY, 0)).length == 1
    assert await bad.hear() is None
    await nobody_else_notices(roles, node, client)


async def test_an_agent_that_pings_and_does_not_read_ends_and_nobody_else_notices(roles: Roles) -> None:
    node = await roles.node()
    good = await register(roles, node, "other")
    roles.nursery.start_soon(serve, good)
    bad = await register(roles, node)
    ping = frame(0x82, yamux(0, PING, SYN, 0, 1) * 5)
    with pytest.raises(trio.BrokenResourceError):  # far more than sockets hold
        await bad.talk.say(ping * 500_000)
    client = await roles.dial(node.proxy)
    assert (await client.ask(OTHER)).body == b"good"
    assert (await client.ask()).status == 502


async def test_no_extension_and_no_subprotocol_is_agreed_to(roles: Roles) -> None:
    node = await roles.tunnel(echo, protocol="tcp")
    offered = (
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
        b"Sec-WebSocket-Protocol: %b\r\n" % b", ".join(b"protocol-%d" % number for number in range(700))
    )
    for port, path in ((node.upstream, b"/piko/v1/upstream/web"), (node.proxy, b"/_piko/v1/tcp/web")):
        talk = await roles.dial(port)
        await talk.say(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n" + UPGRADE + offered + b"\r\n")
        head = await talk.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert values_of(head, b"sec-websocket-extensions") == values_of(head, b"sec-websocket-protocol") == []
