"""FastAPI; see tests.asgi."""

# FastAPI reads the annotations, so they are no texts here.
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import anyio
from fastapi import BackgroundTasks, FastAPI, File, UploadFile, WebSocket
from fastapi.responses import StreamingResponse

from tests.asgi.starlette_app import parts


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    print("up", flush=True)
    yield
    print("down", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/json")
async def json(name: str) -> dict[str, str]:
    return {"name": name}


@app.post("/form")
async def form(file: Annotated[UploadFile, File()]) -> dict[str, object]:
    return {"name": file.filename, "size": len(await file.read())}


@app.get("/endless")
async def endless() -> StreamingResponse:
    return StreamingResponse(parts())


@app.get("/later")
async def later(tasks: BackgroundTasks) -> dict[str, str]:
    async def task() -> None:
        await anyio.sleep(0.1)
        print("later", flush=True)

    tasks.add_task(task)
    return {}


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text * 2)
