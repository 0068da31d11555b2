"""A WebSocket as a byte stream: two ends over a real connection, with and without an agreed half-close."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from engine.carriers.websocket import WebSocketCarrier
from engine.loop.connection import Connection
from engine.loop.reactor import Reactor
from engine.wire import websocket
from engine.wire.websocket import WebSocket
from tests.loop.ends import LARGE, Ear, pair


async def two_ends(nursery: trio.Nursery, *, half_close: bool) -> tuple[WebSocketCarrier, Ear, WebSocketCarrier, Ear]:
    """A client's end and a node's, each with somebody who listens."""
    near, far = (Connection(sock) for sock in pair())
    client, node = (
        WebSocketCarrier(near, client=True, half_close=half_close),
        WebSocketCarrier(far, client=False, half_close=half_close),
    )
    client.receiver, node.receiver = client_ear, node_ear = Ear(), Ear()
    nursery.start_soon(near.run)
    nursery.start_soon(far.run)
    await trio.testing.wait_all_tasks_blocked()
    return client, client_ear, node, node_ear


async def test_bytes_pass_both_ways_whatever_the_messages(reactor: Reactor, nursery: trio.Nursery) -> None:
    client, client_ear, node, node_ear = await two_ends(nursery, half_close=True)
    client.put(b"a", b"", memoryview(b"b"))
    client.put(LARGE)
    node.put(LARGE[::-1])
    assert await node_ear.heard(len(LARGE) + 2) == b"ab" + LARGE
    assert await client_ear.heard(len(LARGE)) == LARGE[::-1]


async def test_an_agreed_half_close_ends_one_direction_only(reactor: Reactor, nursery: trio.Nursery) -> None:
    client, client_ear, node, node_ear = await two_ends(nursery, half_close=True)
    client.put(b"question")
    client.end()
    await node_ear.is_over()
    assert node_ear.is_ended
    node.put(LARGE)
    node.end()
    await client_ear.is_over()
    assert client_ear.is_ended
    assert client_ear.data == LARGE


async def test_without_agreement_an_end_is_the_end_of_both_for_both(reactor: Reactor, nursery: trio.Nursery) -> None:
    client, client_ear, _, node_ear = await two_ends(nursery, half_close=False)
    client.put(b"question")
    client.end()
    assert client_ear.is_ended, "nobody else would tell"
    await node_ear.is_over()
    assert node_ear.is_ended
    assert node_ear.data == b"question"


@pytest.mark.parametrize("half_close", [True, False])
async def test_a_reset_arrives_as_a_reset(reactor: Reactor, nursery: trio.Nursery, half_close: bool) -> None:
    client, _, _, node_ear = await two_ends(nursery, half_close=half_close)
    client.abort()
    await node_ear.is_over()
    assert isinstance(node_ear.error, ConnectionResetError)


async def test_a_connection_that_is_cut_is_a_reset(reactor: Reactor, nursery: trio.Nursery) -> None:
    client, _, _, node_ear = await two_ends(nursery, half_close=True)
    client.connection.end()
    await node_ear.is_over()
    assert isinstance(node_ear.error, ConnectionResetError)


@pytest.mark.parametrize(
    ("frame", "code"), [(b"\x82\x01a", 1002), (b"\x81\x81\0\0\0\0a", 1003)], ids=["unmasked", "text"]
)
async def test_what_breaks_the_protocol_is_answered_with_a_code(
    reactor: Reactor, nursery: trio.Nursery, frame: bytes, code: int
) -> None:
    near, far = pair()
    connection, ear = Connection(near), Ear()
    stream = WebSocketCarrier(connection, client=False, half_close=True)
    stream.receiver = ear
    nursery.start_soon(connection.run)
    far.sendall(frame)
    await ear.is_over()
    assert ear.error is not None
    far.settimeout(5)
    with far:
        event = WebSocket(client=True).receive(memoryview(far.recv(1000)))[-1]
    assert websocket.close_reason(event.data)[0] == code


async def test_pings_are_answered(reactor: Reactor, nursery: trio.Nursery) -> None:
    near, far = pair()
    connection = Connection(near)
    WebSocketCarrier(connection, client=False, half_close=True)
    nursery.start_soon(connection.run)
    far.sendall(b"".join(WebSocket(client=True).message([b"hi"], websocket.PING)))
    await trio.testing.wait_all_tasks_blocked(0.01)
    far.settimeout(5)
    with far:
        events = WebSocket(client=True).receive(memoryview(far.recv(1000)))
    assert [(event.opcode, bytes(event.data)) for event in events] == [(websocket.PONG, b"hi")]
