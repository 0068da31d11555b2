"""Asking the admin port of another node."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final

import trio
from starlette.responses import Response

from engine.carriers.call import read_answer
from engine.loop.dial import dial_tcp
from engine.loop.listen import split_address
from engine.wire import http1

SECONDS: Final = 5.0
INCOMPLETE: Final = b"x-trioduct-incomplete"  # of an answer: what is missing in it
MAX_ANSWER: Final = 64 * 1024 * 1024  # a hundred thousand endpoints with long names


async def ask(address: str, path: str, fields: Sequence[tuple[str, str]], tls: ssl.SSLContext | None) -> Response:
    """GET `path` of the admin port at `address` (host:port), with these fields; its answer, as it goes on.

    Raises OSError, ValueError for what is no address, RemoteProtocolError and trio.TooSlowError.
    """
    host, port = split_address(address)
    with trio.fail_after(SECONDS):
        connection = await dial_tcp(host, port, tls=tls, server_name=host)
        try:
            shown = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
            always = [(b"Host", address.encode()), (b"Connection", b"close")]
            connection.put(http1.encode_request(b"GET", path.encode(), [*always, *shown]))
            answer, body = await read_answer(connection, MAX_ANSWER)
        finally:
            connection.abort()
    said = {name.lower(): value for name, value in answer.fields}
    told = {name.decode(): said[name].decode("latin-1") for name in (b"content-type", INCOMPLETE) if name in said}
    return Response(body, answer.status, told)
