"""Heads that open something: what a node answers to who asks for a WebSocket, and what is made of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from engine.carriers.call import EXCERPT, RETRYABLE, node_error
from engine.carriers.opening import UPGRADE_SECONDS, open_websocket, read_head
from engine.errors import HTTPError, Refused, Unreachable
from engine.loop.connection import Connection
from engine.loop.dial import Server
from engine.loop.reactor import Reactor
from engine.loop.reading import Reader
from engine.wire import websocket
from proxy_adapters import Router
from tests.loop.ends import Ear, pair

Node = Callable[[trio.SocketStream], Awaitable[None]]


@pytest.mark.parametrize("body", [b"", b"\xff", b'["error"]', b'{"error":1}', b'{"error":"a","b":1}', b"[" * 100_000])
def test_what_is_not_a_node_s_complaint_is_none(body: bytes) -> None:
    assert node_error(b'{"error":"a"}') == "a"
    assert node_error(body) is None


async def hear_head(stream: trio.SocketStream) -> bytes:
    heard = b""
    while b"\r\n\r\n" not in heard:
        more = await stream.receive_some(65536)
        assert more, "the end, in a head"
        heard += more
    return heard


def accept_value(head: bytes) -> bytes:
    key = next(line for line in head.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key: "))
    return websocket.accept_value(key.removeprefix(b"Sec-WebSocket-Key: "))


def switched(head: bytes) -> bytes:
    """The answer that opens what `head` asks for."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_value(head) + b"\r\n\r\n"
    )


def says(answer: bytes) -> Node:
    """A node that gives everybody the same answer."""

    async def node(stream: trio.SocketStream) -> None:
        await hear_head(stream)
        await stream.send_all(answer)
        await stream.send_eof()
        await stream.receive_some(1)

    return node


async def serve(nursery: trio.Nursery, node: Node) -> Server:
    """`node` on a port of its own; a way there that no environment leads elsewhere."""

    async def one(stream: trio.SocketStream) -> None:
        try:
            async with stream:
                await node(stream)
        except trio.BrokenResourceError:
            pass  # who dialled has gone, as it may

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, one, listeners)
    port = listeners[0].socket.getsockname()[1]
    return Server(f"http://127.0.0.1:{port}/base/", router=Router(environ=None))


async def test_a_websocket_is_asked_for_by_the_book_and_what_is_behind_the_answer_stays(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    asked: list[bytes] = []

    async def node(stream: trio.SocketStream) -> None:
        asked.append(await hear_head(stream))
        await stream.send_all(switched(asked[0]) + b"first words")
        await trio.sleep_forever()

    server = await serve(nursery, node)
    connection, response = await open_websocket(server, "/piko/v1/upstream/web", [(b"Authorization", b"Bearer x")])
    assert response.status == 101
    request, *fields = asked[0].split(b"\r\n")
    assert request == b"GET /base/piko/v1/upstream/web HTTP/1.1"
    assert {b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Authorization: Bearer x"} < set(fields)
    assert b"Host: " + server.authority.encode() in fields
    connection.receiver = ear = Ear()
    nursery.start_soon(connection.run)
    assert await ear.heard(11) == b"first words"
    connection.abort()


@pytest.mark.parametrize("status", sorted(RETRYABLE))
async def test_an_answer_that_invites_another_try_is_no_refusal(
    reactor: Reactor, nursery: trio.Nursery, status: int
) -> None:
    server = await serve(
        nursery, says(b"HTTP/1.1 %d Later\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nwait" % status)
    )
    with pytest.raises(Unreachable, match=f"answered {status} Later: wait$") as caught:
        await open_websocket(server, "/", [])
    assert caught.value.retry_after_seconds == 7


@pytest.mark.parametrize("field", [b"Retry-After: tomorrow\r\n", b"Retry-After: 7\r\nRetry-After: 8\r\n", b""])
async def test_a_pause_that_is_no_number_of_seconds_is_none(
    reactor: Reactor, nursery: trio.Nursery, field: bytes
) -> None:
    server = await serve(nursery, says(b"HTTP/1.1 503 Later\r\nContent-Length: 0\r\n" + field + b"\r\n"))
    with pytest.raises(Unreachable) as caught:
        await open_websocket(server, "/", [])
    assert caught.value.retry_after_seconds is None


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b'401 Unauthorized\r\nContent-Length: 25\r\n\r\n{"error":"invalid token"}', r'401 Unauthorized: \{"error"'),
        (b"404 Not Found\r\n\r\nno such page", "404 Not Found: no such page$"),
        (b"200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "answered 200"),
        (b"204 No Content\r\n\r\n", "answered 204 No Content$"),
        (b"400 Bad\r\nVia: 1.1 squid\r\nContent-Length: 0\r\n\r\n", "a proxy on the way removed the WebSocket upgrade"),
        (b"403 No\r\nVia: 1.1 squid\r\nContent-Length: 0\r\n\r\n", "a proxy on the way answers instead of the node"),
        (b"403 No\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000, f"x{{{EXCERPT}}}$"),
        (b"403 No\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd", "403 No: \ufffd{3}$"),
        (b"302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n", "302 Found$"),
    ],
    ids=["401", "until the end", "chunks", "no body", "no upgrade", "a proxy's", "long", "no text", "elsewhere"],
)
async def test_any_other_answer_is_final_and_is_told_with_its_beginning(
    reactor: Reactor, nursery: trio.Nursery, answer: bytes, words: str
) -> None:
    server = await serve(nursery, says(b"HTTP/1.1 " + answer))
    with pytest.raises(Refused, match=words):
        await open_websocket(server, "/", [])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "hung up"),
        (b"HTTP/1.1 101 Swit", "hung up"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "is not a node, or a proxy on the way changes the response"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            "changes the response",
        ),
        (b"x" * 200_000, "is not a node"),
    ],
    ids=["nothing", "half an answer", "another protocol", "another key", "endless"],
)
async def test_what_is_no_answer_may_be_one_the_next_time(
    reactor: Reactor, nursery: trio.Nursery, answer: bytes, words: str
) -> None:
    server = await serve(nursery, says(answer))
    with pytest.raises(Unreachable, match=words):
        await open_websocket(server, "/", [])
    assert not reactor.internal_errors


