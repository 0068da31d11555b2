"""squid built with OpenSSL: it inspects TLS, and may want a client certificate.

Debian's squid-openssl conflicts with squid, so it is unpacked beside it (`dpkg-deb -x`), and the
environment variable SQUID_OPENSSL names the folder.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trustme

from proxy_adapters import Hop, HopTLSError, ProxyURL, Route, open_tunnel
from tests.conftest import Pki
from tests.proxy_adapters.beds.bed import bed, target
from tests.proxy_adapters.beds.conftest import Squid, start_squid

Get = Callable[..., Awaitable[list[str]]]


@pytest.fixture(scope="session")
def unpacked() -> Path:
    folder = os.environ.get("SQUID_OPENSSL")
    if folder is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("SQUID_OPENSSL names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def secure_web(pki: Pki) -> Iterator[int]:
    with target(pki.server_context()) as port:
        yield port


@pytest.fixture(scope="session")
def inspector() -> trustme.CA:
    return trustme.CA(organization_name="Corp MITM CA")


@pytest.fixture(scope="session")
def squid_inspecting(unpacked: Path, pki: Pki, inspector: trustme.CA) -> Iterator[Squid]:
    with bed("squid-bump") as where:
        full = inspector.private_key_pem.bytes() + inspector.cert_pem.bytes()
        authority = where.file("mitm.pem", full.decode())
        trusted = where.file("ca.pem", pki.ca.read_text())
        maker = unpacked / "usr/lib/squid/security_file_certgen"
        where.run(maker, "-c", "-s", where.folder / "ssl_db", "-M", "4MB")
        where.run("chmod", "-R", "a+rwX", where.folder / "ssl_db")
        lines = f"""
sslcrtd_program {maker} -s {where.folder}/ssl_db -M 4MB
sslcrtd_children 1
tls_outgoing_options cafile={trusted}
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
http_access allow all
"""
        listen = (
            "http_port 127.0.0.1:{port} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB"
            f" tls-cert={authority}"
        )
        yield start_squid(where, lines, listen=listen, path=str(unpacked / "usr/sbin/squid"))


async def test_an_inspecting_proxy_is_named_by_its_issuer_and_can_be_trusted(
    squid_inspecting: Squid, get: Get, secure_web: int, pki: Pki, inspector: trustme.CA
) -> None:
    route = f"http://127.0.0.1:{squid_inspecting.port}"
    with pytest.raises(
        HopTLSError, match=r"target-tls: .*not issued by anyone we trust \(issuer: Corp MITM CA"
    ) as told:
        await get(route, port=secure_web, tls=pki.client_context(), server_hostname="localhost")
    assert "inspection" in told.value.advice
    trusting = ssl.create_default_context()
    inspector.configure_trust(trusting)
    tunnel = await open_tunnel("127.0.0.1", secure_web, route=route, tls=trusting, server_hostname="localhost")
    await tunnel.send_all(b"GET / HTTP/1.0\r\n\r\n")
    assert b"200" in await tunnel.receive_some()
    await tunnel.aclose()


@pytest.fixture(scope="session")
def squid_mutual(unpacked: Path, pki: Pki) -> Iterator[Squid]:
    with bed("squid-mutual") as where:
        cert, key = where.file("proxy.crt", pki.cert.read_text()), where.file("proxy.key", pki.key.read_text())
        trusted = where.file("ca.pem", pki.ca.read_text())
        listen = f"https_port 127.0.0.1:{{port}} tls-cert={cert} tls-key={key} clientca={trusted}"
        yield start_squid(where, "http_access allow all\n", listen=listen, path=str(unpacked / "usr/sbin/squid"))


async def test_a_client_certificate_is_asked_for_in_words_and_shown(squid_mutual: Squid, get: Get, pki: Pki) -> None:
    url = ProxyURL("https", "localhost", squid_mutual.port, tls=True)
    context = pki.client_context()
    with pytest.raises(HopTLSError, match="it wants a client certificate"):
        await get(Route((Hop(url, tls=context),)))
    pki.authority.issue_cert("client.test").configure_cert(context)
    await get(Route((Hop(url, tls=context),)))
