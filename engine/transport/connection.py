"""A socket as a Duplex, with as many layers of TLS on it as the way needs (none, one, or TLS in TLS).

How it is driven, and why:

* **Read when told, and no more often.** The poller says which sockets have something (see poller.py); one read takes
  what is there, and only a read that filled the buffer is followed by another.
* **One receive buffer for the whole process.** From the read to the last use of the bytes nothing waits, so nobody
  else can touch the buffer, and an idle connection owns none.
* **A send is tried at once.** Only what the kernel refuses is copied into a queue, and only then the poller is asked
  to say when the socket takes more.
* **Whoever has much to read gives way** to the other tasks after `BUDGET` bytes.

Errors found while *sending* are not reported from inside `put` (the caller is in the middle of something): the
task in `run` reports them, so a receiver hears `lost` exactly once and never from inside its own call.

A connection is owned by the task that awaits `run`. Before that, `receive` serves handshakes.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections import deque
from collections.abc import Callable, Sequence

import trio

from engine.transport.duplex import NOBODY, Bytes, Receiver
from engine.transport.poller import BROKEN, READABLE, WRITABLE, current_poller
from engine.wire.tls import TLS

READ_BYTES = 256 * 1024
BUDGET = 1024 * 1024
JOIN_BYTES = 16 * 1024  # below this, joining parts is cheaper than handing the kernel a vector
QUEUE_PARTS = 64  # sent per system call, at most
LINGER_SECONDS = 2.0  # for the other end's FIN, after ours
STALL_SECONDS = 30.0  # for the other end to take anything of what is queued

_buffer = memoryview(bytearray(READ_BYTES))
# One for each layer of TLS, outermost first: what is a layer's plaintext is the ciphertext of the next.
_plain_buffers: list[memoryview] = []
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

Address = tuple[str, int]


class Connection:
    """A connected TCP socket. Takes ownership of `sock`, which is made non-blocking.

    `tls` lists the layers, outermost (next to the socket) first; their handshakes are done, except for one begun
    with `start_tls`. `leftover` is what was already read behind a proxy's handshake.
    """

    __slots__ = (
        "_alive",
        "_closing",
        "_crash",
        "_ended",
        "_ending",
        "_error",
        "_leftover",
        "_over",
        "_paused",
        "_poller",
        "_queue",
        "_shut",
        "_sock",
        "_tls",
        "_watched",
        "backlog",
        "bytes_in",
        "bytes_out",
        "peer",
        "receiver",
    )

    def __init__(self, sock: socket.socket, *, tls: Sequence[TLS] = (), leftover: bytes = b"") -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._tls = list(tls)
        self._leftover = leftover
        self._queue: deque[Bytes] = deque()
        self._paused = False
        self._ending = False  # half-close once the queue is empty
        self._closing = False  # nobody listens any more
        self._shut = False  # our half is closed
        self._alive = True
        self._error: Exception | None = None
        self._crash: Exception | None = None  # what the receiver raised
        self._ended = False  # the other end has said its last byte
        self._over: trio.Event | None = None  # set while `run` runs; fired when there is nothing left to do
        self._watched = 0  # what the poller waits for
        self.receiver: Receiver = NOBODY
        self.backlog = 0  # bytes queued
        self.bytes_in = 0
        self.bytes_out = 0
        self.peer = _name_of(sock)  # (host, port) of the other end

    def __repr__(self) -> str:
        return f"<Connection {self.peer[0]}:{self.peer[1]}>"

    def keep_alive(self, seconds: float) -> None:
        """Have the kernel ask an idle peer every `seconds` whether it lives (at least one second)."""
        if self._sock.family != socket.AF_UNIX:
            interval = max(1, round(seconds))
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)

    # -- before `run`: handshakes

    async def start_tls(
        self, context: ssl.SSLContext, *, server_hostname: str | None = None, server: bool = False
    ) -> TLS:
        """Put one more layer of TLS on top. Raises ssl.SSLError; OSError when the other end hangs up."""
        layer = TLS.over(context, server_side=server, server_hostname=server_hostname)
        data = b""
        try:
            while True:
                try:
                    done = layer.handshake(data)
                finally:
                    self.put(layer.pending())
                if done:
                    break
                data = await self.receive()
                if not data:
                    raise ConnectionResetError("hung up during the TLS handshake")
        finally:
            await self._wait_sent()
        self._tls.append(layer)
        early = bytearray()  # what came in one segment with the handshake's last message
        self._decrypt(b"", early.extend, len(self._tls) - 1)
        self._leftover = bytes(early)
        return layer

    async def receive(self) -> bytes:
        """The next bytes, b"" at the end of them. Only while `run` is not running."""
        if self._leftover:
            data, self._leftover = self._leftover, b""
            return data
        while True:
            await self._wait_sent()
            try:
                count = self._sock.recv_into(_buffer)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._sock)
                continue
            if not count or not self._tls:
                return bytes(_buffer[:count])
            plain = bytearray()
            self._decrypt(_buffer[:count], plain.extend)
            if plain or self._tls[-1].ended:
                return bytes(plain)

    def unread(self, data: bytes) -> None:
        """Give back what a handshake read too much: it will be received first."""
        self._leftover = data + self._leftover

    async def _wait_sent(self) -> None:
        while self._queue and not self._error:
            await trio.lowlevel.wait_writable(self._sock)
            self._send_queue()
        if self._error:
            raise self._error

    # -- the way in

    async def run(self) -> None:
        """Serve until both ways are closed, the connection is lost, or the task is cancelled.

        A receiver hears of a cancellation as `lost`; what a receiver raises is raised here. The socket is closed
        when this returns.
        """
        self._poller = current_poller()
        self._over = trio.Event()
        try:
            if self._leftover:
                data, self._leftover = self._leftover, b""
                self._deliver(memoryview(data))
            self._watch()
            if self._alive and not self._closing and self._error is None:
                await self._over.wait()
            while self._alive and self._closing and self._error is None:
                await self._linger()
            if self._alive and self._error is not None and not self._ended:
                self._read_last_words()
        finally:
            if self._alive and self._closing:
                self._close_socket()
            elif self._alive:
                self._lose(self._error or ConnectionAbortedError("stopped"))
        if self._crash is not None:
            raise self._crash

    async def _linger(self) -> None:
        """Give the other end time to take what is queued, as long as it takes any, and then to say its own end."""
        self._over = trio.Event()
        left = self.backlog
        with trio.move_on_after(STALL_SECONDS if left else LINGER_SECONDS) as scope:
            await self._over.wait()
        if scope.cancelled_caught and self.backlog == left:
            self._close_socket()

    def _watch(self) -> None:
        """Tell the poller what we wait for now."""
        if self._over is None or not self._alive:
            return
        # Behind the other end's FIN nothing is left to read, but it may still break the connection.
        way_in = 0 if self._paused else BROKEN if self._ended else READABLE
        events = way_in | (WRITABLE if self._queue else 0)
        if events != self._watched:
            self._watched = events
            self._poller.watch(self._sock, self._ready, events)

    def _ready(self, events: int) -> None:
        """The poller says that something can be read or sent."""
        if events & ~READABLE and self._queue:
            self._flush()
        elif events & BROKEN and self._ended:
            self._fail(ConnectionResetError("reset by the other end"))
        if events & (READABLE | BROKEN):
            self._read()

    def _read(self) -> None:
        spent = 0
        # A send that failed has taken the socket's error with it: reading now would look like a proper end.
        while self._alive and self._error is None:
            if self._paused or self._ended:
                self._watch()
                return
            try:
                count = self._sock.recv_into(_buffer)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            if not count:
                self._end_of_input()
                return
            self.bytes_in += count
            if self._tls:
                try:
                    self._decrypt(_buffer[:count], self._deliver)
                except ssl.SSLError as error:
                    self._lose(error)
                    return
                if self._tls[-1].ended and self._alive:
                    self._end_of_input()
                    return
            else:
                self._deliver(_buffer[:count])
            spent += count
            if count < READ_BYTES or spent >= BUDGET:
                return

    def _read_last_words(self) -> None:
        """Sending failed: the other end has reset the connection. It may have said why before (an early answer).

        An end found here is none: the error it would have come with was taken by the send.
        """
        while self._alive:
            try:
                count = self._sock.recv_into(_buffer)
            except OSError:
                return
            if not count:
                return
            self.bytes_in += count
            try:
                if self._tls:
                    self._decrypt(_buffer[:count], self._deliver)
                else:
                    self._deliver(_buffer[:count])
            except ssl.SSLError:
                return

    def _end_of_input(self) -> None:
        """The other end has said its last byte; ours is still ours to say."""
        if self._tls and not self._tls[-1].ended:
            # Without close_notify the end may be an attacker's; for bytes that count, it is a loss (RFC 8446, 6.1).
            self._lose(ConnectionResetError("hung up without closing TLS"))
            return
        self._ended = True
        self._watch()
        self.receiver.ended()
        self._maybe_over()

    def _maybe_over(self) -> None:
        """Both ways are closed: so is the socket."""
        if self._alive and self._ended and self._shut and not self._queue:
            self._close_socket()

    def _deliver(self, data: memoryview) -> None:
        try:
            self.receiver.received(data)
        except Exception as error:  # the receiver's defect is for the task that awaits `run`
            self._crash = error
            self._lose(error)

    def _decrypt(self, data: Bytes, sink: Callable[[memoryview], None], depth: int = 0) -> None:
        """Pass `data` up through the layers of TLS from `depth` on; `sink` gets the plaintext, view by view."""
        if depth == len(_plain_buffers):
            _plain_buffers.append(memoryview(bytearray(READ_BYTES)))
        layer, buffer = self._tls[depth], _plain_buffers[depth]
        innermost = depth + 1 == len(self._tls)
        while self._alive:
            filled = layer.receive(data, buffer)
            self._flush_tls(layer)
            if innermost:
                if filled:
                    sink(buffer[:filled])
            elif filled:
                self._decrypt(buffer[:filled], sink, depth + 1)
            elif layer.ended and not self._tls[-1].ended:
                raise ssl.SSLError("the proxy ended its TLS")
            if filled < READ_BYTES:
                return
            data = b""

    # -- the way out

    def put(self, *parts: Bytes) -> bool:
        """See Duplex. Sends at once what the kernel takes."""
        if not self._alive or self._shut or self._error is not None:
            return True  # the pump will say (or has said) what happened
        if self._tls:
            parts = (self._encrypt(parts),)
        return self._send(parts)

    def _encrypt(self, parts: Sequence[Bytes]) -> bytes:
        data = parts
        for layer in reversed(self._tls):
            data = (layer.send(data),)
        return data[0]  # type: ignore[return-value]

    def _flush_tls(self, layer: TLS) -> None:
        """Send what a layer itself has to say: alerts, key updates."""
        data = layer.pending()
        if data:
            position = self._tls.index(layer)
            for below in reversed(self._tls[:position]):
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
        except OSError as error:
            self._fail(error)
            return True
        if sent == size:
            return True
        self._enqueue(parts, sent)
        self._watch()
        return False

    def _enqueue(self, parts: Sequence[Bytes], skip: int) -> None:
        for part in parts:
            size = len(part)
            if skip >= size:
                skip -= size
                continue
            # a view's buffer is used again as soon as we return; bytes stay what they are
            rest = bytes(part[skip:]) if skip or not isinstance(part, bytes) else part
            skip = 0
            self._queue.append(rest)
            self.backlog += len(rest)

    def _flush(self) -> None:
        """The kernel takes more."""
        self._send_queue()
        if not self._queue and self._error is None:
            self._watch()
            if self._ending and not self._shut:
                self._shut_down()
            self.receiver.drained()

    def _send_queue(self) -> None:
        """Send what the kernel takes of the queue."""
        queue = self._queue
        try:
            while queue:
                if len(queue) == 1:
                    sent = self._sock.send(queue[0])
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
        except OSError as error:
            self._fail(error)

    # -- the ends

    def end(self) -> None:
        """See Duplex. Over TLS this is close_notify, and then FIN."""
        if self._ending or self._shut or not self._alive:
            return
        self._ending = True
        if self._tls and self._error is None:
            self._send((self._closing_words(),))
        if not self._queue:
            self._shut_down()

    def _closing_words(self) -> bytes:
        data = self._tls[-1].close()
        for layer in reversed(self._tls[:-1]):
            data = layer.send((data,))
        return data

    def _shut_down(self) -> None:
        self._shut = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._fail(error)
        self._maybe_over()

    def close(self) -> None:
        """See Duplex. What still comes is read and dropped: a socket closed over unread bytes resets its connection,
        and the reset may overtake what was sent last (RFC 9112, 9.6).
        """
        if self._alive and not self._closing:
            self.receiver = NOBODY
            self._closing = True
            self.resume()
            self.end()
            self._rouse()

    def abort(self) -> None:
        """See Duplex."""
        self.receiver = NOBODY
        if self._alive:
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            except OSError:
                pass  # it has been reset by the other end already
            self._close_socket()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._watch()

    def _fail(self, error: Exception) -> None:
        """Sending did not work: to be reported, but not from inside the call that sends."""
        if self._error is None:
            self._error = error
            self._queue.clear()
            self.backlog = 0
            if self._over is not None:
                self._over.set()
                self._poller.wake()

    def _rouse(self) -> None:
        """Let the task that runs us go on."""
        if self._over is not None:
            self._over.set()
            self._poller.hand_over()

    def _lose(self, error: Exception) -> None:
        receiver = self.receiver
        self.abort()
        receiver.lost(error)

    def _close_socket(self) -> None:
        if self._alive:
            self._alive = False
            self._queue.clear()
            self.backlog = 0
            if self._watched:
                self._poller.watch(self._sock, self._ready, 0)
            self._sock.close()
            self._rouse()

    @property
    def alive(self) -> bool:
        """False once the socket is closed."""
        return self._alive


def _name_of(sock: socket.socket) -> Address:
    try:
        name = sock.getpeername()
    except OSError:
        return ("", 0)
    if not isinstance(name, tuple):
        return ("unix", 0)
    host, port = name[:2]
    # A socket that listens on all addresses, of both versions, calls IPv4's by names that nobody else uses.
    return (host.removeprefix("::ffff:") if "." in host else host, port)
