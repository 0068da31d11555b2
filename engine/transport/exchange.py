"""HTTP/1.1 requests from one Duplex, each answered by way of another: what the node and the agent both do.

A `Front` belongs to where requests come from (the node: a client's socket; the agent: a stream), a `Back` to where
they are sent (a stream; the service's socket). Requests on a front are served one after the other, so a front has
at most one back at a time, and a back one front; between requests a back waits in its owner's pool.

    front: receives a request's head and body   -> back.outlet.put
    back:  receives the answer's head and body  -> front.inlet.put

Which back serves a request, and what is added to or taken from its head, is the *role's* (`Role.begin`); what a
hop may pass on and where a message ends are rules of HTTP and live in wire/http1.

**What must never happen**: an answer that looks whole and is not. So a length is counted to its last byte, a
chunked body's end is passed on only when it came, a body that ends with its connection is given chunks of our own
(or, for HTTP/1.0, a reset if the connection broke), and whatever goes wrong after the first byte of an answer is an
`abort` of the front's inlet. Before the first byte it is an error in JSON.

**What is tried again**: a request of which the answer has not begun, whose back was lost, whose method may be
repeated (RFC 9110, 9.2.2) and whose whole body we still hold (`RESEND_BYTES`); once.

**Clocks** (seconds, in `Timeouts`): a head has to come whole, a body has to move, an answer has to begin, and a
client has to read. No clock ever measures how long a message takes that moves.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from engine.access_log import AccessLog, Finished
from engine.errors import HTTPError
from engine.log import get_logger
from engine.transport.duplex import NOBODY, Bytes, Duplex
from engine.transport.pulse import Pulse
from engine.transport.relay import Relay
from engine.wire import http1, piko
from engine.wire.http1 import CHUNKED, UNTIL_CLOSE, ChunkedBody, Fields, Request, Response

RESEND_BYTES: Final = 64 * 1024
PIPELINE_BYTES: Final = 64 * 1024  # of requests ahead of their turn, kept before reading stops
UNREAD_BYTES: Final = 256 * 1024  # of answers: who has left more unread gets no further one
MAX_INTERIM: Final = 64  # 1xx answers to one request
BODY_BYTES_PER_SECOND: Final = 240  # slower than this is an attack (slow body)
BODY_GRACE_SECONDS: Final = 30.0  # before that rule holds
LEAVING_SECONDS: Final = 1.0

_REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_INFINITY: Final = math.inf

log = get_logger("proxy.http")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; infinity switches one off."""

    head: float = 10.0  # from a request's first byte to the end of its head
    idle: float = 300.0  # between requests
    pause: float = 10.0  # in which no byte of a request's body comes
    answer: float = 30.0  # from a request's end to its answer's head
    stall: float = 60.0  # in which the other side takes no byte of an answer


class Role(Protocol):
    """What the node or the agent decides about a request."""

    timeouts: Timeouts
    leaving: bool  # no request after the one under way: the process is being stopped

    def begin(self, front: Front, request: Request) -> Back | None:
        """Choose the back and set `front.head`, the request's head as it goes on.

        None: `front` was answered with `fail` or taken over with `take_over`, or a back is being looked for, and
        `front.serve_by` (or `fail`) will be called. Called again, with `front.attempt` 1, for a second try.
        """

    def finished(self, front: Front) -> None:
        """An exchange is over: `front.status`, `.bytes_in`, `.bytes_out`, `.started` tell how it went.

        One that was refused before `begin` has `front.attempt` -1, and no request if not even its head was understood.
        """


