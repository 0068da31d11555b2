"""Starlette; see tests.asgi. It runs on either event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    print("up", flush=True)
    yield
    print("down", flush=True)


async def json(request: Request) -> Response:
    return JSONResponse({"name": request.query_params["name"]})


async def form(request: Request) -> Response:
    async with request.form() as fields:
        file = fields["file"]
        assert isinstance(file, UploadFile)
        return JSONResponse({"name": file.filename, "size": len(await file.read())})


async def both(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await send({"type": "http.response.body", "body": message.get("body", b"").upper(), "more_body": more})


async def parts() -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"part\n"
            await anyio.sleep(0.01)
    finally:
        print("left", flush=True)


async def endless(request: Request) -> Response:
    return StreamingResponse(parts())


async def later(request: Request) -> Response:
    async def task() -> None:
        await anyio.sleep(0.1)
        print("later", flush=True)

    return JSONResponse({}, background=BackgroundTask(task))


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text * 2)


app = Starlette(
    routes=[
        Route("/json", json),
        Route("/form", form, methods=["POST"]),
        Mount("/both", both),
        Route("/endless", endless),
        Route("/later", later),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
