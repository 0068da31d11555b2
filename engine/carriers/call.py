"""One HTTP request after the other on a connection that is made when it is needed, and made again when it is cut."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final

import trio

from engine.errors import RemoteProtocolError
from engine.loop.connection import Address, Connection
from engine.loop.dial import Server, dial_server
from engine.loop.reading import Reader
from engine.wire import http1
from engine.wire.http1 import Body, Fields, Response

# An answer that invites another try (Piko's list); every other one but a success is final.
RETRYABLE: Final = frozenset((408, 429, 500, 502, 503, 504))
EXCERPT: Final = 300  # bytes of an answer that are shown
MAX_ANSWER: Final = 2 * 1024 * 1024


class Answered(Exception):
    """The answer is no 200. `by_node`: it is a node's own words, and not those of something on the way."""

    def __init__(self, url: str, response: Response, body: bytes) -> None:
        self.status = response.status
        self.fields = response.fields
        self.said = node_error(body)
        self.by_node = self.said is not None
        said = self.said or body[:EXCERPT].decode("utf-8", "replace").strip()
        super().__init__(f"{url} answered {status_words(response)}: {said}".rstrip(": "))

    @property
    def retryable(self) -> bool:
        return self.status in RETRYABLE

    def as_error(self) -> ConnectionResetError:
        """What the user of a carrier is told of it."""
        return ConnectionResetError(str(self))


def retry_after(fields: Fields) -> float | None:
    """For how many seconds an answer asks to be left alone (RFC 9110, 10.2.3); None if it does not. A date, which
    hardly anybody sends, is not looked at.
    """
    found = [value for name, value in fields if name.lower() == b"retry-after"]
    return float(found[0]) if len(found) == 1 and re.fullmatch(rb"[0-9]{1,6}", found[0]) else None


def status_words(response: Response) -> str:
    """The status, and its reason if it has one."""
    return f"{response.status} {response.reason.decode('latin-1')}".rstrip()


def node_error(body: bytes) -> str | None:
    """What a node says in an answer of its own, `{"error": …}`; None if it is none."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(said, dict) and said.keys() == {"error"} and isinstance(said["error"], str):
        return str(said["error"])
    return None


class Caller:
    """Makes requests to `server`. `head` gives a request's head for a body of so many bytes."""

    def __init__(self, server: Server, head: Callable[[int], bytes]) -> None:
        self.peer: Address = (server.host, server.port)
        self._server = server
        self.head = head
        self._connection: Connection | None = None

    async def call(self, message: bytes, data: bytes = b"", *, seconds: float) -> bytes:
        """POST `message` and `data`, and give the body of a 200.

        Raises Answered for another status, OSError, RemoteProtocolError and trio.TooSlowError for the connection, and
        Unreachable where none can be made.
        """
        await self.dial()
        connection = self._connection
        assert connection is not None
        self._connection = None  # in case this does not come to its end
        try:
            with trio.fail_after(seconds):
                connection.put(self.head(len(message) + len(data)) + message, data)
                response, body = await read_answer(connection)
        except BaseException:
            connection.abort()
            raise
        if response.keep_alive:
            self._connection = connection
        else:
            connection.abort()
        if response.status != 200:
            raise Answered(self._server.url, response, body)
        return body

    async def dial(self) -> None:
        """See to it that there is a connection. Raises Unreachable."""
        if self._connection is None or not self._connection.alive:
            self._connection = await dial_server(self._server)
            self.peer = self._connection.peer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()


async def read_answer(connection: Connection, most: int = MAX_ANSWER) -> tuple[Response, bytes]:
    """The answer to a POST, with its body of at most so many bytes. Raises OSError and RemoteProtocolError."""
    reader = Reader(connection)
    while True:
        response = http1.parse_response(await reader.until(http1.head_end), b"POST")
        if response.status >= 200 or response.status == 101:
            break
    if response.status == 101:
        raise RemoteProtocolError("expected an answer, got 101")
    return response, await read_body(reader, response, most)


async def read_body(reader: Reader, response: Response, most: int) -> bytes:
    """The body behind a head that was read."""
    if response.body > most:
        raise RemoteProtocolError(f"expected an answer of at most {most} bytes", str(response.body))
    if response.body >= 0:
        size = response.body
        return await reader.until(lambda data: size if len(data) >= size else -1)
    body = Body()
    body.begin(response.body, chunks=False)
    parts: list[bytes] = []
    length = 0
    while not body.done:
        data = await reader.some()
        if not data:
            if body.until_close:
                break
            raise ConnectionResetError("hung up inside an answer")
        view = memoryview(data)
        while view and not body.done:
            parts += [bytes(part) for part in body.receive(view)]
            view = view[body.taken :]
        length += len(data)
        if length > most:
            raise RemoteProtocolError(f"expected an answer of at most {most} bytes")
    return b"".join(parts)
