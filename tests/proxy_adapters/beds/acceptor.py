"""The server's side of GSSAPI, by the same library: no packaged SOCKS server here speaks RFC 1961."""

from __future__ import annotations

import contextlib
import ctypes
from ctypes import byref, c_uint32, c_void_p

import trio

from proxy_adapters import gssapi
from proxy_adapters.gssapi import KERBEROS, Initiator


class Acceptor(Initiator):
    """A context that accepts; the keytab is KRB5_KTNAME's. `wrap` and `unwrap` are the same on both sides."""

    def __init__(self) -> None:
        self._context, self._name, self._credential = c_void_p(), c_void_p(), c_void_p()
        self._library = gssapi._library()
        self.complete = False

    def step(self, token: bytes) -> bytes:
        minor, out, nothing = c_uint32(), gssapi._Buffer(), None
        accept = self._library.gss_accept_sec_context
        accept.restype = c_uint32
        major = accept(
            byref(minor),
            byref(self._context),
            c_void_p(),
            byref(gssapi._buffer(token)),
            *(nothing, nothing, nothing),
            byref(out),
            *(nothing, nothing, nothing),
        )
        said = gssapi._take(out)
        self.complete = gssapi._check(major, minor, KERBEROS) == 0
        return said


async def socks5_gssapi_server(stream: trio.SocketStream, *, level: bytes = b"\0") -> None:
    with contextlib.suppress(trio.BrokenResourceError):  # a client without a ticket goes away
        await _serve(stream, level)


async def _serve(stream: trio.SocketStream, level: bytes) -> None:
    """One SOCKS5 connection with method 1, then an answer that carries the first bytes of the tunnel."""

    async def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await stream.receive_some(count - len(data))
            if not more:
                raise trio.BrokenResourceError("the client went away")
            data += more
        return data

    _, count = await exactly(2)
    if 1 not in await exactly(count):
        await stream.send_all(b"\x05\xff")
        return
    await stream.send_all(b"\x05\x01")
    acceptor = Acceptor()

    async def message(kind: int) -> bytes:
        head = await exactly(4)
        assert head[:2] == bytes([1, kind])
        return await exactly(int.from_bytes(head[2:], "big"))

    async def say(kind: int, data: bytes) -> None:
        await stream.send_all(bytes([1, kind]) + len(data).to_bytes(2, "big") + data)

    while not acceptor.complete:
        try:
            answer = acceptor.step(await message(1))
        except gssapi.GSSError:
            await stream.send_all(b"\x01\xff")
            return
        await say(1, answer)
    assert acceptor.unwrap(await message(2)) == b"\0"
    await say(2, acceptor.wrap(level, confidential=False))
    assert (await exactly(4))[:2] == b"\x05\x01"
    await stream.receive_some()
    await stream.send_all(b"\x05\x00\x00\x01" + bytes(6) + b"hello")


assert ctypes.sizeof(gssapi._Buffer) == 2 * ctypes.sizeof(c_void_p)
