"""An ASGI application as the endpoint `shop`, without a local port: docs/sdk.md. Needs a node on this machine."""

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import trioduct


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


app = Starlette(routes=[Route("/", hello)])


async def main() -> None:
    await trioduct.serve(app, "shop", url="http://localhost:8001")


trio.run(main)
