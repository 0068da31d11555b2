"""The other HTTP proxies: what each of them does in its own way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from proxy_adapters import Hop, HopTLSError, HopUnreachable, ProxyURL, Route, TunnelError, TunnelRefused
from tests.conftest import Pki
from tests.programs import free_port
from tests.proxy_adapters.beds.bed import bed, program
from tests.proxy_adapters.beds.proxies import Proxy, Squid

Get = Callable[..., Awaitable[list[str]]]


@pytest.mark.parametrize("name", ["tinyproxy", "apache_basic"])
async def test_a_forbidden_port_will_not_be_allowed_by_itself(proxy: Proxy, get: Get) -> None:
    with pytest.raises(TunnelRefused, match="403") as forbidden:
        await get(proxy.route(), port=9)
    assert not forbidden.value.retryable


@pytest.mark.parametrize(
    ("name", "scheme", "error", "words"),
    [
        ("apache_tls", "http", TunnelError, "400|closed the connection"),
        ("apache_basic", "https", HopTLSError, "speaks no TLS"),
    ],
)
async def test_tls_and_plain_are_told_apart(
    proxy: Proxy, scheme: str, error: type[TunnelError], words: str, get: Get
) -> None:
    with pytest.raises(error, match=words):
        await get(f"{scheme}://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("name", ["haproxy_v1"])
async def test_haproxy_drops_who_does_not_begin_with_the_proxy_protocol(proxy: Proxy, get: Get) -> None:
    with pytest.raises(TunnelError):
        await get(proxy.url)


@pytest.mark.parametrize("name", ["haproxy_tls"])
async def test_a_proxy_with_the_certificate_of_another_is_named(proxy: Proxy, get: Get, pki: Pki) -> None:
    async def to_loopback(host: str, port: int) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", port)

    url = ProxyURL("https", "proxy.test", proxy.port, tls=True)
    with pytest.raises(HopTLSError, match=r"is for another name than proxy\.test"):
        await get(Route((Hop(url, tls=pki.client_context()),)), dial=to_loopback)


@pytest.mark.parametrize("name", ["nghttpx"])
async def test_an_http_2_proxy_is_not_asked_for_http_2(proxy: Proxy, get: Get, pki: Pki) -> None:
    context = pki.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with pytest.raises(HopTLSError, match=r"it chose .h2. by ALPN"):
        await get(Route((Hop(ProxyURL.parse(proxy.url), tls=context),)))


@pytest.mark.parametrize("name", ["cntlm"])
async def test_cntlm_with_a_wrong_password_passes_the_refusal_on(proxy: Proxy, get: Get) -> None:
    config = proxy.bed.folder / "cntlm.conf"
    right = config.read_text()
    config.write_text(right.replace("Password ", "Password not-"))
    proxy.stop()
    proxy.start()
    with pytest.raises(TunnelRefused, match="407"):
        await get(proxy.url)
    config.write_text(right)
    proxy.stop()
    proxy.start()
    await get(proxy.url)


@pytest.mark.parametrize("name", ["pproxy"])
async def test_pproxy_closes_where_others_answer(proxy: Proxy, get: Get, dead: int) -> None:
    with pytest.raises((TunnelRefused, HopUnreachable), match="closed the connection") as refused:
        await get(proxy.route(), port=dead)
    assert refused.value.retryable


@pytest.mark.parametrize("name", ["pproxy_socks"])
async def test_pproxy_says_success_before_it_connects(proxy: Proxy, get: Get, dead: int, pki: Pki) -> None:
    with pytest.raises(HopUnreachable, match="right after the proxy's success"):
        await get(proxy.route(), port=dead, tls=pki.client_context())
    proxy.stop()  # for it lets anybody in whose address has once logged in
    proxy.start()
    with pytest.raises(HopUnreachable, match="closed the connection"):
        await get(proxy.by("alice", "wrong"))


@pytest.mark.parametrize("name", ["microsocks"])
async def test_a_chain_through_real_proxies_of_three_kinds(proxy: Proxy, squid_basic: Squid, get: Get) -> None:
    with bed("chain") as where:
        port = free_port()
        config = where.file(
            "tiny.conf",
            f"Port {port}\nListen 127.0.0.1\nMaxClients 10\nConnectPort {squid_basic.port}\n",
        )
        where.start(program("tinyproxy"), "-d", "-c", config, port=port)
        (socks,), (squid,) = proxy.route().hops, squid_basic.route().hops
        between = Hop(ProxyURL("http", "127.0.0.1", port))
        trail = await get(Route((socks, between, squid)))
        assert [line[:3] for line in trail[-3:]] == ["[1]", "[2]", "[3]"]
