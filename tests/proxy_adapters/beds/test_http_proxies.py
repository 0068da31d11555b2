"""The other HTTP proxies, each with its own way of saying yes and no."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest
import trio

from proxy_adapters import (
    AuthenticationFailed,
    Hop,
    HopTLSError,
    HopUnreachable,
    ProxyURL,
    Route,
    TunnelError,
    TunnelRefused,
)
from tests.conftest import Pki
from tests.proxy_adapters.beds.bed import Bed, bed, free_port, program
from tests.proxy_adapters.beds.conftest import PASSWORD, USER, Squid

Get = Callable[..., Awaitable[list[str]]]


@dataclass
class Proxy:
    bed: Bed
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def by(self, user: str, password: str) -> Route:
        return Route((Hop(ProxyURL("http", "127.0.0.1", self.port, user, password)),))


async def test_nobody_there(get: Get) -> None:
    with pytest.raises(HopUnreachable, match="refused"):
        await get(f"http://127.0.0.1:{free_port()}")


# -- tinyproxy ------------------------------------------------------------------


@pytest.fixture(scope="session")
def tinyproxy(web: int, dead: int) -> Iterator[Proxy]:
    with bed("tinyproxy") as where:
        port = free_port()
        config = where.file(
            "tiny.conf",
            f"Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Info\n"
            f'LogFile "{where.log("log")}"\nBasicAuth {USER} s3cret\nConnectPort {web}\nConnectPort {dead}\n',
        )
        where.start(program("tinyproxy"), "-d", "-c", config, port=port)
        yield Proxy(where, port)


async def test_tinyproxy(tinyproxy: Proxy, get: Get, dead: int) -> None:
    await get(tinyproxy.by(USER, "s3cret"))
    with pytest.raises(AuthenticationFailed, match=r"basic: refused for alice") as wrong:
        await get(tinyproxy.by(USER, "wrong"))
    assert wrong.value.status == 401  # and not 407
    with pytest.raises(TunnelRefused, match="403") as forbidden:
        await get(tinyproxy.by(USER, "s3cret"), port=9)
    assert not forbidden.value.retryable
    with pytest.raises(TunnelRefused, match=r"50[0-9]") as unreachable:
        await get(tinyproxy.by(USER, "s3cret"), port=dead)
    assert unreachable.value.retryable


# -- Apache httpd -----------------------------------------------------------------


@dataclass
class Apache:
    basic: Proxy
    digest: Proxy
    tls: Proxy


@pytest.fixture(scope="session")
def apache(web: int, dead: int, pki: Pki) -> Iterator[Apache]:
    with bed("apache") as where:
        ports = {name: free_port() for name in ("basic", "digest", "tls")}
        modules = "mpm_event authn_core authn_file authz_core authz_user auth_basic auth_digest proxy proxy_connect ssl"
        load = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in modules.split())
        hashed = where.run("openssl", "passwd", "-apr1", PASSWORD).strip()
        passwords = where.file("htpasswd", f"{USER}:{hashed}\n")
        digest = hashlib.md5(f"{USER}:Apache Proxy:{PASSWORD}".encode()).hexdigest()
        digests = where.file("htdigest", f"{USER}:Apache Proxy:{digest}\n")
        key = where.file("key.pem", pki.key.read_text())
        cert = where.file("cert.pem", pki.cert.read_text())

        def host(name: str, kind: str, extra: str = "") -> str:
            file = digests if kind == "Digest" else passwords
            return f"""
Listen 127.0.0.1:{ports[name]}
<VirtualHost 127.0.0.1:{ports[name]}>
  ProxyRequests On
  AllowCONNECT {web} {dead}
  {extra}
  <Proxy *>
    AuthType {kind}
    AuthName "Apache Proxy"
    Auth{kind}Provider file
    AuthUserFile {file}
    Require valid-user
  </Proxy>
