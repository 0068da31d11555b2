"""Forward proxies, as short as they can be: they do what they are asked, and remember what that was."""

from __future__ import annotations

import base64

import trio

from tests.roles import Talk, join, values_of


class Proxy:
    """Serves HTTP CONNECT (`http`) or SOCKS 5 (`socks5`); with a `login` ("user:password") only to who has it."""

    def __init__(self, login: str = "") -> None:
        self.asked: list[str] = []  # host:port of every tunnel
        self.refused = 0
        self._login = login.encode()

    async def http(self, talk: Talk) -> None:
        wanted = [b"Basic " + base64.b64encode(self._login)] if self._login else []
        while values_of(head := await talk.until(b"\r\n\r\n"), b"proxy-authorization") != wanted:
            self.refused += 1
            await talk.say(
                b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n'
                b"Content-Length: 0\r\n\r\n"
            )
        method, target = head.split()[:2]
        assert method == b"CONNECT"
        host, _, port = target.decode().rpartition(":")
        await self._tunnel(talk, b"HTTP/1.1 200 OK\r\n\r\n", host, int(port))

    async def socks5(self, talk: Talk) -> None:
        version, count = await talk.exactly(2)
        if version != 5:
            return
        methods = await talk.exactly(count)
        if self._login:
            assert 2 in methods
            await talk.say(b"\x05\x02")
            assert await talk.exactly(1) == b"\x01"
            user = await talk.exactly((await talk.exactly(1))[0])
            password = await talk.exactly((await talk.exactly(1))[0])
            if user + b":" + password != self._login:
                self.refused += 1
                await talk.say(b"\x01\x01")
                return
            await talk.say(b"\x01\x00")
        else:
            assert 0 in methods
            await talk.say(b"\x05\x00")
        assert await talk.exactly(3) == b"\x05\x01\x00"
        if (await talk.exactly(1)) == b"\x01":
            host = ".".join(map(str, await talk.exactly(4)))
        else:
            host = (await talk.exactly((await talk.exactly(1))[0])).decode()
        port = int.from_bytes(await talk.exactly(2), "big")
        await self._tunnel(talk, b"\x05\x00\x00\x01" + bytes(6), host, port)

    async def _tunnel(self, near: Talk, granted: bytes, host: str, port: int) -> None:
        self.asked.append(f"{host}:{port}")
        async with await trio.open_tcp_stream(host, port) as stream:
            await near.say(granted)
            await join(near, Talk(stream))