class Front:
    """The side requests come from. Owns nothing: who made the inlet closes it, but for what HTTP says."""

    __slots__ = (
        "_body_checked",
        "_body_since",
        "_chunked",
        "_ended",
        "_expecting",
        "_kept",
        "_left",
        "_moved",
        "_resend",
        "_unread",
        "_waiting",
        "answered",
        "attempt",
        "back",
        "bytes_in",
        "bytes_out",
        "deadline",
        "first_byte",
        "head",
        "inlet",
        "last",
        "pulse",
        "request",
        "request_done",
        "response",
        "role",
        "started",
        "status",
    )

    def __init__(self, inlet: Duplex, role: Role, pulse: Pulse) -> None:
        self.inlet = inlet
        self.role = role
        self.pulse = pulse
        self.request: Request | None = None
        self.response: Response | None = None  # the final one, once its head has come
        self.back: Back | None = None
        self.head = b""  # of the request, as it goes on
        self.attempt = -1  # before the role was asked for a back
        self.answered = False  # the first byte of a final answer has been sent
        self.request_done = True  # its body has come whole
        self.last = False  # no request after this one
        self.status = 0
        self.bytes_in = 0  # of bodies
        self.bytes_out = 0
        self.started = 0.0  # time.perf_counter()
        self.first_byte = 0.0
        self._kept = b""  # received and not understood or not due yet
        self._ended = False  # nothing will come behind `_kept`
        self._expecting = False  # the client holds its body back until it hears 100 Continue
        self._unread = 0  # bytes of answers, when the next request waits for them to be read
        self._left = 0
        self._chunked: ChunkedBody | None = None
        self._resend: list[bytes] | None = None
        self._waiting = False  # for a back
        self._body_since = 0.0
        self._body_checked = 0
        self._moved = 0
        self.deadline = pulse.now + role.timeouts.idle
        inlet.receiver = self
        pulse.watch(self)

    # -- requests

    def received(self, data: memoryview) -> None:
        if self._kept:
            data = memoryview(self._kept + data)
            self._kept = b""
        self._take(data)

    def _take(self, data: memoryview) -> None:
        try:
            while data:
                if self.request is None:
                    if self.last:
                        return
                    if self.inlet.backlog > UNREAD_BYTES:
                        self._wait_until_read(data)
                        return
                    end = http1.head_end(data)
                    if end < 0:
                        self._keep_partial_head(data)
                        return
                    request = http1.parse_request(bytes(data[:end]))
                    data = self._begin(request, data[end:])
                    receiver = self.inlet.receiver
                    if receiver is not self:  # the role has taken over (or nobody listens any more)
                        receiver.received(data)
                        return
                elif not self.request_done:
                    parts, data = self._body_parts(data)
                    self._pass_on(parts)
                else:
                    # the next request, ahead of its turn; or the first words of a protocol being switched to
                    self._kept = bytes(data)
                    if len(self._kept) > PIPELINE_BYTES:
                        self.inlet.pause()
                    return
        except HTTPError as error:
            self._refuse(error)

    def _keep_partial_head(self, data: memoryview) -> None:
        if not self._kept and self._body_since == 0.0:
            self._body_since = self.pulse.now
            self.deadline = self.pulse.now + self.role.timeouts.head
        self._kept = bytes(data)

    def _wait_until_read(self, data: memoryview) -> None:
        """An answer is done when it is queued, so who asks and asks, and reads nothing, would fill the memory."""
        self._kept = bytes(data)
        self._unread = self.inlet.backlog
        self.inlet.pause()
        self.deadline = self.pulse.now + self.role.timeouts.stall

    def _begin(self, request: Request, rest: memoryview) -> memoryview:
        """Start an exchange; what of `rest` is not this request's body is returned."""
        self.request = request
        self.started = time.perf_counter()
        self._body_since = 0.0
        self._unread = 0
        self._left = left = request.body
        self.request_done = left == 0
        self._chunked = ChunkedBody() if left == CHUNKED else None
        if not request.keep_alive or self.role.leaving:
            self.last = True
        parts: list[Bytes] = []
        if left and rest:
            parts, rest = self._body_parts(rest)
        self._resend = [bytes(part) for part in parts] if self.bytes_in <= RESEND_BYTES else None
        self._expecting = request.expect_continue and not self.bytes_in
        if self.request_done or self._expecting:
            self.deadline = self.pulse.now + self.role.timeouts.answer
        else:
            self._await_body()
        self._dispatch(parts)
        return rest

    def _await_body(self) -> None:
        self._expecting = False
        self._body_since = self.pulse.now
        self._body_checked = self.bytes_in
        self.deadline = self.pulse.now + self.role.timeouts.pause

    def _dispatch(self, parts: list[Bytes]) -> None:
        request = self.request
        assert request is not None
        self.attempt += 1
        back = self.role.begin(self, request)
        if back is not None:
            self.back = back
            back.start(self, request.method)
            if not back.outlet.put(self.head, *parts):
                self.inlet.pause()
        elif self.request is request and not self.answered:
            # The role is looking for a back. `_resend` holds what came with the head.
            self._waiting = True
            if self._resend is None:
                self._resend = [bytes(part) for part in parts]
            self.inlet.pause()

    def serve_by(self, back: Back) -> None:
        """The role has found the back it was looking for. It must have set `head`."""
        request = self.request
        assert request is not None
        self._waiting = False
        self.back = back
        back.start(self, request.method)
        if back.outlet.put(self.head, *(self._resend or ())):
            self.inlet.resume()
        if self.bytes_in > RESEND_BYTES:
            self._resend = None

    def _body_parts(self, data: memoryview) -> tuple[list[Bytes], memoryview]:
        """Split off what belongs to the request's body, as it goes on."""
        if self._chunked is not None:
            parts = self._chunked.receive(data)
            rest = self._chunked.rest if self._chunked.done else data[:0]
            self.bytes_in += len(data) - len(rest)
            if self._chunked.done:
                self._body_complete()
            return parts, rest
        take = min(self._left, len(data))
        self._left -= take
        self.bytes_in += take
        if not self._left:
            self._body_complete()
        return [data[:take]], data[take:]

    def _body_complete(self) -> None:
        self.request_done = True
        self._chunked = None
        if not self.answered:
            self.deadline = self.pulse.now + self.role.timeouts.answer

    def _pass_on(self, parts: list[Bytes]) -> None:
        if self._resend is not None:
            if self.bytes_in <= RESEND_BYTES or self._waiting:
                self._resend.extend(bytes(part) for part in parts)
            else:
                self._resend = None
        if self.back is not None and not self.back.outlet.put(*parts):
            self.inlet.pause()

    def ended(self) -> None:
        if self.request is None:
            if self._unread:
                self._ended = True
            else:
                self._close()
        elif not self.request_done:
            # The request can't become whole any more; what has come of it must not look as if it were.
            self._give_up(400)
        elif self._kept:
            self._ended = True  # the requests that came before the end are still answered
        else:
            self.last = True

    def lost(self, error: Exception) -> None:
        self.pulse.forget(self)
        if self.request is not None:
            self._drop_back()
            self._finish(self.status or 499)
            self.request = None  # who is still looking for a back must not find us

    def drained(self) -> None:
        if self.back is not None:
            self.back.outlet.resume()
        elif self._unread:
            self._unread = 0
            self._go_on()

    # -- answers

    def interim(self, response: Response) -> None:
        """Pass a 1xx answer on at once. HTTP/1.0 knows none (RFC 9110, 15.2)."""
        assert self.request is not None
        if self.request.version == 11:
            fields = http1.end_to_end(response)
            self.inlet.put(http1.encode_response(response.status, response.reason, fields))
        if response.status == 100 and self._expecting:
            self._await_body()

    def answer_head(self, response: Response) -> bytes:
        """The final answer's head, as it goes to the client."""
        request = self.request
        assert request is not None
        self.answered = True
        self.response = response
        self.status = response.status
        self.first_byte = time.perf_counter()
        self.deadline = self.pulse.now + self.role.timeouts.stall
        self._moved = 0
        ends = response.body < 0 and request.version == 10  # without a length, the end of the connection has to say it
        if ends or not self.request_done or self.role.leaving:
            self.last = True
        return (_known_answer_head if response.repeats else _answer_head)(response, request.version, self.last)

    def answer_done(self) -> None:
        """The answer has been passed on to its last byte."""
        self.back = None
        if not self.request_done:
            self.last = True
        self._finish(self.status)
        self._next()

    def back_lost(self, error: Exception) -> None:
        """The way the request went is gone, and the answer was not complete."""
        self.back = None
        request = self.request
        assert request is not None
        if self.answered:
            log.warning("answer broken off", endpoint_error=str(error), path=request.target)
            self._give_up(self.status)
        elif (
            self.attempt == 0
            and self.request_done
            and self._resend is not None
            and request.method in _REPEATABLE
            and self.inlet.receiver is self  # else nobody is left to answer to
        ):
            parts: list[Bytes] = list(self._resend)
            self._dispatch(parts)
        else:
            log.warning("upstream unreachable", error=str(error), path=request.target)
            self.fail(502, piko.UPSTREAM_UNREACHABLE)

    def fail(self, status: int, message: str) -> None:
        """Answer with an error of our own, in Piko's JSON."""
        request = self.request
        self._waiting = False
        self.answered = True
        self.status = status
        self._resend = None
        self._drop_back()
        if not self.request_done:
            self.last = True
        answer = http1.error_response(status, message, close=self.last)
        if request is not None and request.method == b"HEAD":
            answer = answer[: answer.index(b"\r\n\r\n") + 4]
        self.bytes_out = len(answer)
        self.inlet.put(answer)
        self._finish(status)
        self._next()

    def _refuse(self, error: HTTPError) -> None:
        """What came is not HTTP, or not HTTP as it has to be: one answer, and nothing more is read (9112, 9.6)."""
        log.info("request refused", error=str(error), status=error.status)
        if self.answered or self.back is not None:
            self._give_up(error.status)
            return
        self.last = True
        self.request_done = False
        self.started = self.started or time.perf_counter()
        self.fail(error.status, error.public)

    def _give_up(self, status: int) -> None:
        """Break off, visibly."""
        self._drop_back()
        self._finish(status)
        self.request = None
        self.pulse.forget(self)
        self.inlet.abort()

    def _drop_back(self) -> None:
        back, self.back = self.back, None
        if back is not None:
            back.front = None
            back.discard()

    def _finish(self, status: int) -> None:
        self.status = status
        if self.started:
            self.role.finished(self)
            self.started = 0.0

    def _next(self) -> None:
        """After an answer: the next request, or the end."""
        self.request = None
        self.response = None
        self.attempt = -1
        self.answered = False
        self.status = self.bytes_in = self.bytes_out = 0
        self.first_byte = 0.0
        self._resend = None
        self._body_since = 0.0
        if self.last:
            self._close()
            return
        self.deadline = self.pulse.now + (LEAVING_SECONDS if self.role.leaving else self.role.timeouts.idle)
        self._go_on()

    def _go_on(self) -> None:
        """With what has been received meanwhile."""
        self.inlet.resume()
        if self._kept:
            kept, self._kept = self._kept, b""
            self._take(memoryview(kept))
            if self._ended:
                self.ended()

    def _close(self) -> None:
        self.pulse.forget(self)
        self.inlet.close()

    def leave(self) -> None:
        """The role is leaving: an idle connection gets the second in which a request may be on its way to us."""
        if self.request is None and not self._kept:
            self.deadline = self.pulse.now + LEAVING_SECONDS

    @property
    def seconds(self) -> float:
        """Since the request came."""
        return time.perf_counter() - self.started

    @property
    def first_byte_seconds(self) -> float | None:
        """From the request to the first byte of its answer."""
        return self.first_byte - self.started if self.first_byte else None

    def figures(self) -> tuple[bytes, int, float, int, int]:
        """Of the exchange that is just over: method (b"" if there was none), status, seconds, bytes in and out."""
        method = self.request.method if self.request is not None else b""
        return method, self.status, self.seconds, self.bytes_in, self.bytes_out

    def write(self, access_log: AccessLog, *, client: str, endpoint: str) -> None:
        """A line in the access log for the exchange that is just over."""
        request, response = self.request, self.response
        if request is None:
            return
        repeats = request.repeats and response is not None and response.repeats
        access_log.record(
            Finished(
                b"HTTP/1.1" if request.version == 11 else b"HTTP/1.0",
                request.method,
                request.host,
                request.target,
                self.status,
                request.fields,
                response.fields if response is not None else None,
                (request, response) if repeats else None,
                client,
                endpoint,
                self.bytes_in,
                self.bytes_out,
                self.first_byte_seconds,
                self.seconds,
            )
        )

    # -- protocols that are not HTTP any more

    def take_over(self) -> bytes:
        """The role goes on with the inlet itself; returns what was received behind the head."""
        self.pulse.forget(self)
        self.inlet.receiver = NOBODY
        kept, self._kept = self._kept, b""
        return kept

    def switch(self, response: Response, rest: memoryview) -> None:
        """101: from here on the two sides are relayed, whatever they speak (RFC 9110, 7.8)."""
        back, request = self.back, self.request
        assert back is not None
        assert request is not None
        self.status = 101
        self.answered = True
        self.first_byte = time.perf_counter()
        fields = http1.end_to_end(response)
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", response.upgrade or request.upgrade)]
        kept = self.take_over()
        outlet = back.outlet
        back.front = None
        back.gone()

        def done(error: Exception | None) -> None:
            self.bytes_in, self.bytes_out = relay.bytes_right, relay.bytes_left
            self._finish(101)

        relay = Relay(self.inlet, outlet, done)
        if not self.inlet.put(http1.encode_response(101, response.reason, fields), rest):
            outlet.pause()
        if kept and not outlet.put(kept):
            self.inlet.pause()
        else:
            self.inlet.resume()

    # -- clocks

    def expired(self) -> None:
        now = self.pulse.now
        if self.request is None:
            if self._unread:
                if self.inlet.backlog < self._unread:
                    self._unread = self.inlet.backlog
                    self.deadline = now + self.role.timeouts.stall
                else:
                    log.warning("client stopped reading")
                    self._give_up(self.status)
            elif self._kept:
                self._refuse(HTTPError(408, "the head took too long"))
            else:
                self._close()
        elif self._expecting and self.bytes_in:
            self._await_body()  # it has not waited
        elif not self.request_done and not self._expecting:
            seconds = now - self._body_since
            trickles = seconds >= BODY_GRACE_SECONDS and self.bytes_in < BODY_BYTES_PER_SECOND * seconds
            if self._held_back() or (self.bytes_in > self._body_checked and not trickles):
                self._body_checked = self.bytes_in
                self.deadline = now + self.role.timeouts.pause
            elif self.answered:
                self._give_up(self.status)
            else:
                self.fail(408, "request body took too long")
        elif not self.answered:
            log.warning("upstream timeout", path=self.request.target)
            self.fail(504, piko.UPSTREAM_TIMEOUT)
        elif self.inlet.backlog and self._moved == self.bytes_out - self.inlet.backlog:
            log.warning("client stopped reading", path=self.request.target)
            self._give_up(self.status)
        else:
            self._moved = self.bytes_out - self.inlet.backlog
            self.deadline = now + self.role.timeouts.stall

    def _held_back(self) -> bool:
        """Is it us (or the service) who keeps the body from moving?"""
        return self._waiting or (self.back is not None and self.back.outlet.backlog > 0)


