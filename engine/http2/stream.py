"""A stream of an HTTP/2 connection as a Duplex that carries HTTP/1.1: one request, and its answer.

*In.* Frames come as a head, data in chunks where there is no length, and trailers. What the receiver has not taken is
held, and the stream's window is opened by what was taken: a peer can send one window more than its receiver takes, and
no more. The window of the connection does not wait for one stream (see connection).

*Out.* What is put is read as HTTP/1.1, and sent as frames. What the windows have no room for is queued, and charged to
the connection's account. `put` says False as long as something is.
"""

from __future__ import annotations

from typing import Final, Protocol

from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from engine.errors import HTTPError
from engine.loop.duplex import LEAST_READ, MOST_READ, NOBODY, Bytes, Receiver
from engine.loop.memory import Account
from engine.loop.reactor import Reactor
from engine.wire import http1, http2
from engine.wire.http1.body import Body
from engine.wire.http2 import Field

FRAME: Final = 16 * 1024  # of what is queued, before another stream has its turn


class Link(Protocol):
    """The connection, as a stream uses it."""

    h2: H2Connection
    reactor: Reactor
    client_side: bool
    scheme: bytes

    @property
    def account(self) -> Account: ...

    @property
    def writable(self) -> bool:
        """There is room for another frame; if not, `wait`."""

    def wrote(self, size: int) -> None:
        """Frames were given to `h2`, with so many bytes of data."""

    def wait(self, stream: Stream) -> None:
        """Have `stream.send_some` called when there is room for it."""

    def taken(self, stream: Stream, size: int) -> None:
        """Of the data that came, so much was taken."""

    def begun(self, stream: Stream) -> None:
        """A stream of ours has an identifier."""

    def gone(self, stream: Stream) -> None:
        """Nothing more will come or go on it."""

    def overdrawn(self) -> None:
        """More is held than the connection may have held for it."""


