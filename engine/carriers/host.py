"""A node's side of the carriers that are made of plain HTTP requests: who asks for what, request after request.

A port gives each request whose path is one of ours to `Host.take`, and gets the connection back when it was answered,
for the next request on it may be anybody's: a balancer's connection carries whatever it has. What is admitted, and what
becomes of a new carrier, the port says (`Door`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from engine.carriers.carrier import Carrier
from engine.carriers.poll import GONE_SECONDS, PollEnd
from engine.carriers.stream import StreamCarrier
from engine.errors import HTTPError, Unauthorized
from engine.limits import Crowd
from engine.log import get_logger
from engine.loop.connection import Address, Connection
from engine.loop.reactor import Reactor
from engine.wire import http1, posts
from engine.wire.http1 import CHUNKED, Body, Request
from engine.wire.posts import Close, Down, Hello, Open, StreamUp, Up, Welcome
from engine.wire.posts import Request as Message

BODY_SECONDS: Final = 30.0  # for a request of a known length to come whole
PAIR_SECONDS: Final = 10.0  # for the other half of a stream
MAX_CARRIERS: Final = 10_000
MAX_OF_ONE: Final = 1_000  # that were opened by one principal, or from one address
PLAIN: Final = [(b"Content-Type", b"application/octet-stream"), (b"Cache-Control", b"no-store")]
UNBUFFERED: Final = (b"X-Accel-Buffering", b"no")  # nginx passes it on as it comes then

log = get_logger("upstream")


class Purposeful(Protocol):
    """What a request is for. A carrier's requests have to have the same `purpose` as the one that has opened it."""

    @property
    def purpose(self) -> object: ...

    @property
    def party(self) -> str:
        """Who asks, if that is known; else empty."""


Asked = TypeVar("Asked", bound=Purposeful)


class Door(Protocol[Asked]):
    """What a port decides. Both may raise HTTPError and Unauthorized."""

    def admit(self, request: Request, peer: str) -> Asked:
        """What the request, which has come from the address `peer`, is for, if it may be made; called for each."""

    def enter(self, asked: Asked, hello: Hello, carrier: Carrier) -> tuple[Welcome, Callable[[], None]]:
        """A carrier is opened: what its client is told, and what then gives the carrier to its session."""


