"""An open tunnel: a Trio stream over a socket and the TLS layers that proxies put around it.

It may be used as it is, or taken apart: whoever has a faster way of reading takes the socket by `detach()`,
the `tls_layers` and the `leftover`, and drives them on.
"""

from __future__ import annotations

import operator
import socket as stdlib_socket
import ssl
from types import TracebackType

import trio

from proxy_adapters.route import Route
from proxy_adapters.tls import TLSLayer

# What goes through TLS at once. For blocks of 128 KiB malloc may ask the kernel, and their pages come one fault at a
# time: receiving by 256 KiB took up to twice the processor time, sending through two layers one and a half.
_TLS_BYTES = 114688
_GOODBYE_SECONDS = 1.0


class _Alone:
    """Two tasks in one direction would tear each other's records: the second one is told so."""

    def __init__(self, doing: str) -> None:
        self._doing, self._busy = doing, False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._doing} this tunnel")
        self._busy = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._busy = False


class Tunnel(trio.abc.HalfCloseableStream):
    """Bytes to and from the destination. Closing it closes everything below.

    `stream` the stream at the bottom · `tls_layers` from the socket upwards: TLS to proxies, then TLS to
    the destination if it was asked for · `leftover` bytes of the tunnel that came behind the last
    handshake, already decrypted · `route` and `trail` the way that was gone, the latter for logs, without
    secrets.
    """

    def __init__(self, stream: trio.abc.Stream, *, leftover: bytes = b"") -> None:
        self.stream = stream
        self.tls_layers: list[TLSLayer] = []
        self.leftover = leftover
        self.route: Route | None = None
        self.trail: list[str] = []
        self._sending = _Alone("sending on")
        self._receiving = _Alone("receiving from")
        self._send_lock = trio.Lock()
        self._closed = False
        self._eof_sent = False

    @property
    def socket(self) -> trio.socket.SocketType | None:
        """The TCP socket at the bottom, None if the tunnel was opened over something else."""
        return self.stream.socket if isinstance(self.stream, trio.SocketStream) else None

    def detach(self) -> stdlib_socket.socket:
        """Hand the socket over, non-blocking, to be closed by the caller; this object is closed by that.

        `tls_layers` and `leftover` stay readable. Raises ValueError if there is no socket at the bottom.
        """
        below = self.socket
        if below is None:
            raise ValueError("this tunnel has no socket at its bottom")
        self._closed = True
        taken = stdlib_socket.socket(fileno=below.detach())
        taken.setblocking(False)
        return taken

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._sending:
            self._check_open()
            if self._eof_sent:
                raise trio.ClosedResourceError("the end was sent on this tunnel")
            if not self.tls_layers:
                await self.stream.send_all(data)
                return
            await trio.lowlevel.checkpoint()
            view = memoryview(data)
            for start in range(0, len(view), _TLS_BYTES):
                await self._transmit(self._encrypt(view[start : start + _TLS_BYTES]))

    async def wait_send_all_might_not_block(self) -> None:
        with self._sending:
            self._check_open()
            await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._receiving:
            self._check_open()
            if not self.leftover:
                if not self.tls_layers:
                    return bytes(await self.stream.receive_some(max_bytes))
                if not await self._fill():
                    return b""
            else:
                await trio.lowlevel.checkpoint()
            count = len(self.leftover) if max_bytes is None else max_bytes
            data, self.leftover = self.leftover[:count], self.leftover[count:]
            return data

    async def send_eof(self) -> None:
        """Half-close: a FIN, or close_notify of the innermost TLS (many servers then close all of it)."""
        with self._sending:
            self._check_open()
            if self._eof_sent:
                await trio.lowlevel.checkpoint()
                return
            self._eof_sent = True
            if self.tls_layers:
                await self._transmit(self._farewell())
            elif isinstance(self.stream, trio.abc.HalfCloseableStream):
                await self.stream.send_eof()
            else:
                raise trio.ClosedResourceError("the stream below knows no half-close")

    async def aclose(self) -> None:
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if self.tls_layers and not self._eof_sent and not self._send_lock.locked():
                # Politeness (and against truncation), not worth waiting for: the socket's buffer takes it
                # or not.
                with trio.move_on_after(_GOODBYE_SECONDS):
                    await self._transmit(self._farewell())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await self.stream.aclose()

    # -- TLS

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str, *, strict: bool) -> TLSLayer:
        """Put one more layer on top. Raises ssl.SSLError, or trio.BrokenResourceError if the other end goes
        away.
        """
        layer = TLSLayer.over(context, server_hostname, strict=strict)
        data = b""
        while True:
            try:
                done = layer.handshake(data)
            except ssl.SSLError as error:
                error.layer = layer  # type: ignore[attr-defined]  # who asks for the issuer's name needs it
                await self._flush_of(layer)
                raise
            await self._flush_of(layer)
            if done:
                break
            data = await self.receive_some()
            if not data:
                raise trio.BrokenResourceError("the connection was closed during the TLS handshake")
        self.tls_layers.append(layer)
        self.leftover = layer.decrypt(b"")
        return layer

    async def _flush_of(self, layer: TLSLayer) -> None:
        if (said := layer.encrypt(b"")) and not self._closed:
            await self.send_all(said)

    def _encrypt(self, data: bytes | bytearray | memoryview) -> bytes:
        for layer in reversed(self.tls_layers):
            data = layer.encrypt(data)
        return bytes(data)

    def _farewell(self) -> bytes:
        data = b""
        for layer in reversed(self.tls_layers):
            data = layer.encrypt(data) if data else layer.close()
        return data

    async def _transmit(self, ciphertext: bytes) -> None:
        # Records must leave in the order they were made, whether a sender made them or a receiver that owes
        # an answer (key update). The lock is fair, and nothing waits between making them and asking for it.
        if ciphertext:
            async with self._send_lock:
                await self.stream.send_all(ciphertext)

    async def _fill(self) -> bool:
        """Wait for plaintext into `leftover`; False at the end."""
        innermost = self.tls_layers[-1]
        while not self.leftover:
            if innermost.ended:
                await trio.lowlevel.checkpoint()
                return False
            data = bytes(await self.stream.receive_some(_TLS_BYTES))
            at_end = not data
            try:
                for layer in self.tls_layers:
                    data = layer.decrypt(data)
                    at_end = at_end or layer.ended
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(f"TLS failed: {error.reason or error}") from error
            if answer := self._encrypt(b""):
                await self._transmit(answer)
            self.leftover = data
            if at_end and not data:
                if not innermost.ended and innermost.strict:
                    raise trio.BrokenResourceError("the bytes ended without TLS's close_notify: maybe truncated")
                return False
        return True

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this tunnel is closed")
