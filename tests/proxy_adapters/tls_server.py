"""The server's end of TLS over any Trio stream, for tests: it sends its alerts, which trio.SSLStream does
not.
"""

from __future__ import annotations

import ssl

import trio

from proxy_adapters.tls import TLSLayer
from proxy_adapters.tunnel import Tunnel


class Server(Tunnel):
    """A tunnel whose layers are the server's."""

    async def start_server_tls(self, context: ssl.SSLContext, *, strict: bool = True) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = context.wrap_bio(incoming, outgoing, server_side=True)
        layer = TLSLayer(server, incoming, outgoing, strict=strict)
        try:
            while not layer.handshake(await self.heard()):
                await self.send_all(layer.encrypt(b""))
        finally:
            with trio.CancelScope(shield=True):
                await self.send_all(layer.encrypt(b""))
        self.tls_layers.append(layer)
        self.leftover = layer.decrypt(b"")

    async def heard(self) -> bytes:
        data = await self.receive_some()
        if not data:
            raise trio.BrokenResourceError("the client went away during the handshake")
        return data
