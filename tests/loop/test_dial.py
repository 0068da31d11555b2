"""Connections outwards: to a service beside us, and to a node; what is said when there is none."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from engine.errors import Unreachable
from engine.loop.connection import Connection
from engine.loop.dial import DIAL_SECONDS, Server, dial_server, dial_tcp
from engine.loop.listen import Room, open_listeners, serve
from engine.loop.reactor import Reactor
from engine.loop.reading import Reader, start_tls
from engine.wire import http1
from proxy_adapters import Router
from tests.conftest import Pki
from tests.programs import free_port


async def greet(connection: Connection) -> None:
    connection.put(b"hello")
    await connection.run()


async def listen(nursery: trio.Nursery, pki: Pki | None = None) -> int:
    """The port of somebody who says hello."""

    async def handle(connection: Connection) -> None:
        if pki is not None:
            await start_tls(connection, pki.server_context(), server=True)
        await greet(connection)

    listeners = open_listeners("127.0.0.1:0")
    nursery.start_soon(serve, listeners, handle, nursery, Room(100))
    await trio.testing.wait_all_tasks_blocked()
    return int(listeners[0].getsockname()[1])


async def test_a_service_is_dialled_and_the_address_that_worked_is_used_again(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    port = await listen(nursery)
    for _ in range(2):
        connection = await dial_tcp("localhost", port)
        assert connection.peer == ("127.0.0.1", port)
        assert await Reader(connection).some() == b"hello"
        assert connection._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert connection._sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        connection.abort()


async def test_an_address_that_has_worked_and_works_no_more_is_an_error_as_any_other(reactor: Reactor) -> None:
    async with trio.open_nursery() as serving:
        port = await listen(serving)
        (await dial_tcp("127.0.0.1", port)).abort()
        serving.cancel_scope.cancel()
    with pytest.raises(OSError, match="all attempts to connect"):
        await dial_tcp("127.0.0.1", port)


async def test_a_service_may_speak_tls(reactor: Reactor, nursery: trio.Nursery, pki: Pki) -> None:
    port = await listen(nursery, pki)
    connection = await dial_tcp("127.0.0.1", port, tls=pki.client_context(), server_name="localhost")
    assert await Reader(connection).some() == b"hello"
    connection.abort()
    with pytest.raises(ssl.SSLCertVerificationError):
        await dial_tcp("127.0.0.1", port, tls=ssl.create_default_context())


@pytest.mark.parametrize(
    ("url", "secure", "port", "authority", "path"),
    [
        ("http://a.test", False, 80, "a.test", ""),
        ("https://a.test/base/", True, 443, "a.test", "/base"),
        ("wss://a.test:8001", True, 8001, "a.test:8001", ""),
        ("ws://[::1]:80/x", False, 80, "[::1]", "/x"),
    ],
)
def test_a_node_is_what_its_url_says(url: str, secure: bool, port: int, authority: str, path: str) -> None:
    server = Server(url)
    assert (server.secure, server.port, server.authority, server.path) == (secure, port, authority, path)


async def test_nobody_there_is_unreachable(reactor: Reactor) -> None:
    port = free_port()
    with pytest.raises(Unreachable, match=f"{port}"):
        await dial_server(Server(f"http://127.0.0.1:{port}"))


async def test_while_somebody_on_the_way_has_asked_for_a_pause_nothing_is_dialled(
    reactor: Reactor, nursery: trio.Nursery
) -> None:
    port = await listen(nursery)
    server = Server(f"http://127.0.0.1:{port}")
    server.pause.ask(30.0, "the proxy is busy")
    with pytest.raises(Unreachable, match="the proxy is busy") as raised:
        await dial_server(server)
    assert raised.value.retry_after_seconds == pytest.approx(30, abs=1)


@pytest.mark.parametrize(
    ("scheme", "trusted", "name", "words"),
    [
        ("https", True, "elsewhere.test", "server-name"),
        ("https", False, "localhost", "root-cas"),
    ],
)
async def test_why_tls_failed_is_said_with_what_helps(
    reactor: Reactor, nursery: trio.Nursery, pki: Pki, scheme: str, trusted: bool, name: str, words: str
) -> None:
    port = await listen(nursery, pki)
    context = pki.client_context() if trusted else ssl.create_default_context()
    with pytest.raises(Unreachable, match=words):
        await dial_server(Server(f"{scheme}://127.0.0.1:{port}", tls=context, server_name=name))


async def test_plain_text_where_tls_was_wanted_is_said(reactor: Reactor, nursery: trio.Nursery, pki: Pki) -> None:
    port = await listen(nursery)
    with pytest.raises(Unreachable, match="does not speak TLS"):
        await dial_server(Server(f"https://127.0.0.1:{port}", tls=pki.client_context()))


# What is listened to by hand


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


async def accept(listener: socket.socket) -> Connection:
    await trio.lowlevel.wait_readable(listener)
    return Connection(listener.accept()[0])


async def test_a_dial_that_is_cancelled_in_its_handshake_leaves_nothing_open(
    reactor: Reactor, listener: socket.socket, pki: Pki
) -> None:
    async with trio.open_nursery() as dialling:
        dialling.start_soon(lambda: dial_tcp("127.0.0.1", port_of(listener), tls=pki.client_context()))
        far = await accept(listener)
        await Reader(far).some()
        dialling.cancel_scope.cancel()
    with pytest.raises(ConnectionResetError):
        await Reader(far).until(lambda data: -1)


async def test_a_node_that_does_not_answer_is_given_up(
    mock_clock: trio.testing.MockClock, reactor: Reactor, listener: socket.socket, pki: Pki
) -> None:
    async def go() -> None:
        server = Server(f"https://127.0.0.1:{port_of(listener)}", pki.client_context(), router=Router(environ=None))
        with pytest.raises(Unreachable, match=f"did not answer within {DIAL_SECONDS:g} s"):
            await dial_server(server)

    async with trio.open_nursery() as dialling:
        dialling.start_soon(go)
        far = await accept(listener)
        await Reader(far).some()
        mock_clock.jump(DIAL_SECONDS)
    far.abort()


async def test_what_a_server_says_behind_its_proxys_answer_is_not_lost(
    reactor: Reactor, listener: socket.socket
) -> None:
    """The server may speak first, and its words come in the same segment."""
    dialled: list[Connection] = []
    router = Router([f"http://127.0.0.1:{port_of(listener)}"], environ=None)

    async def go() -> None:
        dialled.append(await dial_server(Server("http://node.test:8001", router=router)))

    async with trio.open_nursery() as dialling:
        dialling.start_soon(go)
        proxy = await accept(listener)
        asked = await Reader(proxy).until(http1.head_end)
        proxy.put(b"HTTP/1.1 200 OK\r\n\r\nfirst words")
    assert asked.startswith(b"CONNECT node.test:8001 HTTP/1.1\r\n")
    assert await Reader(dialled[0]).some() == b"first words"
    dialled[0].abort()
    proxy.abort()


async def test_a_pause_that_a_proxy_asks_for_holds_for_all_who_go_that_way(
    reactor: Reactor, listener: socket.socket
) -> None:
    router = Router([f"http://127.0.0.1:{port_of(listener)}"], environ=None)
    server = Server("http://node.test:8001", router=router)
    failed: list[Unreachable] = []

    async def go() -> None:
        with pytest.raises(Unreachable) as caught:
            await dial_server(server)
        failed.append(caught.value)

    async with trio.open_nursery() as dialling:
        dialling.start_soon(go)
        proxy = await accept(listener)
        await Reader(proxy).until(http1.head_end)
        proxy.put(b"HTTP/1.1 503 Busy\r\nRetry-After: 40\r\nContent-Length: 0\r\n\r\n")
    proxy.abort()
    assert failed[0].retry_after_seconds == 40
    with pytest.raises(Unreachable, match="it asked for a pause"):
        await dial_server(server)
