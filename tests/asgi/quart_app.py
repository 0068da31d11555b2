"""Quart; see tests.asgi. It needs asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from quart import Quart, request, websocket

from tests.asgi.starlette_app import parts

app = Quart(__name__)
app.config["RESPONSE_TIMEOUT"] = None


@app.before_serving
async def up() -> None:
    print("up", flush=True)


@app.after_serving
async def down() -> None:
    print("down", flush=True)


@app.get("/json")
async def json() -> dict[str, str]:
    return {"name": request.args["name"]}


@app.post("/form")
async def form() -> dict[str, object]:
    file = (await request.files)["file"]
    return {"name": file.filename, "size": len(file.read())}


@app.post("/both/")
async def both() -> AsyncIterator[bytes]:
    body = request.body

    async def capitals() -> AsyncIterator[bytes]:
        async for part in body:
            yield part.upper()

    return capitals()


@app.get("/endless")
async def endless() -> AsyncIterator[bytes]:
    return parts()


@app.get("/later")
async def later() -> dict[str, str]:
    async def task() -> None:
        await asyncio.sleep(0.1)
        print("later", flush=True)

    app.add_background_task(task)
    return {}


@app.websocket("/echo")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive() * 2)
