"""Proxies that inspect TLS: squid built with OpenSSL, which may want a client certificate as well, and mitmproxy."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from proxy_adapters import HopTLSError, open_tunnel
from tests.conftest import Pki
from tests.proxy_adapters.beds.proxies import Proxy

Get = Callable[..., Awaitable[list[str]]]


@pytest.mark.parametrize("name", ["squid_inspecting", "mitmproxy", "mitmproxy_lazy", "mitmproxy_socks"])
async def test_an_inspecting_proxy_is_known_by_its_issuer(proxy: Proxy, get: Get, secure_web: int, pki: Pki) -> None:
    with pytest.raises(
        HopTLSError, match=r"target-tls: .*not issued by anyone we trust \(issuer: Corp MITM CA"
    ) as told:
        await get(proxy.route(), port=secure_web, tls=pki.client_context(), server_hostname="localhost")
    assert "inspection" in told.value.advice


@pytest.mark.parametrize("name", ["squid_inspecting", "squid_inspecting_upgrades", "mitmproxy_lazy"])
async def test_where_the_tunnel_is_granted_too_soon_the_refusal_stands_inside_of_it(proxy: Proxy, dead: int) -> None:
    tls = ssl.create_default_context(cafile=proxy.inspector)
    tunnel = await open_tunnel("localhost", dead, route=proxy.route(), tls=tls)
    async with tunnel:
        await tunnel.send_all(b"GET / HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % dead)
        assert (await tunnel.receive_some()).startswith((b"HTTP/1.1 502 Bad Gateway", b"HTTP/1.1 503 Service"))


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("squid_inspecting", b"HTTP/1.1 400 "),
        ("squid_inspecting_upgrades", b"HTTP/1.1 101 "),
        ("mitmproxy", b"HTTP/1.1 101 "),
        ("mitmproxy_lazy", b"HTTP/1.1 101 "),
        ("mitmproxy_socks", b"HTTP/1.1 101 "),
    ],
)
async def test_the_upgrade_of_a_websocket_passes_or_is_removed(
    proxy: Proxy, answer: bytes, pki: Pki, nursery: trio.Nursery
) -> None:
    async def echo(request: WebSocketRequest) -> None:
        socket = await request.accept()
        with contextlib.suppress(ConnectionClosed):
            await socket.get_message()

    server = await nursery.start(serve_websocket, echo, "127.0.0.1", 0, pki.server_context())
    tls = ssl.create_default_context(cafile=proxy.inspector)
    with trio.fail_after(10):
        tunnel = await open_tunnel("127.0.0.1", server.port, route=proxy.route(), tls=tls, server_hostname="localhost")
        async with tunnel:
            await tunnel.send_all(UPGRADE % server.port)
            assert (await tunnel.receive_some()).startswith(answer)


@pytest.mark.parametrize("name", ["squid_mutual"])
async def test_a_client_certificate_is_asked_for_in_words(proxy: Proxy, get: Get) -> None:
    with pytest.raises(HopTLSError, match="it requires a client certificate"):
        await get(replace(proxy, client_pair=None).route())