class Back:
    """The side requests are sent to; makes itself the receiver of `outlet`.

    The subclass says what becomes of it between requests (`released`) and after the last (`gone`).
    """

    __slots__ = ("_chunked", "_interim", "_kept", "_left", "_method", "_reusable", "front", "outlet", "used")

    def __init__(self, outlet: Duplex) -> None:
        self.outlet = outlet
        outlet.receiver = self
        self.front: Front | None = None
        self.used = False  # has carried a request before
        self._method = b""
        self._kept = b""
        self._left = 0
        self._chunked: ChunkedBody | None = None
        self._interim = 0
        self._reusable = True

    def released(self) -> None:
        """A whole exchange is over and another may follow: into the pool."""
        raise NotImplementedError

    def gone(self) -> None:
        """This back will serve no more; its outlet is closed by whoever calls this, or lost."""

    def start(self, front: Front, method: bytes) -> None:
        self.front = front
        self._method = method
        self._interim = 0

    def discard(self) -> None:
        """End the outlet, in the way that tells the other side that nobody wants the rest."""
        self.gone()
        self.outlet.abort()

    # -- what the other side says

    def received(self, data: memoryview) -> None:
        front = self.front
        if front is None:
            # Bytes behind a complete answer belong to nobody, least of all to the next request.
            self.discard()
            return
        if self._kept:
            data = memoryview(self._kept + data)
            self._kept = b""
        if front.response is None:
            try:
                self._answer(front, data)
            except HTTPError as error:
                log.warning("answer refused", error=str(error))
                if front.answered:
                    front.back_lost(error)
                    self.discard()
                else:
                    front.fail(502, piko.UPSTREAM_UNREACHABLE)
            return
        self._body(front, data, b"")

    def _answer(self, front: Front, data: memoryview) -> None:
        while True:
            end = http1.head_end(data)
            if end < 0:
                self._kept = bytes(data)
                return
            response = http1.parse_response(bytes(data[:end]), self._method)
            data = data[end:]
            if response.status >= 200:
                break
            if response.status == 101:
                request = front.request
                assert request is not None
                if not request.upgrade:
                    raise HTTPError(502, "101 without having been asked to switch")
                front.switch(response, data)
                return
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise HTTPError(502, f"more than {MAX_INTERIM} interim answers")
            front.interim(response)
            if not data:
                return
        self._reusable = response.keep_alive
        self._left = response.body
        request = front.request
        assert request is not None
        if response.body == CHUNKED:
            self._chunked = ChunkedBody(decode=request.version == 10)
        self._body(front, data, front.answer_head(response))

    def _body(self, front: Front, data: memoryview, head: bytes) -> None:
        """Pass on what has come of the body, behind `head` if that has not gone yet."""
        left = self._left
        done = False
        parts: list[Bytes]
        if left >= 0:
            if len(data) > left:
                data, self._reusable = data[:left], False
            self._left = left = left - len(data)
            done = not left
            front.bytes_out += len(data)
            parts = [head, data] if head else [data]
        elif left == CHUNKED:
            chunked = self._chunked
            assert chunked is not None
            parts = [head] if head else []
            if data:
                try:
                    parts += chunked.receive(data)
                except HTTPError as error:
                    log.warning("answer broken off", error=str(error))
                    self.front = None
                    front.back_lost(error)
                    self.discard()
                    return
            if chunked.done:
                done = True
                if chunked.rest:
                    self._reusable = False
            front.bytes_out += len(data)
        else:
            parts = [head] if head else []
            front.bytes_out += len(data)
            request = front.request
            assert request is not None
            if data:
                parts += [b"%x\r\n" % len(data), data, b"\r\n"] if request.version == 11 else [data]
        if not front.inlet.put(*parts) and not done:
            self.outlet.pause()
        if done:
            self._complete(front)

    def _complete(self, front: Front) -> None:
        self.front = None
        self._chunked = None
        self.used = True
        if self._reusable and front.request_done:
            self.released()
        else:
            self.gone()
            if front.request_done:
                self.outlet.close()
            else:
                self.outlet.abort()
        front.answer_done()

    def ended(self) -> None:
        front = self.front
        if front is None:
            self.gone()
            self.outlet.close()
        elif front.answered and self._left == UNTIL_CLOSE:
            request = front.request
            assert request is not None
            if request.version == 11:
                front.inlet.put(b"0\r\n\r\n")
            self._reusable = False
            self._complete(front)
        else:
            self.front = None
            self.gone()
            self.outlet.abort()
            front.back_lost(ConnectionError("closed before the answer was complete"))

    def lost(self, error: Exception) -> None:
        front, self.front = self.front, None
        self.gone()
        if front is not None:
            front.back_lost(error)

    def drained(self) -> None:
        if self.front is not None:
            self.front.inlet.resume()


def passable(request: Request, fields: Fields, base_path: bytes = b"") -> bytes:
    """`request`'s head for the next hop: `fields` (end-to-end, amended by the role) and this hop's framing."""
    if request.body == CHUNKED:
        fields.append((b"Transfer-Encoding", b"chunked"))
    if request.upgrade:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", request.upgrade)]
    return http1.encode_request(request.method, base_path + request.target, fields)


def _answer_head(response: Response, version: int, last: bool) -> bytes:
    """How an answer goes on to a client of HTTP/1.1 (`version` 11) or 1.0, the last one on its connection or not."""
    if response.whole and version == 11 and not last:
        return response.whole
    fields = http1.end_to_end(response)
    if response.body < 0 and version == 11:
        fields.append((b"Transfer-Encoding", b"chunked"))
    if last:
        fields.append((b"Connection", b"close"))
    elif version == 10:
        fields.append((b"Connection", b"keep-alive"))
    return http1.encode_response(response.status, response.reason, fields)


_known_answer_head = lru_cache(maxsize=http1.KNOWN_HEADS)(_answer_head)
