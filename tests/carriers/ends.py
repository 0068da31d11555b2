"""Both ends of a way through a middlebox, in one test: a client that dials, and a node that the test plays itself."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio

from tests.carriers.beds import Middlebox, open_middlebox
from tests.conftest import Pki
from tests.roles import Talk, values_of

CRLF = b"\r\n"
END = b"\r\n\r\n"


class Ends:
    """`box`, and who talks through it. Connections that reach the node are given out in order by `arrived`."""

    def __init__(self, box: Middlebox, nursery: trio.Nursery, arrivals: trio.MemoryReceiveChannel[Far]) -> None:
        self.box = box
        self.nursery = nursery
        self._arrivals = arrivals
        self._clients: list[Talk] = []

    async def dial(self) -> Talk:
        """A client, which is gone when the ends are."""
        self._clients.append(await self.box.dial())
        return self._clients[-1]

    async def arrived(self) -> Far:
        """The next connection on which a request has come."""
        return await self._arrivals.receive()

    async def close(self) -> None:
        for client in self._clients:
            await client.reset()


class Far:
    """The node's end of a connection, and the head of the request that is read. A box may speak HTTP/1.0 here, and
    gets its answers by the rules of that.
    """

    def __init__(self, talk: Talk, head: bytes) -> None:
        self.talk = talk
        self.head = head

    def values(self, name: bytes) -> list[bytes]:
        return values_of(self.head, name)

    @property
    def version(self) -> bytes:
        return self.head.partition(CRLF)[0].rpartition(b" ")[2]

    async def part(self) -> bytes:
        """What has come of the body, as it stands on the wire; b"" at the end of the connection."""
        return await self.talk.hear()

    async def body(self) -> bytes:
        """The whole body, of known length or in chunks."""
        if self.values(b"transfer-encoding"):
            return await chunked_body(self.talk)
        return await self.talk.exactly(sum(map(int, self.values(b"content-length"))))

    async def answer(self, body: bytes = b"ok", fields: bytes = b"Cache-Control: no-store\r\n") -> None:
        await self.talk.say(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(body), body))

    async def begin(self, fields: bytes = b"Cache-Control: no-store\r\n") -> None:
        """The head of an answer whose length nobody knows; then `say` and `end`."""
        framing = b"Transfer-Encoding: chunked" if self.version == b"HTTP/1.1" else b"Connection: close"
        await self.talk.say(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n%b%b\r\n\r\n" % (fields, framing)
        )

    async def say(self, data: bytes) -> None:
        await self.talk.say(chunk(data) if self.version == b"HTTP/1.1" else data)

    async def end(self) -> None:
        if self.version == b"HTTP/1.1":
            await self.talk.say(chunk(b""))
        else:
            await self.talk.close()

    async def next_head(self) -> bool:
        """Wait for another request on the same connection; False when it has ended instead."""
        try:
            self.head = await self.talk.until(END)
        except (EOFError, trio.BrokenResourceError):
            return False
        return True


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def chunked_body(talk: Talk) -> bytes:
    parts = []
    while size := int((await talk.until(CRLF)).split(b";")[0], 16):
        parts.append(await talk.exactly(size))
        await talk.exactly(2)
    await talk.until(CRLF)
    return b"".join(parts)


def request(box: Middlebox, *fields: bytes, method: bytes = b"POST", path: bytes = b"/x") -> bytes:
    """A head."""
    host = box.url.partition("//")[2].encode()
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: " + host, b"Cache-Control: no-store", *fields, b"", b""]
    return CRLF.join(lines)


def post(box: Middlebox, body: bytes) -> bytes:
    return request(box, b"Content-Type: application/octet-stream", b"Content-Length: %d" % len(body)) + body


@asynccontextmanager
async def open_ends(name: str, pki: Pki) -> AsyncIterator[Ends]:
    """The two ends of the box of that name, as long as the block runs."""
    send, receive = trio.open_memory_channel[Far](math.inf)
    async with trio.open_nursery() as nursery:

        async def accept(stream: trio.SocketStream) -> None:
            talk = Talk(stream)
            async with stream:
                with suppress(EOFError, trio.BrokenResourceError):
                    send.send_nowait(Far(talk, await talk.until(END)))
                    await trio.sleep_forever()

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, accept, listeners)
        async with open_middlebox(name, listeners[0].socket.getsockname()[1], pki) as box:
            ends = Ends(box, nursery, receive)
            try:
                yield ends
            finally:
                with trio.CancelScope(shield=True):
                    await ends.close()
        nursery.cancel_scope.cancel()