</VirtualHost>
"""

        config = where.file(
            "httpd.conf",
            f"ServerRoot {where.folder}\nServerName proxy.test\nPidFile {where.folder}/pid\nMutex pthread\n"
            f"DefaultRuntimeDir {where.folder}\nErrorLog {where.log('error.log')}\n"
            + ("User www-data\nGroup www-data\n" if os.geteuid() == 0 else "")
            + load
            + host("basic", "Basic")
            + host("digest", "Digest")
            + host("tls", "Basic", f"SSLEngine on\nSSLCertificateFile {cert}\nSSLCertificateKeyFile {key}"),
        )
        where.start(program("apache2"), "-d", where.folder, "-f", config, "-DFOREGROUND", port=ports["tls"])
        yield Apache(**{name: Proxy(where, port) for name, port in ports.items()})


async def test_apache(apache: Apache, get: Get, dead: int, pki: Pki) -> None:
    await get(apache.basic.by(USER, PASSWORD))
    await get(apache.digest.by(USER, PASSWORD))
    url = ProxyURL("https", "localhost", apache.tls.port, USER, PASSWORD, tls=True)
    await get(Route((Hop(url, tls=pki.client_context()),)))
    for proxy, scheme in ((apache.basic, "basic"), (apache.digest, "digest-md5")):
        with pytest.raises(AuthenticationFailed, match=f"{scheme}: refused for alice"):
            await get(proxy.by(USER, "wrong"))
    with pytest.raises(TunnelRefused, match="403"):
        await get(apache.basic.by(USER, PASSWORD), port=9)
    with pytest.raises(TunnelRefused, match="503") as unreachable:
        await get(apache.basic.by(USER, PASSWORD), port=dead)
    assert unreachable.value.retryable
    with pytest.raises(TunnelError):  # plain HTTP to a TLS port: 400 with a page that says so
        await get(f"http://127.0.0.1:{apache.tls.port}")
    with pytest.raises(HopTLSError, match=r"speaks no TLS"):
        await get(f"https://127.0.0.1:{apache.basic.port}")


# -- privoxy --------------------------------------------------------------------


async def test_privoxy(get: Get, dead: int) -> None:
    with bed("privoxy") as where:
        port = free_port()
        config = where.file(
            "conf",
            f"confdir /etc/privoxy\ntempldir /etc/privoxy/templates\nlogdir {where.folder}\nlogfile log\n"
            f"listen-address 127.0.0.1:{port}\ntoggle 0\nsocket-timeout 300\n",
        )
        where.log("log")
        where.start(program("privoxy"), "--no-daemon", config, port=port)
        await get(f"http://127.0.0.1:{port}")
        with pytest.raises(TunnelRefused, match="503") as unreachable:
            await get(f"http://127.0.0.1:{port}", port=dead)
        assert unreachable.value.retryable


async def to_loopback(host: str, port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


# -- haproxy in front: TLS, and the PROXY protocol ----------------------------------


async def test_haproxy_in_front(squid_open: Squid, get: Get, pki: Pki) -> None:
    with bed("haproxy") as where:
        tls, v, plain = free_port(), free_port(), free_port()
        pem = where.file("proxy.pem", pki.cert.read_text() + pki.key.read_text())
        config = where.file(
            "haproxy.cfg",
            f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend tls
  bind 127.0.0.1:{tls} ssl crt {pem}
  default_backend squid
frontend accept
  bind 127.0.0.1:{v} accept-proxy
  default_backend squid
frontend plain
  bind 127.0.0.1:{plain}
  default_backend squid
backend squid
  server squid 127.0.0.1:{squid_open.port}
""",
        )
        where.start(program("haproxy"), "-db", "-f", config, port=plain)
        await get(Route((Hop(ProxyURL("https", "localhost", tls, tls=True), tls=pki.client_context()),)))
        for version in (1, 2):
            await get(Route((Hop(ProxyURL("http", "127.0.0.1", v), proxy_protocol=version),)))
        with pytest.raises(TunnelError):
            await get(f"http://127.0.0.1:{v}")  # it drops who does not begin with the PROXY protocol
        with pytest.raises(HopTLSError, match=r"is for another name than proxy\.test"):
            await get(
                Route((Hop(ProxyURL("https", "proxy.test", tls, tls=True), tls=pki.client_context()),)),
                dial=to_loopback,
            )


