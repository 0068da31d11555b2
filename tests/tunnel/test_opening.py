"""Heads that open something: read to their end and no further, and what an answer to an upgrade means."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.loop.connection import Connection
from engine.loop.dial import Server
from engine.loop.listen import Room, open_listeners, serve
from engine.loop.reactor import Reactor
from engine.loop.reading import Reader
from engine.tunnel.opening import UPGRADE_SECONDS, open_websocket, read_head
from engine.wire import http1, websocket
from tests.loop.ends import pair

HEAD = b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n"


async def test_a_head_is_read_to_its_end_and_no_further(reactor: Reactor) -> None:
    near, far = pair()
    connection = Connection(near)
    far.sendall(HEAD + b"what follows")
    assert await read_head(connection) == HEAD
    assert await Reader(connection).some() == b"what follows"
    connection.abort()
    far.close()


@pytest.mark.parametrize("said", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000])
async def test_what_cannot_become_a_head_is_refused(reactor: Reactor, nursery: trio.Nursery, said: bytes) -> None:
    near, far = pair()
    connection = Connection(near)
    far.setblocking(False)
    far.send(said)
    far.shutdown(socket.SHUT_WR)
    with pytest.raises((RemoteProtocolError, ConnectionResetError)):
        await read_head(connection)
    connection.abort()
    far.close()


async def test_an_end_before_the_heads_is_a_loss(reactor: Reactor) -> None:
    near, far = pair()
    connection = Connection(near)
    far.sendall(HEAD[:-1])
    far.close()
    with pytest.raises(ConnectionResetError):
        await read_head(connection)
    connection.abort()


class Node:
    """Answers every upgrade with `answer` ("%s" stands for the accept value), or with nothing if there is none."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.hangs_up = False
        self.heads: list[http1.Request] = []
        listeners = open_listeners("127.0.0.1:0")
        self.listeners = listeners
        self.server = Server(f"http://127.0.0.1:{listeners[0].getsockname()[1]}/base")

    async def handle(self, connection: Connection) -> None:
        request = http1.parse_request(await read_head(connection))
        self.heads.append(request)
        if self.answer is not None:
            accept = websocket.check_upgrade_request(request.fields)
            connection.put(self.answer.replace(b"%s", accept))
        if self.hangs_up:
            connection.close()
        await connection.run()


@pytest.fixture
async def node(reactor: Reactor, nursery: trio.Nursery) -> Node:
    made = Node()
    nursery.start_soon(serve, made.listeners, made.handle, nursery, Room(100))
    await trio.testing.wait_all_tasks_blocked()
    return made


SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n"
)


async def test_a_websocket_is_opened_and_what_the_node_says_first_is_kept(node: Node) -> None:
    node.answer = SWITCHED + b"X-Name: value\r\n\r\nfirst words"
    connection, response = await open_websocket(node.server, "/piko/v1/tcp/a", [(b"Authorization", b"Bearer t")])
    assert (b"X-Name", b"value") in response.fields
    assert await Reader(connection).some() == b"first words"
    assert node.heads[0].target == b"/base/piko/v1/tcp/a"
    assert (b"Authorization", b"Bearer t") in node.heads[0].fields
    connection.abort()


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_some_answers_invite_another_try_and_may_say_when(node: Node, status: int) -> None:
    node.answer = b"HTTP/1.1 %d No\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nbusy" % status
    with pytest.raises(Unreachable, match=f"answered {status} No: busy") as raised:
        await open_websocket(node.server, "/", [])
    assert raised.value.retry_after_seconds == 7


@pytest.mark.parametrize("status", [200, 301, 401, 404])
async def test_others_are_final(node: Node, status: int) -> None:
    node.answer = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status
    with pytest.raises(Refused, match=f"answered {status}"):
        await open_websocket(node.server, "/", [])


async def test_a_proxy_that_answers_in_the_nodes_place_is_named_as_one(node: Node) -> None:
    node.answer = b"HTTP/1.1 400 Bad Request\r\nVia: 1.1 squid\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(Refused, match="removed the WebSocket upgrade"):
        await open_websocket(node.server, "/", [])


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", SWITCHED.replace(b"%s", b"wrong") + b"\r\n"])
async def test_what_is_no_node_is_said_to_be_none(node: Node, answer: bytes) -> None:
    node.answer = answer
    with pytest.raises(Unreachable, match="is no node"):
        await open_websocket(node.server, "/", [])


async def test_who_hangs_up_is_unreachable(node: Node) -> None:
    node.hangs_up = True
    with pytest.raises(Unreachable, match="hung up during the upgrade"):
        await open_websocket(node.server, "/", [])


async def test_who_does_not_answer_is_unreachable(node: Node, autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    with pytest.raises(Unreachable, match="did not answer the upgrade"):
        await open_websocket(node.server, "/", [])
    assert trio.current_time() - begun == pytest.approx(UPGRADE_SECONDS, abs=1)
