"""A client's side of the carriers that are made of plain HTTP requests: how they are opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from engine.carriers.call import EXCERPT, Answered, Caller, read_body, retry_after
from engine.carriers.poll import CALL_SECONDS, PollCarrier
from engine.carriers.stream import StreamCarrier
from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.loop.connection import Connection
from engine.loop.dial import Server, dial_server
from engine.loop.reading import Reader
from engine.wire import http1, owner, piko, posts
from engine.wire.http1 import Body, Fields, Response
from engine.wire.owner import owner_of_session
from engine.wire.posts import Hello, Welcome

STREAM_SECONDS: Final = 5.0  # for both halves to come about: what buffers them would hold them back for ever
HELD_BACK_SECONDS: Final = 0.15  # longer than a dial: HAProxy keeps each part of a body for 0.2 s
FINAL: Final = frozenset((401, 403, 404, 410, 429, 502, 503))
CONTENT: Final = [
    (b"User-Agent", b"trioduct"),
    (b"Content-Type", b"application/octet-stream"),
    (b"Cache-Control", b"no-store"),
]


class Place(NamedTuple):
    """Where the requests go: below `base` (see posts), for `endpoint`. `credentials` are asked for each time, and
    `opening` is what those which open a carrier say besides.
    """

    server: Server
    base: str
    endpoint: str
    credentials: Callable[[], Fields]
    opening: Callable[[], Fields] = list

    def head(self, framing: tuple[bytes, bytes], tag: bytes, *, opens: bool = True) -> bytes:
        """A request's head. `tag` says which node is meant."""
        target = (self.server.path + posts.path(self.base, self.endpoint, tag)).encode()
        said = [*self.credentials(), *(self.opening() if opens else ())]
        fields = [(b"Host", self.server.authority.encode()), *CONTENT, *said, framing]
        return http1.encode_request(b"POST", target, fields)

    def heads(self, tag: bytes, *, opens: bool = False) -> Callable[[int], bytes]:
        """What makes the heads of requests with bodies of so many bytes."""
        return lambda size: self.head((b"Content-Length", b"%d" % size), tag, opens=opens)


async def open_poll(place: Place, hello: Callable[[], Hello]) -> tuple[PollCarrier, Welcome]:
    """Open a carrier of bounded requests. Raises Unreachable and Refused."""
    caller, id = Caller(place.server, place.heads(b"")), posts.new_id()
    await caller.dial()
    try:
        greeting = hello()
        caller.head = place.heads(owner_of_session(greeting.session.encode()), opens=True)
        answer = await caller.call(posts.encode_open("poll", id, greeting), seconds=CALL_SECONDS)
        welcome = posts.parse_welcome(answer)
    except BaseException as error:
        caller.close()
        if isinstance(error, Answered):
            raise _refusal(place, error) from None
        if isinstance(error, OSError | RemoteProtocolError | trio.TooSlowError):
            raise _broken(place, error, CALL_SECONDS) from error
        raise
    caller.head = place.heads(welcome.owner.encode())
    return PollCarrier(id, lambda: Caller(place.server, caller.head), caller), welcome


async def open_stream(place: Place, hello: Callable[[], Hello]) -> tuple[StreamCarrier, Welcome]:
    """Open a carrier of two endless bodies. Raises Unreachable and Refused."""
    since = trio.current_time()
    down = await dial_server(place.server)
    dialled_in = trio.current_time() - since
    try:
        up = await dial_server(place.server)
    except BaseException:
        down.abort()
        raise
    try:
        with trio.fail_after(STREAM_SECONDS):
            since = trio.current_time()
            carrier, welcome = await _pair(place, down, up, hello)
        took = trio.current_time() - since
        if took > dialled_in + HELD_BACK_SECONDS:
            carrier.abort()
            raise Unreachable(f"{place.server.url}: each part of a stream is held back for {took:.1f} s", blocked=True)
        return carrier, welcome
    except BaseException as error:
        down.abort()
        up.abort()
        if isinstance(error, Answered):
            raise _refusal(place, error) from None
        if isinstance(error, OSError | RemoteProtocolError | trio.TooSlowError):
            raise _broken(place, error, STREAM_SECONDS) from error
        raise