class Stream:
    """See above. `id` is 0 for one of ours whose request has not been sent."""

    __slots__ = (
        "_awaits_head",
        "_behind",
        "_body",
        "_charged",
        "_chunks",
        "_closing",
        "_ended",
        "_failed",
        "_held",
        "_is_whole",
        "_link",
        "_paused",
        "_queue",
        "_said",
        "_untaken",
        "backlog",
        "begun_at",
        "gone",
        "heard",
        "id",
        "method",
        "moved_at",
        "queued",
        "receiver",
        "refusal",
        "ungranted",
    )

    def __init__(self, link: Link, id: int = 0, method: bytes = b"", *, chunks: bool = False) -> None:
        self.id = id
        self.receiver: Receiver = NOBODY
        self.backlog = 0
        self.queued = False
        self.gone = False
        self.heard = False  # its last frame has come
        self.begun_at = 0.0  # when its request came, by `Reactor.precise_now`
        self.refusal: ErrorCodes | None = None  # what it is reset with in place of an answer
        self.moved_at = 0.0  # when something of the queue was sent last, in the reactor's seconds
        self.ungranted = 0  # bytes that were taken, and for which the window has not been opened
        self._link = link
        self.method = method  # of the request
        # In.
        self._held = bytearray()
        self._untaken = 0  # bytes of data frames
        self._chunks = chunks  # what comes goes on in chunks
        self._is_whole = False  # all of it is given or held
        self._ended = False  # the receiver has heard the end
        self._paused = False
        # Out.
        self._awaits_head = True
        self._body = Body()
        self._queue = bytearray()
        self._charged = 0
        self._behind = False  # `put` has said False
        self._said = False  # the last frame was sent
        self._closing = False
        self._failed: Exception | None = None

    def __repr__(self) -> str:
        return f"<http2.Stream {self.id} on {self._link!r}>"

    # -- in

    def begin(self, head: bytes, *, chunks: bool) -> None:
        """A head has come; `chunks`: what follows it goes on in chunks."""
        self._chunks = chunks
        self._give(head)

    def data(self, data: bytes, size: int, *, ends: bool) -> None:
        """A frame of data has come, which takes `size` of the windows; `ends`: it is the last frame."""
        self.heard = ends
        self._untaken += size
        if data:
            self._give(b"%x\r\n%b\r\n" % (len(data), data) if self._chunks else data)
        else:
            self._settle()

    def end_of_input(self, trailers: list[Field]) -> None:
        """The last frame has come."""
        if self._is_whole:
            return
        self.heard = self._is_whole = True
        if self._chunks:
            self._give(http2.last_chunk(trailers))
        if not self.gone and not self._held and not self._paused:
            self._tell_end()
        self._end_if_over()

    def lost(self, error: Exception) -> None:
        """The other end has reset it, or the connection is lost."""
        receiver = self.receiver
        self._let_go()
        self._link.reactor.call("lost", receiver, receiver.lost, error)

    def _give(self, data: bytes) -> None:
        if self._held or self._paused or self.queued:
            self._hold(data)
        else:
            self._offer(data)

    def _offer(self, data: bytes) -> None:
        taken = self.receiver.received(memoryview(data))
        if self.gone:
            return
        if taken < len(data):
            self._hold(data[taken:])
            if not self._paused:
                self._link.reactor.again(self)
        self._settle()

    def _hold(self, data: bytes) -> None:
        self._held += data
        self._charge(len(data))

    def _settle(self) -> None:
        """Open the windows for what was taken."""
        if self._untaken and not self._held and not self._paused:
            size, self._untaken = self._untaken, 0
            self._link.taken(self, size)

    def _tell_end(self) -> None:
        if not self._ended:
            self._ended = True
            self.receiver.ended()

    # -- the reactor's calls

    def ready(self, events: int) -> None: ...

    def turn(self) -> None:
        """Go on with what is held."""
        if self._failed is not None and not self.gone:
            self._give_up(self._failed)
        if self.gone or self._paused:
            return
        if self._held:
            data = bytes(self._held)
            self._held.clear()
            self._release(len(data))
            self._offer(data)
        else:
            self._settle()
        if self._is_whole and not self.gone and not self._held and not self._paused:
            self._tell_end()
            self._end_if_over()

    def _give_up(self, error: Exception) -> None:
        """What was put cannot be sent."""
        receiver = self.receiver
        self.abort()
        self._link.reactor.call("lost", receiver, receiver.lost, error)

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self.abort()
        receiver.break_off(error)

    # -- Duplex

    @property
    def account(self) -> Account:
        return self._link.account

    @property
    def room(self) -> int:
        if self.backlog:
            return LEAST_READ
        window = self._link.h2.local_flow_control_window(self.id) if self.id and not self.gone else MOST_READ
        return max(LEAST_READ, min(window, MOST_READ))

    def put(self, *parts: Bytes) -> bool:
        if self.gone or self._said or self._closing or self.refusal is not None or self._failed is not None:
            return True
        try:
            return self._put(parts)
        except (HTTPError, ProtocolError) as error:  # told in a turn of our own, not from inside the call that sends
            self._failed = error
            self._link.reactor.again(self)
            return True

    def _put(self, parts: tuple[Bytes, ...]) -> bool:
        for part in parts:
            data = memoryview(part)
            while data and not self._is_gone():
                data = data[self._head(data) if self._awaits_head else self._content(data) :]
        if self._is_gone():
            return True
        if not self._awaits_head and self._body.done and not self._queue:
            self._say_end()
        if not self._queue and self._link.writable:
            return True
        self._behind = True
        self._link.wait(self)
        return False

    def end(self) -> None:
        """Where a message ends is said by the message."""

    def close(self) -> None:
        self.receiver = NOBODY
        self._closing = True
        if self.gone:
            return
        if self.refusal is not None:
            self._reset(self.refusal)
        elif self._awaits_head or not self._body.done:
            self._reset(ErrorCodes.CANCEL)
        else:
            self._end_if_over()

    def abort(self) -> None:
        self._reset(ErrorCodes.CANCEL if self._link.client_side else ErrorCodes.INTERNAL_ERROR)

    def refuse(self, code: ErrorCodes) -> None:
        """Reset it, for a reason that the other end has to know; the receiver hears nothing of it."""
        self._reset(code)

    def read_at_most(self, size: int) -> None: ...

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._held or self._untaken or (self._is_whole and not self._ended):
                self._link.reactor.again(self)

    # -- out

    def _head(self, data: memoryview) -> int:
        """Send a head; how many bytes it has."""
        link = self._link
        if link.client_side:
            found = http1.next_request(data, 0, http1.PEER_HEAD)
            assert found is not None, "heads are put whole"
            request, end = found
            self.method = request.method
            fields, framing = http2.request_fields(request, link.scheme), request.body
            self.id = link.h2.get_next_available_stream_id()
            final = True
        else:
            answer = http1.next_response(data, 0, self.method, http1.PEER_HEAD)
            assert answer is not None, "heads are put whole"
            response, end = answer
            fields, framing = http2.response_fields(response), response.body
            final = response.status >= 200
        if final:
            self._awaits_head = False
            self._body.begin(framing, chunks=False)
        self._said = final and not framing
        link.h2.send_headers(self.id, fields, end_stream=self._said)
        if link.client_side:
            link.begun(self)
        link.wrote(0)
        if self._said:
            self._end_if_over()
        return end

    def _content(self, data: memoryview) -> int:
        """Send data, or queue it; how many bytes of `data` are done with."""
        body = self._body
        if body.done:
            return len(data)
        parts = body.receive(data)
        last = self._body.done and not self._has_trailers()
        for number, part in enumerate(parts, 1):
            view = memoryview(part)
            if not self._queue:
                view = view[self._send(view, ends=last and number == len(parts)) :]
            if view and not self.gone:
                if not self._queue:
                    self.moved_at = self._link.reactor.now
                self._queue += view
                self.backlog += len(view)
                self._charge(len(view))
        return body.taken

    def _has_trailers(self) -> bool:
        return len(self._body.trailers) > 2

    def _send(self, data: memoryview, *, ends: bool, frames: int = -1) -> int:
        """Send as much of `data` as there is room for, in so many `frames` at most; how much that was."""
        link, sent, size = self._link, 0, len(data)
        while sent < size and frames and link.writable:
            room = min(link.h2.local_flow_control_window(self.id), link.h2.max_outbound_frame_size)
            if room <= 0:
                break
            part = data[sent : sent + room]
            sent += len(part)
            frames -= 1
            last = ends and sent == size
            link.h2.send_data(self.id, part, end_stream=last)
            self._said = last
            link.wrote(len(part))
        if self._said:
            self._end_if_over()
        return sent

    def send_some(self) -> bool:
        """Send a frame of what is queued; True if there may be room for another."""
        if self.gone:
            return False
        if self._queue:
            part = memoryview(bytes(self._queue[:FRAME]))
            ends = self._body.done and not self._has_trailers() and len(part) == len(self._queue)
            sent = self._send(part, ends=ends, frames=1)
            if self.gone or not sent:
                return False
            del self._queue[:sent]
            self.backlog -= sent
            self._release(sent)
            self.moved_at = self._link.reactor.now
            if self._queue:
                return True
        if self._body.done and not self._awaits_head:
            self._say_end()
        if self._behind and not self._is_gone():
            if self._link.writable:
                self._behind = False
                self.receiver.drained()
            else:
                self._link.wait(self)
        return False

    def _say_end(self) -> None:
        if self._said or self.gone:
            return
        self._said = True
        h2 = self._link.h2
        if self._has_trailers():
            h2.send_headers(self.id, http2.trailer_fields(self._body.trailers), end_stream=True)
        else:
            h2.end_stream(self.id)
        self._link.wrote(0)
        self._end_if_over()

    # -- the end

    def _end_if_over(self) -> None:
        """Both ways are over; or ours is, and nobody waits for the rest of theirs (RFC 9113, 8.1)."""
        if self.gone or not self._said:
            return
        if self.heard and (self._ended or self._closing):
            self._let_go()
        elif self._closing:
            self._reset(ErrorCodes.CANCEL if self._link.client_side else ErrorCodes.NO_ERROR)

    def _reset(self, code: ErrorCodes) -> None:
        if self.gone:
            return
        if self.id:
            try:
                self._link.h2.reset_stream(self.id, code)
            except ProtocolError:  # it is closed, or the connection is
                pass
            self._link.wrote(0)
        self._let_go()

    def _is_gone(self) -> bool:
        """`gone`, as it is after a call that may have changed it."""
        return self.gone

    def _let_go(self) -> None:
        if not self.gone:
            self.gone = True
            self.receiver = NOBODY
            self.backlog = 0
            self._queue.clear()
            self._held.clear()
            self._release(self._charged)
            self._link.gone(self)
            untaken, self._untaken = self._untaken, 0
            self._link.taken(self, untaken)

    def _charge(self, size: int) -> None:
        self._charged += size
        if not self.account.charge(size):
            self._link.overdrawn()

    def _release(self, size: int) -> None:
        size = min(size, self._charged)
        self._charged -= size
        self.account.release(size)
