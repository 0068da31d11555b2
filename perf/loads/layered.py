"""A socket under layers of TLS, for a way that leads through an https proxy: it is used as a socket is, and so by
every load. One layer of it could be Python's `ssl.SSLSocket`; two (TLS with the target inside TLS with the proxy)
could not.
"""

import socket
from typing import Any

from proxy_adapters import TLSLayer, Tunnel

RECEIVE_BYTES = 1 << 18
SEND_BYTES = 1 << 16


class LayeredSocket(socket.socket):
    """Takes over the socket, the layers and the first bytes of a tunnel."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._layers: list[TLSLayer] = tunnel.tls_layers
        self._plain = tunnel.leftover
        self._unsent = b""  # ciphertext of bytes that count as not sent
        self._sending = 0  # how many bytes those are
        super().__init__(fileno=tunnel.detach().detach())

    def recv(self, size: int, flags: int = 0) -> bytes:
        """All that is decrypted by now, though it may be somewhat more than `size`: nobody may wait in epoll for what
        has been taken off the socket already. `MSG_WAITALL` is the only flag that means something here.
        """
        wanted = size if flags & socket.MSG_WAITALL else 1
        while len(self._plain) < wanted and self._fill():
            pass
        data, self._plain = self._plain, b""
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        if not self._plain:
            self._fill()
        count = min(size or len(buffer), len(self._plain))
        if not flags & socket.MSG_TRUNC:
            buffer[:count] = self._plain[:count]
        self._plain = self._plain[count:]
        return count

    def send(self, data: Any, flags: int = 0) -> int:
        """As OpenSSL wants it: after a BlockingIOError, the same bytes again."""
        if not self._unsent:
            self._sending = min(len(data), SEND_BYTES)
            self._unsent = self._encrypted(memoryview(data)[: self._sending])
        self._flush()
        return self._sending

    def sendall(self, data: Any, flags: int = 0) -> None:
        view = memoryview(data)
        while view:
            view = view[self.send(view) :]

    def _fill(self) -> bool:
        """Wait for plaintext, as the socket's own mode is: False at the end."""
        while data := super().recv(RECEIVE_BYTES):
            for layer in self._layers:
                data = layer.decrypt(data)
            if data:
                self._plain += data
                return True
        return False

    def _encrypted(self, data: bytes | memoryview) -> bytes:
        for layer in reversed(self._layers):
            data = layer.encrypt(data)
        return bytes(data)

    def _flush(self) -> None:
        while self._unsent:
            self._unsent = self._unsent[super().send(self._unsent) :]
