"""The dashboard's routes: who is shown what, and what comes over the WebSocket."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from engine.admin.app import NodeStatus, node_app
from engine.admin.dashboard import FILES, LIVE_PATH, LIVE_PROTOCOL, NOT_PERMITTED
from engine.admin.gate import TOKEN_PROTOCOL
from engine.admin.live import Live
from engine.admin.metrics import NodeMetrics
from engine.admin.pages import SHARED, STRICTER
from engine.admin.reading import EndpointRow, Reading, SessionRow
from engine.auth.verifier import Verifier
from tests.admin.test_app import SECRET, Port, served

TOKEN = jwt.encode({"sub": "me", "jti": "7"}, SECRET)
OPENING = (
    b"GET /dashboard/live HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
EVIL = '<img src=x onerror="alert(1)">'


async def read() -> tuple[Reading, str]:
    return Reading([SessionRow("1.1", EVIL)], [EndpointRow("shop", sessions=1)], session_count=1), "worker 2"


def made(read: Callable[[], Awaitable[tuple[Reading, str]]] = read) -> Live:
    return Live("n1", read, nodes=lambda: [{"id": "n1", "endpoints": 1, "upstreams": 1}])


async def dashboard(nursery: trio.Nursery, verifier: Verifier | None = None, live: Live | None = None) -> Port:
    live = live or made()
    nursery.start_soon(live.run)
    app = node_app(
        NodeMetrics(),
        not_ready=lambda: None,
        local=lambda: NodeStatus("n1", "", "", {}),
        verifier=verifier,
        live=live,
    )
    return await served(nursery, app)


@asynccontextmanager
async def watching(
    port: Port, *protocols: str, path: str = LIVE_PATH, **fields: str
) -> AsyncIterator[WebSocketConnection]:
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    host = f"127.0.0.1:{port.number}"
    async with await trio.open_tcp_stream("127.0.0.1", port.number) as stream, trio.open_nursery() as nursery:
        yield await wrap_client_stream(
            nursery, stream, host, path, subprotocols=[LIVE_PROTOCOL, *protocols], extra_headers=headers
        )
        nursery.cancel_scope.cancel()


async def asked(port: Port, *protocols: str, path: str = LIVE_PATH, **fields: str) -> tuple[int, Any]:
    """The answer to the opening of a WebSocket that is not used: its status, and what it says in JSON."""
    asks = {
        "Host": f"127.0.0.1:{port.number}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": ", ".join((LIVE_PROTOCOL, *protocols)),
        **fields,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in asks.items())
    async with await trio.open_tcp_stream("127.0.0.1", port.number) as stream:
        await stream.send_all(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
        said = b""
        while b"\r\n\r\n" not in said or (said[9:12] != b"101" and not said.endswith(b"}")):
            said += await stream.receive_some()
    body = said.partition(b"\r\n\r\n")[2]
    return int(said[9:12]), json.loads(body) if said[9:12] != b"101" else None


async def rest(feed: WebSocketConnection) -> None:
    while True:
        await feed.get_message()


async def test_the_page_is_where_a_person_looks_for_it(nursery: trio.Nursery) -> None:
    port = await dashboard(nursery)
    for path in ("/", "/dashboard"):
        answer = await port.get(path)
        assert (answer.status, answer.headers["location"]) == (307, "dashboard/")
    page = await port.get("/dashboard/")
    assert page.headers["content-security-policy"] == STRICTER
    text = page.body.decode()
    assert "shop" in text
    assert "worker 2" in text
    assert EVIL not in text
    assert "&lt;img" in text
    for name in (*FILES, *SHARED):
        file = await port.get(f"/dashboard/{name}")
        assert file.status == 200, name
        assert file.headers["content-type"].partition(";")[0] in ("text/css", "text/javascript", "image/svg+xml")
    assert (await port.get("/dashboard/", "POST")).status == 405
    assert (await port.get("/dashboard/../gate.py")).status == 404


async def test_the_feed_says_each_second_how_the_node_is(nursery: trio.Nursery) -> None:
    port = await dashboard(nursery)
    async with watching(port) as feed:
        assert feed.subprotocol == LIVE_PROTOCOL
        message = json.loads(await feed.get_message())
        assert message["node"] | {"version": ""} == {
            "id": "n1",
            "version": "",
            "reason": "",
            "degraded": "",
            "incomplete": "worker 2",
        }
        assert message["sessions"][0]["endpoint"] == EVIL
        assert message["nodes"] == [{"id": "n1", "endpoints": 1, "upstreams": 1}]
        await feed.send_message("nobody listens")
        assert "points" not in json.loads(await feed.get_message())


async def test_without_a_token_the_page_says_nothing_of_the_node(nursery: trio.Nursery) -> None:
    port = await dashboard(nursery, Verifier(hmac_secret_key=SECRET))
    page = await port.get("/dashboard/")
    assert page.status == 200
    for secret in (b"n1", b"shop", b"worker 2", b"0.1.0"):
        assert secret not in page.body
    shown = await port.get("/dashboard/", Authorization=f"Bearer {TOKEN}")
    assert b"shop" in shown.body
    for path in ("/dashboard/live", "/dashboard/other", "/dashboard/../status/cluster/nodes", "/status/cluster/nodes"):
        assert (await port.get(path)).status == 401, path


@pytest.mark.parametrize(
    ("protocols", "fields", "error"),
    [
        ((), {}, "missing authorization"),
        ((f"{TOKEN_PROTOCOL}x",), {}, "invalid token"),
        ((TOKEN_PROTOCOL,), {}, "invalid token"),
        ((f"{TOKEN_PROTOCOL}{TOKEN}", f"{TOKEN_PROTOCOL}{TOKEN}x"), {}, "invalid authorization"),
        ((f"{TOKEN_PROTOCOL}{TOKEN}",), {"Authorization": "Bearer x"}, "invalid token"),
        ((), {"Authorization": f"Basic {TOKEN}"}, "unsupported auth type"),
    ],
)
async def test_without_a_good_token_there_is_no_feed(
    nursery: trio.Nursery, protocols: tuple[str, ...], fields: dict[str, str], error: str
) -> None:
    port = await dashboard(nursery, Verifier(hmac_secret_key=SECRET))
    assert await asked(port, *protocols, **fields) == (401, {"error": error})


async def test_a_token_may_come_in_a_field_or_as_a_subprotocol_that_is_not_repeated(nursery: trio.Nursery) -> None:
    port = await dashboard(nursery, Verifier(hmac_secret_key=SECRET))
    async with watching(port, Authorization=f"Bearer {TOKEN}") as feed:
        await feed.get_message()
    async with watching(port, f"{TOKEN_PROTOCOL}{TOKEN}") as feed:
        assert feed.subprotocol == LIVE_PROTOCOL
        await feed.get_message()


async def test_pages_of_other_sites_and_other_host_names_get_no_feed(nursery: trio.Nursery) -> None:
    port = await dashboard(nursery)
    own = f"http://127.0.0.1:{port.number}"
    async with watching(port, Origin=own) as feed:
        await feed.get_message()
    for origin in ("http://evil.example", "null", own.replace("http", "https"), "http://127.0.0.1"):
        assert await asked(port, Origin=origin) == (403, {"error": "not for pages of other sites"})
    assert (await asked(port, path="/dashboard/other"))[0] == 404


async def test_a_token_that_is_taken_back_ends_the_feed(nursery: trio.Nursery) -> None:
    verifier = Verifier(hmac_secret_key=SECRET)
    port = await dashboard(nursery, verifier)
    async with watching(port, f"{TOKEN_PROTOCOL}{TOKEN}") as feed:
        await feed.get_message()
        verifier.replace_revoked(frozenset(["7"]))
        with pytest.raises(ConnectionClosed) as ended:
            await rest(feed)
    assert ended.value.reason is not None
    assert ended.value.reason.code == NOT_PERMITTED


async def test_who_takes_nothing_is_let_go_and_others_go_on(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.admin.live.EVERY_SECONDS", 0.05)

    async def read_much() -> tuple[Reading, str]:
        noise = [SessionRow(str(number), secrets.token_hex(2000)) for number in range(100)]  # which cannot be deflated
        return Reading(noise), ""

    live = made(read_much)
    port = await dashboard(nursery, live=live)
    async with watching(port) as feed:
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.connect(("127.0.0.1", port.number))
            stalled.send(OPENING % port.number)
            with trio.fail_after(20):
                while not live.dropped:
                    await feed.get_message()
        assert live.dropped == 1
        await feed.get_message()


async def test_more_viewers_than_there_is_room_for_are_told(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.admin.live.MAX_VIEWERS", 1)
    port = await dashboard(nursery)
    async with watching(port) as feed:
        await feed.get_message()
        assert await asked(port) == (503, {"error": "too many look on already"})
    with trio.fail_after(10):
        while (await asked(port))[0] != 101:  # noqa: ASYNC110  # the first has gone, and there is room
            await trio.sleep(0.01)
