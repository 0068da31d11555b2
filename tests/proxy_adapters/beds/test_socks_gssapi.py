"""SOCKS5 with GSSAPI (RFC 1961), against a real KDC and an acceptor of our own."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from proxy_adapters import AuthenticationFailed, Hop, Login, ProxyURL, Route, open_tunnel
from tests.proxy_adapters.beds.acceptor import socks5_gssapi_server
from tests.proxy_adapters.beds.proxies import Kerberos


async def serve(nursery: trio.Nursery, level: bytes = b"\0") -> Route:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(partial(trio.serve_listeners, partial(socks5_gssapi_server, level=level), listeners))
    port = listeners[0].socket.getsockname()[1]
    return Route((Hop(ProxyURL("socks5h", "localhost", port), Login(socks_gssapi=True)),))


async def dial(host: str, port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


@pytest.mark.parametrize("token", ["A", "AAAA", "YIIG"])
async def test_an_http_proxy_whose_token_makes_no_sense_is_left(
    member: Kerberos, nursery: trio.Nursery, token: str
) -> None:
    async def proxy(stream: trio.SocketStream) -> None:
        while await stream.receive_some():
            await stream.send_all(
                f"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate {token}\r\nContent-Length: 0\r\n\r\n".encode()
            )

    await trio.to_thread.run_sync(member.kinit)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, proxy, listeners)
    url = ProxyURL("http", "localhost", listeners[0].socket.getsockname()[1])
    with pytest.raises(AuthenticationFailed, match="negotiate: the proxy's token makes no sense"):
        await open_tunnel("target.test", 443, route=Route((Hop(url, Login()),)), dial=dial)


async def test_a_ticket_opens_the_tunnel(
    member: Kerberos, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_KTNAME", str(member.keytab))
    monkeypatch.setenv("KRB5RCACHENAME", "none:")
    route = await serve(nursery)
    with pytest.raises(AuthenticationFailed, match=r"GSSAPI: .*(credential|cache)"):
        await open_tunnel("target.test", 443, route=route, dial=dial)
    await trio.to_thread.run_sync(member.kinit)
    tunnel = await open_tunnel("target.test", 443, route=route, dial=dial)
    assert await tunnel.receive_some() == b"hello"
    await tunnel.aclose()
    with pytest.raises(AuthenticationFailed, match="requires GSSAPI protection level 02"):
        await open_tunnel("target.test", 443, route=await serve(nursery, b"\2"), dial=dial)
    monkeypatch.setenv("KRB5_KTNAME", "/nonexistent")
    with pytest.raises(AuthenticationFailed, match="it refused our GSSAPI token"):
        await open_tunnel("target.test", 443, route=route, dial=dial)