# -- nghttpx: an HTTP/2 proxy that speaks 1.1 when it is asked to ----------------------


async def test_nghttpx(squid_open: Squid, get: Get, pki: Pki) -> None:
    with bed("nghttpx") as where:
        port = free_port()
        where.start(
            program("nghttpx"),
            "--http2-proxy",
            f"-f127.0.0.1,{port}",
            f"-b127.0.0.1,{squid_open.port}",
            "--workers=1",
            f"--errorlog-file={where.log('error')}",
            pki.key,
            pki.cert,
            port=port,
        )
        context = pki.client_context()
        await get(Route((Hop(ProxyURL("https", "localhost", port, tls=True), tls=context),)))
        context.set_alpn_protocols(["h2", "http/1.1"])
        with pytest.raises(HopTLSError, match=r"it chose .h2. by ALPN"):
            await get(Route((Hop(ProxyURL("https", "localhost", port, tls=True), tls=context),)))


# -- cntlm in front of an NTLM proxy --------------------------------------------------


async def test_cntlm(squid_ntlm: Squid, get: Get, dead: int) -> None:
    with bed("cntlm") as where:
        port = free_port()
        config = where.file(
            "cntlm.conf",
            f"Username {USER}\nDomain CORP\nPassword {PASSWORD}\nProxy 127.0.0.1:{squid_ntlm.port}\n"
            f"Listen 127.0.0.1:{port}\nAuth NTLMv2\nWorkstation LAB\n",
            0o600,
        )
        where.start(program("cntlm"), "-f", "-c", config, port=port)
        await get(f"http://127.0.0.1:{port}")
        with pytest.raises(TunnelRefused, match="503") as unreachable:
            await get(f"http://127.0.0.1:{port}", port=dead)
        assert unreachable.value.retryable


# -- pproxy -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def pproxy() -> Iterator[Proxy]:
    with bed("pproxy") as where:
        port = free_port()
        where.start(sys.executable, "-m", "pproxy", "-l", f"http+socks4+socks5://127.0.0.1:{port}", port=port)
        yield Proxy(where, port)


async def test_pproxy_closes_where_others_answer(pproxy: Proxy, get: Get, dead: int, pki: Pki) -> None:
    await get(pproxy.url)
    with pytest.raises(TunnelRefused, match="closed the connection in place of an answer"):
        await get(pproxy.url, port=dead)
    socks = f"socks5h://127.0.0.1:{pproxy.port}"
    await get(socks)
    await get(f"socks4://127.0.0.1:{pproxy.port}")
    # It says success before it connects, so the failure is one leg further.
    with pytest.raises(HopUnreachable, match="right after the proxy's success"):
        await get(socks, port=dead, tls=pki.client_context())


async def test_a_chain_through_real_proxies_of_three_kinds(
    pproxy: Proxy, squid_basic: Squid, tinyproxy: Proxy, web: int, get: Get
) -> None:
    with bed("chain") as where:
        port = free_port()
        config = where.file(
            "tiny.conf",
            f"Port {port}\nListen 127.0.0.1\nMaxClients 10\nConnectPort {squid_basic.port}\n",
        )
        where.start(program("tinyproxy"), "-d", "-c", config, port=port)
        trail = await get(
            f"socks5h://127.0.0.1:{pproxy.port} -> http://127.0.0.1:{port}"
            f" -> http://{USER}:{PASSWORD}@127.0.0.1:{squid_basic.port}"
        )
        assert [line[:3] for line in trail[-3:]] == ["[1]", "[2]", "[3]"]
