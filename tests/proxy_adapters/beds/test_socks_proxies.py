"""Real SOCKS servers: what each of them does in its own way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from proxy_adapters import AuthenticationFailed, HopUnreachable, NotAProxy, TunnelError, TunnelRefused, open_tunnel
from tests.proxy_adapters.beds.bed import bed
from tests.proxy_adapters.beds.proxies import Proxy, start_sshd

Get = Callable[..., Awaitable[list[str]]]


@pytest.mark.parametrize("name", ["microsocks"])
async def test_microsocks_speaks_socks5_only_and_wants_a_login(proxy: Proxy, get: Get) -> None:
    await get(f"socks5://alice:s3cret@127.0.0.1:{proxy.port}")
    with pytest.raises(AuthenticationFailed, match="accepts none of the methods"):
        await get(proxy.url)
    for scheme in ("socks4a", "http"):  # it hangs up
        with pytest.raises(TunnelError):
            await get(f"{scheme}://127.0.0.1:{proxy.port}")


@pytest.mark.parametrize("name", ["dante"])
async def test_dante_and_its_rules(proxy: Proxy, get: Get, dead: int, web: int) -> None:
    port = proxy.port
    for scheme in ("socks4", "socks5"):
        await get(f"{scheme}://127.0.0.1:{port}")
    with pytest.raises(TunnelRefused, match="do not allow") as blocked:
        await get(f"socks5h://127.0.0.1:{port}", port=9)
    assert not blocked.value.retryable
    with pytest.raises(TunnelRefused, match="rejected or the destination could not be reached"):
        await get(f"socks4://127.0.0.1:{port}", port=dead)
    # SOCKS4a: it really connects to 0.0.0.1, and the words say what else to use.
    with trio.fail_after(20), pytest.raises(TunnelRefused, match="try socks5h://"):
        await open_tunnel("localhost", web, route=f"socks4a://127.0.0.1:{port}")


@pytest.mark.parametrize("name", ["ssh"])
async def test_ssh_does_all_four_and_closes_where_others_answer(proxy: Proxy, get: Get, dead: int, web: int) -> None:
    port = proxy.port
    for scheme in ("socks4", "socks4a", "socks5"):
        await get(f"{scheme}://127.0.0.1:{port}")
    tunnel = await open_tunnel("localhost", web, route=f"socks4a://127.0.0.1:{port}")
    await tunnel.aclose()
    with pytest.raises((TunnelRefused, HopUnreachable), match=r"closed the connection|rejected") as caught:
        await get(f"socks4a://127.0.0.1:{port}", port=dead)
    assert caught.value.retryable


@pytest.mark.parametrize("name", ["pproxy"])
async def test_pproxy_speaks_socks4_to_who_has_logged_in(proxy: Proxy, get: Get) -> None:
    await get(proxy.route())
    await get(f"socks4://127.0.0.1:{proxy.port}")


async def test_an_ssh_server_is_named(get: Get) -> None:
    with bed("sshd") as where:
        port = start_sshd(where)
        with pytest.raises(NotAProxy, match="SSH server"):
            await get(f"http://127.0.0.1:{port}")
