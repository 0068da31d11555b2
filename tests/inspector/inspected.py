"""An agent that is inspected, its service, a client of its node, and a client of its pages."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.programs import free_port
from tests.roles import Role, Roles, RunningNode, agent_config

TOKEN = "a-token-of-the-inspector"
# One pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f0005000"
    "1ff56c7"
    "9f3d0000000049454e44ae426082"
)


async def echo(request: Request) -> Response:
    """What was asked, as JSON."""
    body = await request.body()
    asked = {"method": request.method, "target": str(request.url.path), "query": str(request.url.query)}
    return JSONResponse(asked | {"body": body.decode("latin-1"), "fields": dict(request.headers)})


async def secrets(request: Request) -> Response:
    return JSONResponse(
        {"name": "Ann", "password": "canary-body", "nested": {"api_key": ["canary-body"], "n": 1.10}},
        headers={"Set-Cookie": "sid=canary-cookie"},
    )


async def compressed(request: Request) -> Response:
    data = gzip.compress(b'{"found": "needle in a compressed body"}')
    return Response(data, media_type="application/json", headers={"Content-Encoding": "gzip"})


async def image(request: Request) -> Response:
    return Response(PNG, media_type="image/png")


async def pieces(request: Request) -> Response:
    """So many pieces of 64 KiB, in chunks."""
    number = int(request.path_params["number"])

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(number):
            yield b"x" * 65536

    return StreamingResponse(parts())


async def status(request: Request) -> Response:
    return PlainTextResponse("so it is", int(request.path_params["status"]))


async def waits(request: Request) -> Response:
    await request.app.state.go_on.wait()
    return PlainTextResponse("at last")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text.upper())
        await websocket.send_bytes(text.encode())


def service() -> Starlette:
    app = Starlette(
        routes=[
            Route("/secrets", secrets),
            Route("/compressed", compressed),
            Route("/image", image),
            Route("/pieces/{number:int}", pieces),
            Route("/status/{status:int}", status),
            Route("/waits", waits),
            WebSocketRoute("/talk", talk),
            Route("/{rest:path}", echo, methods=["GET", "POST", "PUT", "DELETE"]),
        ]
    )
    app.state.go_on = trio.Event()
    return app


@dataclass
class Inspected:
    """`client` asks the node for the endpoint; `pages` asks the inspector, whose pages are below `url`."""

    roles: Roles
    node: RunningNode
    agent: Role
    app: Starlette
    port: int
    client: httpx.AsyncClient
    pages: httpx.AsyncClient

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{TOKEN}/"

    async def get(self, path: str, status: int = 200, **options: object) -> str:
        """A page's text."""
        answer = await self.pages.get(path, **options)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        return answer.text

    async def wait_page(self, path: str, pattern: str) -> str:
        """A page, once it has the pattern: what is recorded at an exchange's end comes behind its last byte."""
        while not re.search(pattern, text := (await self.pages.get(path)).text):  # noqa: ASYNC110
            await trio.sleep(0.02)
        return text


@asynccontextmanager
async def open_inspected(roles: Roles, port: int = 0) -> AsyncIterator[Inspected]:
    """Of the service at `port`, or one that is started here."""
    app = service()
    if not port:
        config = Config()
        config.bind, config.errorlog, config.keep_alive_timeout = ["127.0.0.1:0"], None, 300
        urls: list[str] = await roles.nursery.start(serve, app, config)
        port = int(urls[0].rpartition(":")[2])
    node = await roles.node()
    agent = agent_config(node.upstream, port, endpoint="shop")
    agent.inspect.bind_addr, agent.inspect.token = f"127.0.0.1:{free_port()}", TOKEN
    role = await roles.agent_with(agent)
    inspector = int(agent.inspect.bind_addr.rpartition(":")[2])
    async with (
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{node.proxy}", headers={"x-piko-endpoint": "shop"}, timeout=20
        ) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{inspector}/{TOKEN}/", timeout=20) as pages,
    ):
        yield Inspected(roles, node, role, app, inspector, client, pages)