async def _pair(
    place: Place, down: Connection, up: Connection, hello: Callable[[], Hello]
) -> tuple[StreamCarrier, Welcome]:
    id, greeting = posts.new_id(), hello()
    tag = owner_of_session(greeting.session.encode()) or owner.draw()
    line = posts.encode_open("stream", id, greeting)
    down.put(place.head((b"Content-Length", b"%d" % len(line)), tag) + line)
    line = posts.encode_up_stream(id)
    up.put(place.head((b"Transfer-Encoding", b"chunked"), tag) + b"%x\r\n%b\r\n" % (len(line), line))
    found: list[tuple[Welcome, Body, bytes]] = []
    failures: list[Exception] = []

    async def hear_down() -> None:
        try:
            found.append(await _first_line(place, down))
        except (OSError, RemoteProtocolError, Answered) as error:
            failures.append(error)
        nursery.cancel_scope.cancel()

    async def hear_up() -> None:
        """An answer to a request that has not ended: a refusal."""
        try:
            failures.append(await _answer(place, Reader(up)))
        except (OSError, RemoteProtocolError) as error:
            failures.append(error)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear_down)
        nursery.start_soon(hear_up)
    if not found:
        raise failures[0]
    welcome, body, leftover = found[0]
    return StreamCarrier(down, up, body, leftover=leftover), welcome


async def _first_line(place: Place, down: Connection) -> tuple[Welcome, Body, bytes]:
    """The line that says that the stream is open; what decodes the rest, and what is decoded already."""
    reader = Reader(down)
    response = http1.parse_response(await reader.until(http1.head_end), b"POST")
    if response.status != 200:
        raise await _refused(place, reader, response)
    if response.body >= 0:
        raise RemoteProtocolError("expected an answer that does not end, got one of a known length")
    body = Body()
    body.begin(response.body, chunks=False)
    data = b""
    while (end := posts.line_end(data)) < 0:
        raw = await reader.some()
        if not raw:
            raise ConnectionResetError("hung up before the stream was open")
        view = memoryview(raw)
        while view and not body.done:
            data += b"".join(body.receive(view))
            view = view[body.taken :]
    return posts.parse_welcome(data[:end]), body, data[end:]


async def _answer(place: Place, reader: Reader) -> Answered:
    response = http1.parse_response(await reader.until(http1.head_end), b"POST")
    return await _refused(place, reader, response)


async def _refused(place: Place, reader: Reader, response: Response) -> Answered:
    body = b""
    with trio.move_on_after(1):
        body = await read_body(reader, response, EXCERPT * 100)
    return Answered(place.server.url, response, body)


def _refusal(place: Place, answered: Answered) -> Refused | Unreachable:
    """What is told of an answer that is no 200."""
    if answered.by_node:
        path = piko.tcp_path("") if place.base == posts.TCP_PATH else piko.upstream_path("")
        if (wrong := piko.wrong_port(path, answered.status, answered.said or "")) is not None:
            return Refused(f"{answered}; {wrong[0]}: {wrong[1]}")
    if answered.status == 404 and not answered.by_node:
        return Refused(f"{answered} (it knows no other carriers: is it a Piko, or an older Trioduct?)", blocked=True)
    # What the node says of who asks is final. What it says of the request itself may be what has become of it.
    blocked = not (answered.by_node and answered.status in FINAL)
    if answered.retryable:
        return Unreachable(str(answered), retry_after_seconds=retry_after(answered.fields), blocked=blocked)
    return Refused(str(answered), blocked=blocked)


def _broken(place: Place, error: Exception, seconds: float) -> Unreachable:
    words = f"nothing came through within {seconds:g} s" if isinstance(error, trio.TooSlowError) else str(error)
    return Unreachable(f"{place.server.url}: {words}", blocked=True)
