"""Heads that open something: reading one from a connection, and asking a node for a WebSocket (RFC 6455, 4.1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import trio

from engine.carriers.call import EXCERPT, RETRYABLE, node_error, retry_after, status_words
from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.loop.connection import Connection
from engine.loop.dial import Server, dial_server
from engine.loop.reading import Reader
from engine.wire import http1, piko, websocket
from engine.wire.http1 import Fields, Response

UPGRADE_SECONDS: Final = 10.0


async def read_head(connection: Connection) -> bytes:
    """The head that `connection` begins with; what is behind it stays there.

    Raises RemoteProtocolError for what cannot become a head, OSError when it ends before. The deadline is the caller's.
    """
    return await Reader(connection).until(http1.head_end)


async def open_websocket(
    server: Server, path: str, fields: Fields | Callable[[], Fields]
) -> tuple[Connection, Response]:
    """Dial `server` and open a WebSocket at `path` (RFC 6455, 4.1); `fields` may be made when it is dialled.

    Raises Unreachable when trying again may help, Refused when the answer is final.
    """
    connection = await dial_server(server)
    try:
        with trio.fail_after(UPGRADE_SECONDS):
            response = await _upgrade(connection, server, path, fields() if callable(fields) else fields)
    except BaseException as error:
        connection.abort()
        if isinstance(error, trio.TooSlowError):
            raise Unreachable(
                f"{server.url} accepted the connection, but did not answer the WebSocket upgrade", blocked=True
            ) from None
        if isinstance(error, RemoteProtocolError):
            raise Unreachable(
                f"{server.url} is not a node, or a proxy on the way changes the response: {error}", blocked=True
            ) from error
        if isinstance(error, OSError):
            raise Unreachable(
                f"{server.url} closed the connection during the upgrade: {error}", blocked=True
            ) from error
        raise
    return connection, response


async def _upgrade(connection: Connection, server: Server, path: str, fields: Fields) -> Response:
    key = websocket.new_key()
    connection.put(
        http1.encode_request(
            b"GET",
            (server.path + path).encode(),
            [
                (b"Host", server.authority.encode()),
                (b"Connection", b"Upgrade"),
                (b"Upgrade", b"websocket"),
                (b"Sec-WebSocket-Version", b"13"),
                (b"Sec-WebSocket-Key", key),
                (b"User-Agent", b"trioduct"),
                *fields,
            ],
        )
    )
    response = http1.parse_response(await read_head(connection), b"GET")
    if response.status != 101:
        raise await _no_websocket(connection, server, path, response)
    websocket.check_upgrade_answer(101, response.fields, key)
    return response


async def _no_websocket(connection: Connection, server: Server, path: str, response: Response) -> Exception:
    """What it means that the upgrade was answered by something else than 101."""
    body = b""
    reader = Reader(connection)
    with trio.move_on_after(1):
        while len(body) < min(response.body if response.body >= 0 else EXCERPT, EXCERPT):
            more = await reader.some()
            if not more:
                break
            body += more
    status = response.status
    said = body[:EXCERPT].decode("utf-8", "replace").strip()
    text = f"{server.url} answered {status_words(response)}: {said}".rstrip(": ")
    between = any(name.lower() == b"via" for name, _ in response.fields)
    if not between and (wrong := piko.wrong_port(path, status, said)) is not None:
        text += f"; {wrong[0]}: {wrong[1]}"
    by_node = node_error(body) is not None and not (
        status == 400 and re.search("upgrade|websocket", said, re.IGNORECASE)
    )
    if status in RETRYABLE:
        pause = retry_after(response.fields)
        blocked = not by_node and pause is None and status not in (408, 429)  # those say what is the matter
        return Unreachable(text, retry_after_seconds=pause, blocked=blocked)
    if between:
        what = "removed the WebSocket upgrade" if status == 400 else "answers instead of the node"
        text += f" (a proxy on the way {what}; ask its administrator to allow it; `trioduct doctor` says how)"
    return Refused(text, blocked=not by_node)
