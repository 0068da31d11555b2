"""TLS as bytes in, plaintext out: an SSLObject between two MemoryBIOs, and nobody who waits.

OpenSSL reads ciphertext from one buffer and writes it to another, so a connection can drive it with the same
non-blocking reads and the same joined writes as plain bytes, and a second layer stacks on the first (TLS
through a TLS proxy). A record is at most 16 KiB; reading them in a loop into one buffer, instead of one per
call, is what doubles the throughput over a stream that answers every record with a checkpoint.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence

_RECORD = 16384


class TLS:
    """One layer of TLS.

    `over` makes a fresh one; an SSLObject whose handshake was already done elsewhere can be handed in with
    its BIOs, to be driven on from here.
    """

    __slots__ = ("_incoming", "_outgoing", "ended", "more", "object")

    def __init__(self, object_: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> None:
        self.object = object_
        self._incoming = incoming
        self._outgoing = outgoing
        self.ended = False  # close_notify, or the end of the bytes, has come
        self.more = False  # `receive` has stopped before all was read

    @classmethod
    def over(cls, context: ssl.SSLContext, *, server_side: bool = False, server_hostname: str | None = None) -> TLS:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wrapped = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
        return cls(wrapped, incoming, outgoing)

    def handshake(self, data: bytes | memoryview = b"") -> bool:
        """Take the next bytes of the other end; True when the handshake is done.

        What is to be sent is in `pending()`, also when this raises (an alert). Raises ssl.SSLError,
        ssl.SSLCertVerificationError.
        """
        self._incoming.write(data)
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def pending(self) -> bytes:
        """Ciphertext that TLS itself wants sent: handshake, alerts, key updates."""
        return self._outgoing.read()

    def receive(self, data: bytes | memoryview, buffer: memoryview, records: int = 1 << 30) -> int:
        """Take ciphertext, put the plaintext of at most `records` records into `buffer`; the number of bytes there.

        Sets `more` when it stops before all is read: call again with no data. Sets `ended` at close_notify. Raises
        ssl.SSLError for what is not TLS or was tampered with.
        """
        if data:
            self._incoming.write(data)
        filled = 0
        size = len(buffer)
        read: Callable[[int, memoryview], int] = self.object.read  # type: ignore[assignment]  # typeshed knows no buffer
        self.more = False
        try:
            # A record is begun only if all of it will fit: `close` must not find the rest of one.
            while records and (size - filled >= _RECORD or not filled):
                records -= 1
                count = read(size - filled, buffer[filled:])
                if not count:
                    self.ended = True
                    break
                filled += count
            else:
                self.more = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return filled

    def send(self, parts: Sequence[bytes | memoryview]) -> bytes:
        """Plaintext in, ciphertext out, in one piece."""
        write = self.object.write
        if len(parts) > 1 and sum(map(len, parts)) <= _RECORD:
            write(b"".join(parts))  # one record rather than one each
        else:
            for part in parts:
                if part:
                    write(part)  # SSLObject over a MemoryBIO takes all of it
        return self._outgoing.read()

    def close(self) -> bytes:
        """The close_notify to send; nothing is waited for."""
        # Having sent ours, OpenSSL looks for the other end's, and takes data that it finds instead for a fatal error.
        unread = self._incoming.read()
        with contextlib.suppress(ssl.SSLError):  # the other end's has not come, and nobody waits for it
            self.object.unwrap()
        if unread:
            self._incoming.write(unread)
        return self._outgoing.read()
