"""A socket as a Duplex, with as many layers of TLS on it as the way needs (none, one, or TLS in TLS).

How it is driven, and why:

* **Read when told, and no more often.** The reactor says which sockets have something; one read takes what is there,
  and only a read that filled the buffer is followed by another, while the turn lasts.
* **One receive buffer for the whole process.** From the read to the last use of the bytes nothing waits, so nobody
  else can touch the buffer, and an idle connection owns none. What the receiver does not take is copied, and nothing
  more is read before it is taken. With TRIODUCT_POISON in the environment (the tests run with it, too) the bytes are
  overwritten as soon as the receiver has returned, so that who has kept a view of them is found out.
* **A send is tried at once.** Only what the kernel refuses is copied into a queue, and only then the reactor is asked
  to say when the socket takes more.

Errors found while *sending* are not reported from inside `put` (the caller is in the middle of something): the state
is BROKEN until the connection's own turn reports them, so a receiver hears `lost` once and never from inside its own
call.

A connection has one `State`. What moves it, and where to, is the table below; a pair that is not in it changes nothing,
which is why every call is allowed at any time:

    OPEN       both ways are open
    HEARD      the other end has said its end; ours may still speak
    ENDING     our end is said, and waits for the queue                  } the other end may
    ENDED      our FIN is sent                                           } still speak
    FINISHING  both ends are said, ours waits for the queue
    CLOSING    nobody listens: the queue goes, then our FIN
    DRAINING   nobody listens: our FIN is sent, theirs is awaited for `DRAIN_SECONDS`, and what comes is dropped: a
               socket that is closed over unread bytes resets its connection, and the reset may overtake what was sent
               last (RFC 9112, 9.6)
    BROKEN     sending has failed
    CLOSED     the socket is closed

A connection is owned by the task that awaits `run`. Until then nothing is read, unless a task reads by itself (see
reading.py).
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import struct
from collections import deque
from collections.abc import Sequence
from enum import Enum, IntEnum, auto
from typing import Final

import trio

from engine.loop.duplex import FIRST_READ, LEAST_READ, MOST_READ, NOBODY, Bytes, Receiver
from engine.loop.memory import Account, Overdrawn
from engine.loop.reactor import BROKEN, READABLE, WRITABLE, current_reactor
from engine.wire.tls import TLS

RECORDS: Final = 64  # of TLS, read before it is asked whether the turn is over
JOIN_BYTES: Final = 16 * 1024  # below this, joining parts is cheaper than handing the kernel a vector
QUEUE_PARTS: Final = 64  # sent per system call, at most
DRAIN_SECONDS: Final = 2.0  # for the other end's FIN, after ours
STALL_SECONDS: Final = 30.0  # for the other end to take anything of what is queued
KEEP_BYTES: Final = 64 * 1024  # a smaller piece is copied, rather than keep a whole buffer from its use
MAX_SPARE: Final = 16
KEEP_ALIVE_SECONDS: Final = 30  # between TCP's own questions whether the other end lives

_POISON: Final = "TRIODUCT_POISON" in os.environ
_buffer = memoryview(bytearray(MOST_READ))
# One for each layer of TLS, outermost first: what is a layer's plaintext is the ciphertext of the next.
_plain_buffers: list[memoryview] = []
# Those that are not read into now: whoever keeps what was read has the buffer, until it is given back.
_spare_buffers: list[memoryview] = []
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Address = tuple[str, int]


class State(IntEnum):
    """See above. Up to HEARD, `put` sends."""

    OPEN = 0
    HEARD = 1
    ENDING = 2
    ENDED = 3
    FINISHING = 4
    CLOSING = 5
    DRAINING = 6
    BROKEN = 7
    CLOSED = 8


class Change(Enum):
    """What moves a connection from one state to the next, if it has not failed."""

    END = auto()  # our side has said its last byte
    SENT = auto()  # the queue is empty, and our FIN is sent
    HEARD = auto()  # the other end's FIN (over TLS: its close_notify) has come
    CLOSE = auto()  # nobody listens any more


NEXT: Final = {
    (State.OPEN, Change.END): State.ENDING,
    (State.OPEN, Change.HEARD): State.HEARD,
    (State.OPEN, Change.CLOSE): State.CLOSING,
    (State.HEARD, Change.END): State.FINISHING,
    (State.HEARD, Change.CLOSE): State.FINISHING,
    (State.ENDING, Change.SENT): State.ENDED,
    (State.ENDING, Change.HEARD): State.FINISHING,
    (State.ENDING, Change.CLOSE): State.CLOSING,
    (State.ENDED, Change.HEARD): State.CLOSED,
    (State.ENDED, Change.CLOSE): State.DRAINING,
    (State.FINISHING, Change.SENT): State.CLOSED,
    (State.CLOSING, Change.SENT): State.DRAINING,
    (State.CLOSING, Change.HEARD): State.FINISHING,
    (State.DRAINING, Change.HEARD): State.CLOSED,
}

_OPEN: Final = State.OPEN
_HEARD: Final = State.HEARD
_BROKEN: Final = State.BROKEN
_CLOSED: Final = State.CLOSED
_HEARS: Final = (State.OPEN, State.ENDED, State.ENDING, State.DRAINING, State.CLOSING)  # the likeliest first
_SENDS_ITS_END: Final = (State.ENDING, State.FINISHING, State.CLOSING)


class Connection:
    """A connected TCP or Unix socket. Takes ownership of `sock`, which is made non-blocking.

    `tls` lists the layers, outermost (next to the socket) first; their handshakes are done. `leftover` is what was
    already read behind a proxy's handshake. `peer` is (host, port) of the other end, asked of the socket if it is not
    given.
    """

    __slots__ = (
        "_error",
        "_held",
        "_look",
        "_more",
        "_most",
        "_moved_at",
        "_over",
        "_paused",
        "_queue",
        "_reactor",
        "_sent_before",
        "_sock",
        "_tls",
        "_watched",
        "account",
        "backlog",
        "bytes_in",
        "bytes_out",
        "deadline",
        "peer",
        "queued",
        "receiver",
        "stall_seconds",
        "state",
    )

    def __init__(
        self, sock: socket.socket, *, tls: Sequence[TLS] = (), leftover: bytes = b"", peer: Address | None = None
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._tls = list(tls)
        for layer in tls:
            layer.more = True
        self._reactor = reactor = current_reactor()
        self.state = State.OPEN
        self._held: Bytes = leftover  # what has come and was not taken
        self._more = bool(tls)  # TLS has plaintext that was not asked for, perhaps
        self._most = FIRST_READ
        self._paused = True
        self._look: select.poll | None = None  # asks the kernel for a third of what a read costs
        self._queue: deque[Bytes | bytearray] = deque()
        self._watched = 0  # what the reactor waits for
        self._error: Exception | None = None  # in BROKEN
        self._over: trio.Event | None = None  # set while `run` runs; fired when the socket is closed
        self._sent_before = 0  # when the clock was last looked at
        self._moved_at = 0.0  # when anything of the queue was last taken
        self.queued = False
        self.deadline = math.inf
        self.stall_seconds = STALL_SECONDS
        self.receiver: Receiver = NOBODY
        self.account = Account(reactor.memory, self)
        self.backlog = 0  # bytes queued
        self.bytes_in = 0
        self.bytes_out = 0  # those queued included
        self.peer = _name_of(sock) if peer is None else peer

    @property
    def stalled_seconds(self) -> float:
        """For how long the other end has taken nothing of what is queued for it; 0 if nothing is."""
        return self._reactor.now - self._moved_at if self._queue else 0.0

    def __repr__(self) -> str:
        return f"<Connection {self.peer[0]}:{self.peer[1]} {self.state.name}>"

    @property
    def alpn(self) -> str:
        """The protocol that was agreed on with TLS (RFC 7301); "" for none."""
        return self._tls[-1].object.selected_alpn_protocol() or "" if self._tls else ""

    @property
    def alive(self) -> bool:
        """False once the socket is closed."""
        return self.state is not _CLOSED

    async def run(self) -> None:
        """Serve until both ways are closed, the connection is lost, or a task that runs it is cancelled.

        A receiver hears of a cancellation as `lost`. The socket is closed when this returns.
        """
        if not self.alive:
            await trio.lowlevel.checkpoint()
            return
        if self._over is None:
            self._over = trio.Event()
            self.resume()
        try:
            await self._over.wait()
        finally:
            if self.alive:
                self._lose(self._error or ConnectionAbortedError("stopped"))

    def add_layer(self, layer: TLS) -> None:
        """Put a layer of TLS on top, whose handshake is done. It may have plaintext already."""
        layer.more = self._more = True
        self._tls.append(layer)

    def keep_alive(self, seconds: float) -> None:
        """Have the kernel ask a silent peer every `seconds` whether it lives."""
        if self._sock.family != socket.AF_UNIX:
            keep_alive(self._sock, seconds)

    def _move(self, change: Change) -> None:
        state = NEXT.get((self.state, change), self.state)
        self.state = state
        if state is _CLOSED:
            self._close_socket()
        elif state is State.DRAINING:
            self.deadline = self._reactor.now + DRAIN_SECONDS
            self._reactor.clock(self)

    # -- the reactor's calls

    def ready(self, events: int) -> None:
        if events & ~READABLE and self._queue:
            self._flush_queue()
        elif events & BROKEN and self.state is _HEARD:
            self._fail(ConnectionResetError("reset by the other end"))
        if events & (READABLE | BROKEN):
            self._read()

    def turn(self) -> None:
        if self.state is _BROKEN:
            self._read_last_words()
        elif not self._paused:
            if self._held:
                self._offer_held()
                if not self._held and not self._more and self._tls and self._tls[-1].ended:
                    self._end_of_input()
            self._read()

    def expired(self) -> None:
        """The queue has not moved for `stall_seconds`, or the other end's FIN does not come."""
        sent = self.bytes_out - self.backlog
        if self._queue and sent != self._sent_before:
            self._sent_before = sent
            self.deadline = self._reactor.now + self.stall_seconds
        elif self._queue:
            self._lose(TimeoutError(f"took nothing of what was sent for {self.stall_seconds:g} s"))
        else:
            self._close_socket()

    def overdrawn(self) -> None:
        self._lose(Overdrawn(f"{self.account.used} bytes were held for it, and it took nothing for longest"))

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self.abort()
        receiver.break_off(error)

    # -- the way in

    def read_at_most(self, size: int) -> None:
        self._most = min(size, MOST_READ)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._held or self._more:
                self._reactor.again(self)
            self._watch()

    def look(self) -> bool:
        """Read what has come by now; whether the connection is still open, both ways, and nobody has closed it.

        For a connection that was idle: what its receiver takes for a reason to close it does so here, and not behind
        the next request.
        """
        if self._look is None:
            self._look = select.poll()
            self._look.register(self._sock, select.POLLIN | select.POLLRDHUP)
        if self._look.poll(0) and not self.queued:
            self._reactor.call("look", self, self._read)
        return self.state is _OPEN and not self._held

    def _watch(self) -> None:
        """Tell the reactor what we wait for now."""
        if self.state is _CLOSED:
            return
        # Behind the other end's FIN nothing is left to read, but it may still break the connection.
        way_in = 0 if self._paused else READABLE if self.state in _HEARS else BROKEN
        events = way_in | (WRITABLE if self._queue else 0)
        if events != self._watched:
            before, self._watched = self._watched, events
            self._reactor.watch(self._sock, self, events, before)

    def _read(self) -> None:
        while not self._paused and not self._held and self.state in _HEARS:
            most = filled = self._most  # of what TLS has more
            if not self._more:
                try:
                    filled = self._sock.recv_into(_buffer, most)
                except BlockingIOError:
                    return
                except (OSError, MemoryError) as error:
                    self._lose(error)
                    return
                if not filled:
                    self._end_of_input()
                    return
                self.bytes_in += filled
            if not self._tls:
                self._deliver(_buffer[:filled])
            elif not self._read_tls(b"" if self._more else _buffer[:filled]):
                return
            if filled < most and not self._more:
                return
            if self._reactor.over():
                self._reactor.again(self)
                return
        if self._paused or self.state not in _HEARS:
            self._watch()

    def _read_tls(self, data: Bytes) -> bool:
        """Decrypt and deliver; False when nothing more will come."""
        try:
            plain = self._decrypt(data, self._depth_of_more() if self._more else 0)
        except (OSError, MemoryError) as error:  # ssl.SSLError is an OSError
            self._lose(error)
            return False
        self._more = any(layer.more for layer in self._tls)
        if plain:
            self._deliver(plain)
        if not self._tls:  # closed by whoever was given it
            return False
        if self._tls[-1].ended and not self._more and not self._held:
            self._end_of_input()
            return False
        return True

    def _deliver(self, data: memoryview, *, ours: bool = False) -> None:
        """`data` is plaintext; `ours`: its memory is not a buffer that will be used again."""
        taken = self.receiver.received(data)
        if taken != len(data) and (self.state in _HEARS or self.state is _BROKEN):
            rest = data[taken:]
            self._held = rest if ours else bytes(rest)
            if not self.account.charge(len(rest)):
                self._lose(Overdrawn(f"{self.account.used} bytes are held for it"))
            elif not self._paused:
                self._reactor.again(self)
        if _POISON and not ours and _is_in_use(data):
            data[:] = b"\xa5" * len(data)

    def _offer_held(self) -> None:
        """What was not taken before."""
        held, self._held = self._held, b""
        self.account.release(len(held))
        self._deliver(memoryview(held), ours=True)

    def _decrypt(self, data: Bytes, depth: int) -> memoryview:
        """Pass `data` up through the layers of TLS from `depth` on; what the innermost says, in a buffer of the
        process's.
        """
        if depth == len(_plain_buffers):
            _plain_buffers.append(memoryview(bytearray(MOST_READ)))
        layer, buffer = self._tls[depth], _plain_buffers[depth]
        size = layer.receive(data, buffer, RECORDS)  # not in the slice: mypyc would call it twice
        plain = buffer[:size]
        self._flush_layer(depth)
        if depth + 1 == len(self._tls):
            return plain
        if layer.ended and not plain and not self._tls[-1].ended:
            raise ssl.SSLError("the proxy ended its TLS")
        return self._decrypt(plain, depth + 1)

    def _depth_of_more(self) -> int:
        """The innermost layer that has more than it was asked for."""
        return max(depth for depth, layer in enumerate(self._tls) if layer.more)

    def _end_of_input(self) -> None:
        """The other end has said its last byte; ours is still ours to say."""
        if self._tls and not self._tls[-1].ended:
            # Without close_notify the end may be an attacker's; for bytes that count, it is a loss (RFC 8446, 6.1).
            self._lose(ConnectionResetError("hung up without closing TLS"))
            return
        if self.state in _HEARS:
            receiver = self.receiver
            self._move(Change.HEARD)
            self._watch()
            receiver.ended()

    def _read_last_words(self) -> None:
        """Sending failed: the other end has reset the connection. It may have said why before (an early answer).

        An end found here is none: the error it would have come with was taken by the send.
        """
        if self._held:
            self._offer_held()
        while self.state is _BROKEN and not self._held:
            try:
                count = self._sock.recv_into(_buffer)
                if not count:
                    break
                words = self._decrypt(_buffer[:count], 0) if self._tls else _buffer[:count]
            except (OSError, MemoryError):
                break
            self.bytes_in += count
            self._deliver(words)
        if self.state is _BROKEN and (self._paused or not self._held):
            self._lose(self._error or ConnectionAbortedError("broken"))

    # -- the way out

    @property
    def room(self) -> int:
        return LEAST_READ if self._queue else MOST_READ

    def put(self, *parts: Bytes) -> bool:
        """See Duplex. Sends at once what the kernel takes."""
        if self.state > _HEARD:
            return True  # the connection's turn says (or has said) what happened
        if self._tls:
            try:
                parts = (self._encrypt(parts),)
            except (OSError, MemoryError) as error:
                self._fail(error)
                return True
        return self._send(parts)

    def _encrypt(self, parts: Sequence[Bytes]) -> bytes:
        data = parts
        for layer in reversed(self._tls):
            data = (layer.send(data),)
        return data[0]  # type: ignore[return-value]

    def _flush_layer(self, depth: int) -> None:
        """Send what a layer of TLS itself has to say: alerts, key updates."""
        data = self._tls[depth].pending()
        if data and self.state is not _CLOSED:
            for below in reversed(self._tls[:depth]):
                data = below.send((data,))
            self._send((data,))

    def _send(self, parts: Sequence[Bytes]) -> bool:
        size = 0
        for part in parts:
            size += len(part)
        if not size:
            return not self._queue
        self.bytes_out += size
        if self._queue:
            self._enqueue(parts, 0)
            return False
        try:
            if len(parts) == 1:
                sent = self._sock.send(parts[0])
            elif size <= JOIN_BYTES:
                sent = self._sock.send(b"".join(parts))
            else:
                sent = self._sock.sendmsg(parts[:QUEUE_PARTS])
        except BlockingIOError:
            sent = 0
        except (OSError, MemoryError) as error:
            self._fail(error)
            return True
        if sent == size:
            return True
        self._sent_before = self.bytes_out - size + sent
        self._moved_at = self._reactor.now
        self.deadline = self._moved_at + self.stall_seconds
        self._reactor.clock(self)
        self._enqueue(parts, sent)
        self._watch()
        return False

    def _enqueue(self, parts: Sequence[Bytes], skip: int) -> None:
        """Keep what was not sent. Small parts are joined, for each would weigh a hundred bytes more than it has."""
        queue = self._queue
        size = 0
        for part in parts:
            if skip >= len(part):
                skip -= len(part)
                continue
            # a view's buffer is used again as soon as we return; bytes stay what they are
            rest = bytes(part[skip:]) if skip or not isinstance(part, bytes) else part
            skip = 0
            size += len(rest)
            if len(rest) >= JOIN_BYTES:
                queue.append(rest)
            elif queue and isinstance(queue[-1], bytearray) and len(queue[-1]) < JOIN_BYTES:
                queue[-1] += rest
            else:
                queue.append(bytearray(rest))
        self.backlog += size
        if not self.account.charge(size):
            self._fail(Overdrawn(f"{self.account.used} bytes are held for it, and it does not take them"))

    def _flush_queue(self) -> None:
        """The kernel takes more."""
        before = self.backlog
        queue = self._queue
        try:
            while queue:
                first = queue[0]
                if len(queue) == 1:
                    sent = self._sock.send(first)
                else:
                    sent = self._sock.sendmsg([queue[i] for i in range(min(len(queue), QUEUE_PARTS))])
                self.backlog -= sent
                while sent:
                    first = queue[0]
                    size = len(first)
                    if sent < size:
                        queue[0] = memoryview(first)[sent:]
                        break
                    sent -= size
                    queue.popleft()
        except BlockingIOError:
            pass
        except (OSError, MemoryError) as error:
            self._fail(error)
            return
        if self.backlog < before:
            self._moved_at = self._reactor.now
        self.account.release(before - self.backlog)
        if not queue:
            receiver = self.receiver
            self._reactor.unclock(self)
            self._watch()
            if self.state in _SENDS_ITS_END:
                self._shut_down()
            receiver.drained()

    # -- the ends

    def end(self) -> None:
        """See Duplex. Over TLS this is close_notify, and then FIN."""
        if self.state <= _HEARD:
            self._say_end(Change.END)

    def close(self) -> None:
        """See Duplex."""
        self.receiver = NOBODY
        if self.state is _CLOSED:
            return
        self._held = b""
        if self.state <= _HEARD:
            self._say_end(Change.CLOSE)
        else:
            self._move(Change.CLOSE)
        self.resume()

    def _say_end(self, change: Change) -> None:
        self._move(change)
        if self._tls:
            try:
                words = self._tls[-1].close()
                for layer in reversed(self._tls[:-1]):
                    words = layer.send((words,))
                self._send((words,))
            except (OSError, MemoryError) as error:
                self._fail(error)
        if not self._queue and self.state in _SENDS_ITS_END:
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(error)
        else:
            self._move(Change.SENT)

    def abort(self) -> None:
        """See Duplex."""
        self.receiver = NOBODY
        if self.state is not _CLOSED:
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            except OSError:
                pass  # it has been reset by the other end already
            self._close_socket()

    def _fail(self, error: Exception) -> None:
        """Sending did not work: to be reported in a turn of our own, not from inside the call that sends."""
        if self.state < _BROKEN:
            self.state = _BROKEN
            self._error = error
            self._forget_queue()
            self._reactor.again(self)

    def _lose(self, error: Exception) -> None:
        if isinstance(error, MemoryError):  # to everybody else a connection that is lost like others
            error = OSError(errno.ENOMEM, "out of memory")
        receiver = self.receiver
        self.abort()
        self._reactor.call("lost", receiver, receiver.lost, error)

    def _forget_queue(self) -> None:
        self._queue.clear()
        self.backlog = 0
        self.account.close()
        self._reactor.unclock(self)

    def _close_socket(self) -> None:
        self.state = _CLOSED
        self.receiver = NOBODY
        self._held = b""
        self._tls = []  # tens of KiB each, whatever else may keep us
        self._error = None  # leads to the frames that it has passed, and they to us
        self._forget_queue()
        self.account.end()
        if self._watched:
            self._reactor.watch(self._sock, self, 0, self._watched)
        self._sock.close()
        if self._over is not None:
            self._over.set()
            self._reactor.hand_over()