class Host(Generic[Asked]):
    """The carriers of a port that are made of requests."""

    def __init__(self, door: Door[Asked], reactor: Reactor) -> None:
        self.door = door
        self.reactor = reactor
        self.crowd = Crowd(MAX_CARRIERS, MAX_OF_ONE)  # of both of these
        self._polls: dict[bytes, _Opened[Asked]] = {}
        self._halves: dict[bytes, _Post[Asked]] = {}  # streams whose other half has not come yet
        self.deadline = math.inf
        reactor.clock(self)

    def take(
        self, connection: Connection, request: Request, back: Callable[[bool], None], *, last: bool = False
    ) -> None:
        """Answer `request`, whose body is the next on `connection`; then call `back`: True if another may follow on it,
        False if it is closed, or a stream's. None follows if it is to be the `last`.
        """
        _Post(self, connection, request, back, last=last)

    # -- what a request says, when its first line has come

    def open_poll(self, opened: Open, post: _Post[Asked]) -> None:
        """A carrier of bounded requests. The same opening gets the same answer, for somebody may have repeated it."""
        found = self._polls.get(opened.id)
        if found is not None:
            if found.asked.purpose != post.asked.purpose or found.hello != opened.hello:
                raise HTTPError(409, "a carrier has this name already")
            post.reply(found.welcome)
            return
        self._check_room(post.connection.peer, post.asked)
        end = PollEnd(post.connection.peer)
        try:
            welcome, start = self.door.enter(post.asked, opened.hello, end)
        except BaseException:
            end.abort()
            raise
        end.on_over = partial(self._remove, opened.id)
        found = _Opened(end, post.asked, opened.hello, posts.encode_welcome(welcome))
        self._polls[opened.id] = found
        self.crowd.enter(end.peer[0], post.asked.party)
        if self.deadline == math.inf:
            self.deadline = self.reactor.now + GONE_SECONDS
        post.reply(found.welcome)
        start()

    def _remove(self, id: bytes) -> None:
        """That carrier is over, and has nothing to say any more."""
        found = self._polls.pop(id, None)
        if found is not None:
            self.crowd.leave(found.end.peer[0], found.asked.party)

    def _check_room(self, peer: Address, asked: Asked) -> None:
        """Raises HTTPError if as many are open as may be."""
        if self.crowd.is_full(peer[0], asked.party):
            raise HTTPError(429, "too many carriers are open")

    def poll(self, id: bytes, asked: Asked) -> PollEnd | None:
        """The carrier with this name, if it was opened for the same."""
        found = self._polls.get(id)
        return found.end if found is not None and found.asked.purpose == asked.purpose else None

    def expired(self) -> None:
        """Forget the carriers whose good-bye nobody has asked for."""
        now = self.reactor.now
        for opened in list(self._polls.values()):
            if not opened.end.alive and now - opened.end.heard_at >= GONE_SECONDS:
                opened.end.free()
        self.deadline = now + GONE_SECONDS if self._polls else math.inf

    def break_off(self, error: Exception) -> None:
        """One carrier could not be forgotten; the others go on."""

    # -- streams

    def meet(self, id: bytes, half: _Post[Asked]) -> None:
        """One half of a stream has come: it waits for the other, or both become a carrier."""
        other = self._halves.get(id)
        if other is None:
            self._check_room(half.connection.peer, half.asked)
            self._halves[id] = half
            self.crowd.enter(half.connection.peer[0], half.asked.party)
            return
        down, up = (half, other) if half.opened is not None else (other, half)
        if down.opened is None or up.opened is not None or down.asked.purpose != up.asked.purpose:
            raise HTTPError(409, "that is not the other half of this stream")
        self.forget(id, other)
        leftover = up.leftover
        carrier = StreamCarrier(
            up.connection, down.connection, up.body, leftover=leftover, answer=_answer(b"", close=True)
        )
        try:
            welcome, start = self.door.enter(up.asked, down.opened.hello, carrier)
        except Exception as error:
            carrier.give_back()
            other.refuse(error)
            raise
        # The way down is answered when both are there: what the client sees of it says that both stream.
        up.hand_over()
        down.hand_over()
        fields = [*PLAIN, UNBUFFERED, (b"Transfer-Encoding", b"chunked"), (b"Connection", b"close")]
        down.connection.put(http1.encode_response(200, b"OK", fields))
        carrier.put(posts.encode_welcome(welcome))
        start()

    def forget(self, id: bytes, half: _Post[Asked]) -> None:
        """It waits for its other half no more."""
        if self._halves.get(id) is half:
            del self._halves[id]
            self.crowd.leave(half.connection.peer[0], half.asked.party)


class _Opened(NamedTuple, Generic[Asked]):
    """A carrier of bounded requests: what for, by what words, and what was said to them."""

    end: PollEnd
    asked: Asked
    hello: Hello
    welcome: bytes


class _State(IntEnum):
    """Of a request."""

    LINE = 0  # its first line has not come whole
    BODY = 1  # the rest of a known length has not
    WAITING = 2  # for something to answer with, or for the other half
    OVER = 3  # answered, given to a stream, or lost


