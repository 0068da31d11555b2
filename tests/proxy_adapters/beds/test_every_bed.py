"""What every bed has to show, and curl beside it: it works, a wrong secret, a target that refuses, a proxy gone."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio

from proxy_adapters import AuthenticationFailed, HopUnreachable, Memory, TunnelRefused, open_tunnel
from tests.proxy_adapters.beds.conftest import curl
from tests.proxy_adapters.beds.proxies import BEDS, Proxy

Get = Callable[..., Awaitable[list[str]]]

SQUID_REFUSES = r"it could not reach 127\.0\.0\.1:\d+: 503 .*ERR_CONNECT_FAIL 111"

# What is said of a wrong password, for those who ask for one.
WRONG = {
    "squid_basic": "407.*; basic: refused for alice",
    "squid_digest": "407.*; digest-md5: refused for alice",
    "squid_ntlm": "407.*; ntlm: refused for alice",
    "squid_ntlm_closing": "407.*; ntlm: refused for alice",
    "squid_spnego_ntlm": "407.*; negotiate-ntlm: refused for alice",
    "squid_kerberos": "407.*; negotiate: .*reauthentication failed",
    "squid_all_four": "407.*; ntlm: refused for alice.*; digest-md5: refused for alice.*; basic: refused for alice",
    "squid_tls": "407.*; basic: refused for alice",
    "squid_tls_ntlm": "407.*; ntlm: refused for alice",
    "tinyproxy": "401.*; basic: refused for alice",  # and not 407
    "apache_basic": "407.*; basic: refused for alice",
    "apache_digest": "407.*; digest-md5: refused for alice",
    "apache_tls": "407.*; basic: refused for alice",
    "pproxy": "407.*; basic: refused for alice",
    "mitmproxy": "407.*; basic: refused for alice",
    "mitmproxy_socks": "'alice' or the password was refused",
    "haproxy_tls": "407.*; basic: refused for alice",
    "haproxy_v1": "407.*; basic: refused for alice",
    "haproxy_v2": "407.*; basic: refused for alice",
    "nghttpx": "407.*; basic: refused for alice",
    "microsocks": "'alice' or the password was refused",
}

# What is said where nobody listens at the destination, by those who do not say what squid does.
REFUSES = {
    "tinyproxy": "it could not reach .*: 500",
    "apache_basic": "it could not reach .*: 503",
    "apache_digest": "it could not reach .*: 503",
    "apache_tls": "it could not reach .*: 503",
    "privoxy": "it could not reach .*: 503",
    "mitmproxy": "it could not reach .*: 502",
    "mitmproxy_socks": "host unreachable from the proxy",
    "microsocks": "refused the connection",
    "dante": "refused the connection",
    "ssh": "closed the connection without an answer",
}
# Those which say that there is a tunnel before they have dialled, or hang up, have tests of their own for it.
HASTY = ("squid_inspecting", "squid_inspecting_upgrades", "mitmproxy_lazy", "pproxy", "pproxy_socks")


class Errand:
    """To a web server behind one bed, as it should be gone; an inspecting bed gets TLS to inspect."""

    def __init__(self, proxy: Proxy, get: Get, web: int, dead: int) -> None:
        self.proxy = proxy
        self.web = web
        self.dead = dead
        tls = ssl.create_default_context(cafile=proxy.inspector) if proxy.inspector else False
        self.get = partial(get, port=web, tls=tls, server_hostname="localhost")
        self.open = partial(open_tunnel, "127.0.0.1", web, tls=tls, server_hostname="localhost", memory=Memory())

    async def curl(self, password: str = "", *, port: int = 0) -> int | None:
        """curl's exit code for the same; None for a bed that curl knows no way through."""
        proxy = self.proxy
        if proxy.curl is None:
            return None
        words = [*proxy.curl, "-x", proxy.url]
        words += ["-U", f"{proxy.user}:{password or proxy.password}"] if proxy.user else []
        words += ["--proxy-cacert", str(proxy.ca)] if proxy.ca else []
        words += ["--cacert", str(proxy.inspector)] if proxy.inspector else []
        words += [f"{'https' if proxy.inspector else 'http'}://localhost:{port or self.web}/"]
        return await trio.to_thread.run_sync(lambda: curl(*words))


@pytest.fixture
def errand(
    proxy: Proxy,
    get: Get,
    web: int,
    secure_web: int,
    dead: int,
    no_realm: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Errand:
    for variable, value in proxy.env.items():
        monkeypatch.setenv(variable, value)
    return Errand(proxy, get, secure_web if proxy.inspector else web, dead)


@pytest.mark.parametrize("name", BEDS)
async def test_it_works(errand: Errand) -> None:
    await errand.get(errand.proxy.route())
    assert await errand.curl() in (0, None)


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_password_is_named_and_not_sent_again(name: str, errand: Errand) -> None:
    if name.startswith("pproxy"):  # it lets anybody in whose address has once logged in
        errand.proxy.stop()
        errand.proxy.start()
    memory, route = Memory(), errand.proxy.by(errand.proxy.user, "wrong-secret")
    with pytest.raises(AuthenticationFailed, match=WRONG[name]) as caught:
        await errand.get(route, memory=memory)
    assert "wrong-secret" not in caught.value.report()
    assert not caught.value.retryable
    if name != "squid_kerberos":  # which is not sent a password at all
        with pytest.raises(AuthenticationFailed, match="refused before"):
            await errand.get(route, memory=memory)
    assert await errand.curl("wrong-secret") != 0


@pytest.mark.parametrize("name", [name for name in BEDS if name not in HASTY])
async def test_a_destination_that_refuses_is_the_destination(name: str, errand: Errand) -> None:
    with pytest.raises(TunnelRefused, match=REFUSES.get(name, SQUID_REFUSES)) as caught:
        await errand.get(errand.proxy.route(), port=errand.dead)
    assert caught.value.retryable
    assert not isinstance(caught.value, AuthenticationFailed)
    assert caught.value.leg == "proxy-request", "the login was not what it refused"
    assert await errand.curl(port=errand.dead) != 0


@pytest.mark.parametrize("name", BEDS)
async def test_a_proxy_that_is_gone_ends_its_tunnels_is_named_and_comes_back(errand: Errand) -> None:
    proxy, route = errand.proxy, errand.proxy.route()
    async with await errand.open(route=route) as tunnel:
        proxy.stop()
        with trio.fail_after(5), contextlib.suppress(trio.BrokenResourceError):
            assert await tunnel.receive_some() == b""
    with pytest.raises(HopUnreachable, match="refused") as caught:
        await errand.get(route)
    assert str(proxy.port) in str(caught.value)
    assert caught.value.retryable
    assert await errand.curl() != 0
    await trio.to_thread.run_sync(proxy.start)
    await errand.get(route)