async def test_a_node_that_takes_the_connection_and_says_nothing_is_given_up(
    mock_clock: MockClock, reactor: Reactor, nursery: trio.Nursery
) -> None:
    asked = trio.Event()

    async def node(stream: trio.SocketStream) -> None:
        await hear_head(stream)
        asked.set()
        await stream.receive_some(1)

    server = await serve(nursery, node)

    async def dial() -> None:
        with pytest.raises(Unreachable, match="did not answer the WebSocket upgrade"):
            await open_websocket(server, "/", [])

    async with trio.open_nursery() as dialling:
        dialling.start_soon(dial)
        await asked.wait()
        mock_clock.jump(UPGRADE_SECONDS)


async def test_an_answer_whose_body_does_not_end_is_told_with_what_has_come(
    autojump_clock: MockClock, reactor: Reactor, nursery: trio.Nursery
) -> None:
    async def node(stream: trio.SocketStream) -> None:
        await hear_head(stream)
        await stream.send_all(b"HTTP/1.1 403 No\r\nContent-Length: 10\r\n\r\nhalf")
        await stream.receive_some(1)

    server = await serve(nursery, node)
    with pytest.raises(Refused, match=r"403 No: half$"):
        await open_websocket(server, "/", [])


async def test_whoever_gives_up_leaves_no_connection_behind(reactor: Reactor, nursery: trio.Nursery) -> None:
    asked, gone = trio.Event(), trio.Event()

    async def node(stream: trio.SocketStream) -> None:
        await hear_head(stream)
        asked.set()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(1)
        gone.set()

    server = await serve(nursery, node)
    async with trio.open_nursery() as dialling:
        dialling.start_soon(open_websocket, server, "/", [])
        await asked.wait()
        dialling.cancel_scope.cancel()
    await gone.wait()


# Reading a head


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_a_head_is_read_however_it_comes_and_no_byte_more(
    reactor: Reactor, nursery: trio.Nursery, step: int
) -> None:
    near, far = pair()
    connection = Connection(near)
    data = b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\nand what follows"
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(far))

    async def say() -> None:
        for at in range(0, len(data), step):
            await stream.send_all(data[at : at + step])
            await trio.lowlevel.checkpoint()

    nursery.start_soon(say)
    assert await read_head(connection) == b"GET / HTTP/1.1\r\nHost: x.test\r\n\r\n"
    rest = b""
    while len(rest) < 16:
        rest += await Reader(connection).some()
    assert rest == b"and what follows"
    connection.abort()
    await stream.aclose()


async def test_what_cannot_become_a_head_is_refused_before_it_ends(reactor: Reactor) -> None:
    near, far = pair()
    connection = Connection(near)
    far.sendall(b"GET / HTTP/1.1\r\n" + b"x" * 70_000)
    with pytest.raises(HTTPError):
        await read_head(connection)
    connection.abort()
    far.close()