class _Post(Generic[Asked]):
    """One request, from behind its head to its answer: the receiver of its connection meanwhile."""

    def __init__(
        self,
        host: Host[Asked],
        connection: Connection,
        request: Request,
        back: Callable[[bool], None],
        *,
        last: bool,
    ) -> None:
        self.connection = connection
        self.body = Body()
        self.opened: Open | None = None  # for a stream
        self._host = host
        self._request = request
        self._back = back
        self._state = _State.LINE
        self._data = bytearray()  # of the body
        self._message: Message | None = None
        self._end: PollEnd | None = None  # in WAITING, for an answer
        self._last = last or not request.keep_alive  # nothing may follow on the connection
        self._reactor = host.reactor
        self.deadline = self._reactor.now + BODY_SECONDS
        self._reactor.clock(self)
        connection.receiver = self
        self._guarded(self._begin)

    @property
    def idle(self) -> bool:
        return False

    def refuse(self, error: Exception) -> None:
        """Answer with what `error` stands for."""

        def fail() -> None:
            raise error

        self._guarded(fail)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except HTTPError as error:
            log.info("request refused", client_ip=self.connection.peer[0], status=error.status, error=str(error))
            self._refuse(error.status, error.public, error.retry_after)
        except Unauthorized as error:
            log.warning("request refused", client_ip=self.connection.peer[0], status=401, error=str(error))
            self._refuse(401, str(error))

    def _begin(self) -> None:
        request = self._request
        if request.method != b"POST":
            raise HTTPError(405, "method not allowed")
        self.asked: Asked = self._host.door.admit(request, self.connection.peer[0])
        if not request.body or request.body > posts.MAX_BODY:
            raise HTTPError(413 if request.body else 400, f"expected a body of at most {posts.MAX_BODY} bytes")
        if request.expect_continue:
            self.connection.put(http1.encode_response(100, b"Continue", []))
        self.body.begin(request.body, chunks=False)
        self.connection.resume()

    # -- the receiver of the connection

    def received(self, data: memoryview) -> int:
        if self._state >= _State.WAITING:
            self.connection.pause()
            return 0
        self._guarded(partial(self._receive, data))
        return self.body.taken

    def _receive(self, data: memoryview) -> None:
        for part in self.body.receive(data):
            self._data += part
        if self._state is _State.LINE:
            end = posts.line_end(self._data)
            if end < 0 and not self.body.done:
                return
            message = posts.parse_request(bytes(self._data[: max(end, 0)]))
            del self._data[:end]
            self._message = message
            self._state = _State.BODY
            if isinstance(message, StreamUp):
                if self._request.body != CHUNKED:
                    raise HTTPError(400, "expected a body in chunks")
                self._wait_for_half()
                return
        if len(self._data) > posts.MAX_UP:
            raise HTTPError(413, f"expected at most {posts.MAX_UP} bytes behind the line")
        if self.body.done:
            self._act()

    def _act(self) -> None:
        """The request has come whole."""
        message, host = self._message, self._host
        assert message is not None
        self._state = _State.WAITING
        self.deadline = math.inf
        if isinstance(message, Open):
            if message.kind == "poll":
                host.open_poll(message, self)
            elif self._request.version != 11:
                raise HTTPError(505, "a stream needs HTTP/1.1 all the way")
            else:
                self.opened = message
                self._wait_for_half()
            return
        assert not isinstance(message, StreamUp)
        end = host.poll(message.id, self.asked)
        if end is None:
            self.reply(posts.GONE + b"\n")
        elif isinstance(message, Up):
            self.reply(end.up(message.offset, bytes(self._data)))
        elif isinstance(message, Down):
            self._end = end
            end.down(message, self.reply)
        elif isinstance(message, Close):
            end.closed(message.code, message.reason)
            self.reply(posts.GONE + b"\n")

    def _wait_for_half(self) -> None:
        self._state = _State.WAITING
        self.deadline = self._reactor.now + PAIR_SECONDS
        assert isinstance(self._message, Open | StreamUp)
        self._host.meet(self._message.id, self)

    def ended(self) -> None:
        """Who has said its last byte may still wait for an answer (RFC 9112, 9.6)."""
        if self._state < _State.WAITING:
            self.refuse(HTTPError(400, "the request ends inside its body"))
        elif self._end is not None or self.opened is not None:
            self._last = True
        else:
            self.refuse(HTTPError(400, "the stream ends before it begins"))

    def lost(self, error: Exception) -> None:
        self._leave()
        self._back(False)

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None:
        self._leave()
        self.connection.abort()
        self._back(False)

    # -- the answer

    def reply(self, body: bytes) -> None:
        """Answer, and give the connection back."""
        if self._state is _State.OVER:
            return
        keep = not self._last
        self._leave()
        self.connection.put(_answer(body, close=not keep))
        if not keep:
            self.connection.close()
        self._back(keep)

    @property
    def leftover(self) -> bytes:
        """What has come of its body, behind the line."""
        return bytes(self._data)

    def hand_over(self) -> None:
        """The connection is a stream's from now on."""
        self._leave()
        self._back(False)

    def _refuse(self, status: int, text: str, retry_after: int = 0) -> None:
        if self._state is not _State.OVER:
            self._leave()
            self.connection.put(http1.error_response(status, text, close=True, retry_after=retry_after))
            self.connection.close()
            self._back(False)

    def _leave(self) -> None:
        """It is over: nobody is to answer it any more."""
        if self._state is _State.OVER:
            return
        before, self._state = self._state, _State.OVER
        self._reactor.unclock(self)
        end, self._end = self._end, None
        if end is not None:
            end.forget(self.reply)
        elif before is _State.WAITING and isinstance(self._message, Open | StreamUp):
            self._host.forget(self._message.id, self)

    def expired(self) -> None:
        waited = self._state is _State.WAITING
        self._refuse(408, "the other half of the stream has not come" if waited else "the request took too long")


def _answer(body: bytes, *, close: bool = False) -> bytes:
    fields = [*PLAIN, (b"Content-Length", b"%d" % len(body))]
    if close:
        fields.append((b"Connection", b"close"))
    return http1.encode_response(200, b"OK", fields) + body
