"""ASGI applications through a node, asked by httpx by the endpoint's name and by plain clients."""

from __future__ import annotations

import hashlib
from ast import literal_eval
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx
import pytest
import trio
import trio_websocket
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket
from trio.testing import MockClock

import trioduct
from tests.roles import Roles, RunningNode
from tests.sdk.test_streams import at


class Shop:
    """An application, and what has happened to it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.left = trio.Event()
        self.produced = 0
        self.app = Starlette(
            routes=[
                Route("/hello", self.hello),
                Route("/sum", self.sum, methods=["POST"]),
                Mount("/both", self.both),
                Mount("/endless", self.endless),
                Route("/fails", self.fails),
                WebSocketRoute("/echo", self.echo),
            ],
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        self.said.append("up")
        yield
        self.said.append("down")

    async def hello(self, request: Request) -> Response:
        return PlainTextResponse(f"hello {request.query_params['name']}, {request.client}")

    async def sum(self, request: Request) -> Response:
        heard = hashlib.sha256()
        try:
            async for part in request.stream():
                heard.update(part)
        except ClientDisconnect:
            self.left.set()
            raise
        return PlainTextResponse(heard.hexdigest())

    async def both(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Starlette's StreamingResponse takes what `receive` brings for itself.
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message.get("body", b"").upper(), "more_body": more})

    async def endless(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def produce() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
                self.produced += 1 << 16

        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()
        self.left.set()

    async def fails(self, request: Request) -> Response:
        raise LookupError("no such thing")

    async def echo(self, websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text * 2)
        self.left.set()


@asynccontextmanager
async def _served(app: ASGIApp, node: RunningNode) -> AsyncIterator[httpx.AsyncClient]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trioduct.serve, app, "shop", url=at(node.upstream)))
        async with httpx.AsyncClient(transport=trioduct.httpx_transport(url=at(node.proxy)), timeout=10) as client:
            yield client
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _serving(node: RunningNode) -> AsyncIterator[tuple[Shop, httpx.AsyncClient]]:
    shop = Shop()
    async with _served(shop.app, node) as client:
        yield shop, client


async def test_an_application_answers_starts_up_and_shuts_down(roles: Roles) -> None:
    async with _serving(await roles.node()) as (shop, client):
        assert shop.said == ["up"]
        for _ in range(3):
            assert (await client.get("http://shop/hello?name=Ann")).text == "hello Ann, None"
        data = bytes(range(256)) * 8192 * 4
        assert (await client.post("http://shop/sum", content=data)).text == hashlib.sha256(data).hexdigest()
        assert (await client.get("http://nobody/")).status_code == 502
        assert (await client.get("http://shop/nothing")).status_code == 404
    assert shop.said == ["up", "down"]


async def test_one_request_that_fails_leaves_the_others_alone(roles: Roles) -> None:
    async with _serving(await roles.node()) as (_, client):
        assert (await client.get("http://shop/fails")).status_code == 500
        assert (await client.get("http://shop/hello?name=Ann")).status_code == 200


async def test_request_and_answer_stream_at_the_same_time(roles: Roles) -> None:
    node = await roles.node()
    async with _serving(node):
        talk = await roles.dial(node.proxy)
        await talk.say(
            b"POST /both/ HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: shop\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await talk.say(b"5\r\nfirst\r\n")
        await talk.until(b"FIRST")
        await talk.say(b"6\r\nsecond\r\n")
        await talk.until(b"SECOND")
        await talk.say(b"0\r\n\r\n")
        await talk.until(b"0\r\n\r\n")


async def test_a_slow_client_holds_the_application_back_and_one_that_leaves_ends_it(roles: Roles) -> None:
    node = await roles.node()
    async with _serving(node) as (shop, _):
        talk = await roles.dial(node.proxy, buffer=4096)
        await talk.say(b"GET /endless/ HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: shop\r\n\r\n")
        before = -1
        while before != shop.produced:
            before = shop.produced
            await trio.sleep(0.5)
        assert shop.produced < 64 << 20
        await talk.reset()
        await shop.left.wait()


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_a_disconnect(roles: Roles) -> None:
    node = await roles.node()
    async with _serving(node) as (shop, _):
        talk = await roles.dial(node.proxy)
        await talk.say(b"POST /sum HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: shop\r\nContent-Length: 100000\r\n\r\nhalf")
        await trio.sleep(0.1)
        await talk.reset()
        await shop.left.wait()


async def test_websockets_go_both_ways_and_end(roles: Roles) -> None:
    node = await roles.node()
    async with _serving(node) as (shop, _):
        url = f"ws://127.0.0.1:{node.proxy}/echo"
        async with trio_websocket.open_websocket_url(url, extra_headers=[(b"x-piko-endpoint", b"shop")]) as websocket:
            await websocket.send_message("ab")
            assert await websocket.get_message() == "abab"
        await shop.left.wait()


async def test_an_application_is_served_again_by_a_node_that_was_started_again(roles: Roles) -> None:
    from tests.roles import server_config

    node = await roles.node()
    async with _serving(node) as (_, client):
        await client.get("http://shop/hello?name=Ann")
        await node.kill()
        config = server_config()
        config.proxy.bind_addr = f"127.0.0.1:{node.proxy}"
        config.upstream.bind_addr = f"127.0.0.1:{node.upstream}"
        await roles.node(config)
        while True:
            try:
                answer = await client.get("http://shop/hello?name=Ann")
            except httpx.TransportError:
                continue
            if answer.status_code == 200:
                return
            await trio.sleep(0.1)


# What hypercorn asks of itself in its own tests: an application that checks what it gets, one that tells it, and two
# that do not know the lifespan protocol, in the two ways there are.


async def _sane(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        assert scope["state"] == {}
        await send({"type": "lifespan.misspelt"})
    elif scope["type"] == "websocket":
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        assert (await receive())["bytes"] == b"Hello"
        await send({"type": "websocket.send", "text": "Goodbye"})
        assert (await receive())["type"] == "websocket.disconnect"
    else:
        message = await receive()
        assert (message["body"], message["more_body"]) == (b"Hello", True)
        assert (await receive()) == {"type": "http.request", "body": b"", "more_body": False}
        told = {**scope, "headers": dict(scope["headers"]), "extensions": sorted(scope["extensions"])}
        body = repr(told).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


async def _says_nothing(scope: Scope, receive: Receive, send: Send) -> None: ...


async def test_an_application_gets_what_asgi_says(roles: Roles) -> None:
    node = await roles.node()
    async with _served(_sane, node) as client:
        for connection in ("keep-alive", "close"):
            fields = {"Connection": connection, "X-Own": "1"}
            answer = await client.post("http://shop/a%20b/c?x=%20", content=b"Hello", headers=fields)
            scope = literal_eval(answer.text)
            assert scope.pop("headers").items() > {(b"host", b"shop"), (b"x-own", b"1"), (b"content-length", b"5")}
            assert scope == {
                "type": "http",
                "asgi": {"version": "3.0", "spec_version": "2.1"},
                "http_version": "1.1",
                "method": "POST",
                "scheme": "http",
                "path": "/a b/c",
                "raw_path": b"/a%20b/c",
                "query_string": b"x=%20",
                "root_path": "",
                "client": None,
                "server": None,
                "state": {},
                "extensions": [],
            }
        url = f"ws://127.0.0.1:{node.proxy}/"
        async with trio_websocket.open_websocket_url(url, extra_headers=[(b"x-piko-endpoint", b"shop")]) as websocket:
            await websocket.send_message(b"Hello")
            assert await websocket.get_message() == "Goodbye"
        assert websocket.closed is not None
        assert websocket.closed.code == 1000
        assert (await client.post("http://shop/", content=b"Other")).status_code == 500


async def test_an_application_that_returns_at_once_has_no_lifespan_and_answers_500(roles: Roles) -> None:
    async with _served(_says_nothing, await roles.node()) as client:
        for _ in range(2):
            assert (await client.get("http://shop/")).status_code == 500


async def test_an_application_that_never_starts_up_is_told(autojump_clock: MockClock) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep_forever()

    with pytest.raises(RuntimeError, match="did not answer within 60 s"):
        await trioduct.serve(app, "shop", url="http://127.0.0.1:9")


async def test_an_application_that_fails_to_start_up_is_told(roles: Roles) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    node = await roles.node()
    with pytest.raises(RuntimeError, match="no database"):
        await trioduct.serve(app, "shop", url=at(node.upstream))


async def test_a_node_that_is_not_there_is_told_by_httpx() -> None:
    async with httpx.AsyncClient(transport=trioduct.httpx_transport(url="http://127.0.0.1:9")) as client:
        with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1:9"):
            await client.get("http://shop/")