def keep(data: memoryview) -> Bytes:
    """`data`, which is valid during this call, for as long as it is wanted. Bytes stay what they are, the buffer that
    it was received in is taken, and everything else is copied.

    What is kept has to be given back.
    """
    global _buffer
    if len(data) >= KEEP_BYTES:
        if isinstance(data.obj, bytes):
            return data
        if data.obj is _buffer.obj:
            _buffer = _spare_buffers.pop() if _spare_buffers else memoryview(bytearray(MOST_READ))
            return data
        for depth, buffer in enumerate(_plain_buffers):
            if data.obj is buffer.obj:
                _plain_buffers[depth] = _spare_buffers.pop() if _spare_buffers else memoryview(bytearray(MOST_READ))
                return data
    return bytes(data)


def give_back(kept: Bytes) -> None:
    """What `keep` has given is not wanted any more, by anybody."""
    if isinstance(kept, memoryview) and not kept.readonly and len(_spare_buffers) < MAX_SPARE:
        whole = memoryview(kept.obj)
        if len(whole) == MOST_READ:
            _spare_buffers.append(whole)


def _is_in_use(data: memoryview) -> bool:
    """Is `data` in a buffer that will be read into next?"""
    return data.obj is _buffer.obj or any(data.obj is buffer.obj for buffer in _plain_buffers)


def tune(sock: socket.socket) -> None:
    """Set what every TCP connection here has: no waiting for more to send, and the kernel asks a silent peer whether it
    lives. What a listening socket has, its connections have, too.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock, KEEP_ALIVE_SECONDS)


def keep_alive(sock: socket.socket, seconds: float) -> None:
    """Ask a silent peer every `seconds` whether it lives (at least one second apart), and give up after four
    questions.
    """
    interval = max(1, round(seconds))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


def _name_of(sock: socket.socket) -> Address:
    try:
        name = sock.getpeername()
    except OSError:
        return ("", 0)
    return address_of(name)


def address_of(name: object) -> Address:
    """(host, port) of what a socket calls its peer."""
    if not isinstance(name, tuple):
        return ("unix", 0)
    host, port = name[:2]
    # A socket that listens on all addresses, of both versions, calls IPv4's by names that nobody else uses.
    return (host.removeprefix("::ffff:") if "." in host else host, port)
