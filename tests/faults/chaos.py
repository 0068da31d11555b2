"""Clients that do whatever clients do, in any order: half heads, whole ones, bodies that break off, WebSockets that
close, FIN, RST, stalls, and going on after them.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct

import trio

from tests.roles import Talk

GET = b"GET /mirror?answer=%d HTTP/1.1\r\nHost: node.test\r\nx-piko-endpoint: web\r\n\r\n"
POST = b"POST /mirror?answer=10 HTTP/1.1\r\nHost: node.test\r\nx-piko-endpoint: web\r\nContent-Length: 5000\r\n\r\n"
CHUNKED = POST.partition(b"Content-")[0] + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
TCP = (
    b"GET /_piko/v1/tcp/tcp HTTP/1.1\r\nHost: node.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
ADDRESS = "127.0.0.3"  # of their own: a node shuts out who asks and goes, again and again
FRAME = b"\x82\x85\0\0\0\0hello"
END = b"\x82\x80\0\0\0\0"
CLOSE = b"\x88\x82\0\0\0\0\x03\xe8"
PING = b"\x89\x80\0\0\0\0"
HALVES = (GET[:20], POST, POST[:-1], CHUNKED, b"zz\r\n", b"\x16\x03\x01")
WORDS = (GET % 100, GET % 500_000, *HALVES, TCP, FRAME, END, CLOSE, PING)


class Chaos:
    """Clients of the proxy port `port`, over TLS if there is a context. `moves` counts what they did."""

    def __init__(self, port: int, seed: int, tls: ssl.SSLContext | None = None) -> None:
        self.moves = 0
        self._port = port
        self._tls = tls
        self._chance = random.Random(seed)

    async def run(self) -> None:
        """One client after the other, until cancelled."""
        while True:
            try:
                with trio.move_on_after(2):
                    await self._client()
            except (OSError, EOFError, trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError):
                pass
            await trio.sleep(0.001)

    async def _client(self) -> None:
        chance = self._chance
        stream = await trio.open_tcp_stream("127.0.0.1", self._port, local_address=ADDRESS)
        async with stream:
            whole = stream
            talk = Talk(whole)
            if self._tls is not None:
                secured = trio.SSLStream(stream, self._tls, server_hostname="127.0.0.1", https_compatible=True)
                await secured.do_handshake()
                talk = Talk(secured)
            for _ in range(chance.randint(1, 6)):
                self.moves += 1
                match chance.choice(("say", "say", "say", "hear", "stall", "fin", "rst")):
                    case "say":
                        await talk.say(b"".join(chance.choices(WORDS, k=chance.randint(1, 3))))
                    case "hear":
                        with trio.move_on_after(0.02):
                            await talk.hear()
                    case "stall":
                        await trio.sleep(chance.random() * 0.02)
                    case "fin":
                        await stream.send_eof()
                    case "rst":
                        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
