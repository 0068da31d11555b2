"""A service for the far end of a tunnel that proves what passed: it hashes what it gets and what it gives.

An ASGI application on hypercorn, so that the service's HTTP is not ours. It runs in the test's own process: a
test that kills processes at random still has the ledger of what reached the service.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket


async def mirror(request: Request) -> Response:
    """What came, as hash and id, and `?answer=N` bytes of noise with their hash."""
    hashed = hashlib.sha256()
    async for chunk in request.stream():
        hashed.update(chunk)
    size = int(request.query_params.get("answer", 0))
    noise = random.randbytes(size)
    fields = {
        "x-request-id": request.headers.get("x-request-id", ""),
        "x-got-sha256": hashed.hexdigest(),
        "x-sent-sha256": hashlib.sha256(noise).hexdigest(),
    }
    return Response(noise, headers=fields)


async def fields(request: Request) -> JSONResponse:
    """Method, path and fields as they arrived."""
    return JSONResponse({"method": request.method, "path": str(request.url.path), "fields": request.headers.items()})


async def events(request: Request) -> StreamingResponse:
    """Server-sent events, one for each line that a test sends to the same service as POST /event."""
    send, receive = trio.open_memory_channel[str](16)
    request.app.state.listeners.append(send)

    async def stream() -> AsyncIterator[str]:
        yield "data: open\n\n"
        async for text in receive:
            yield f"data: {text}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def event(request: Request) -> Response:
    text = (await request.body()).decode()
    for listener in request.app.state.listeners:
        await listener.send(text)
    return Response(status_code=204)


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("bytes") is not None:
            await socket.send_bytes(message["bytes"])
        else:
            await socket.send_text(message["text"])


@asynccontextmanager
async def open_origin() -> AsyncIterator[int]:
    """Serves while the block runs; gives the port."""
    app = Starlette(
        routes=[
            Route("/mirror", mirror, methods=["GET", "POST", "PUT"]),
            Route("/fields", fields),
            Route("/events", events),
            Route("/event", event, methods=["POST"]),
            WebSocketRoute("/echo", echo),
        ]
    )
    app.state.listeners = []
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.keep_alive_timeout = 300
    async with trio.open_nursery() as nursery:
        urls: list[str] = await nursery.start(serve, app, config)
        yield int(urls[0].rpartition(":")[2])
        nursery.cancel_scope.cancel()
