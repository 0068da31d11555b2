"""Trioduct in a Python program: services and clients of a node, without a port of this machine.

On Trio:

    async with trioduct.listen("shop", url="http://node:8001") as listener:   # streams, for trio.serve_listeners
        await trio.serve_listeners(handler, [listener])
    await trioduct.serve(app, "shop", url="http://node:8001")                 # an ASGI application
    stream = await trioduct.connect("database", url="http://node:8000")       # a stream to a TCP endpoint
    transport = trioduct.httpx_transport(url="http://node:8000")              # httpx: http://shop/ is the endpoint shop

What is not here is the engine's own, and may change.
"""

from engine.errors import ConfigError, Refused, Unreachable
from trioduct.asgi import serve
from trioduct.client import connect
from trioduct.listener import EndpointListener, listen
from trioduct.requests import httpx_transport
from trioduct.stream import TunnelStream

__all__ = [
    "listen",
    "serve",
    "connect",
    "httpx_transport",
    "EndpointListener",
    "TunnelStream",
    "ConfigError",
    "Refused",
    "Unreachable",
]
