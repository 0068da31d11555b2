"""A proxy that has to prove itself: by Kerberos, against a real KDC and an acceptor of our own; by what cannot, never.

What Digest makes of it is in test_digest.py.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable

import pytest
import trio
import trio.testing

from proxy_adapters import AuthenticationFailed, Hop, Login, Memory, ProxyURL, Route, Secret, TunnelRefused, open_tunnel
from tests.proxy_adapters.beds.acceptor import Acceptor
from tests.proxy_adapters.beds.conftest import dead, lab, member, realm, secure_web, web
from tests.proxy_adapters.beds.proxies import Kerberos
from tests.proxy_adapters.test_auth import attempt, wanted
from tests.proxy_adapters.test_open import OK, hear

__all__ = ["dead", "lab", "member", "realm", "secure_web", "web"]

ALICE = Login(user="alice", password=Secret.literal("s3cret"), mutual=True)

PROOFS: dict[str, tuple[Callable[[bytes], str], str]] = {
    "RFC 4559": (lambda token: f"Proxy-Authenticate: Negotiate {b64encode(token).decode()}", ""),
    "as info": (lambda token: f"Proxy-Authentication-Info: Negotiate {b64encode(token).decode()}", ""),
    "none": (lambda token: "Via: 1.1 squid", "there is no token in its answer"),
    "nonsense": (lambda token: "Proxy-Authenticate: Negotiate YIIGAAAA", "the proxy's token makes no sense"),
    "no base64": (lambda token: "Proxy-Authenticate: Negotiate A", "the proxy's token makes no sense"),
}


@pytest.mark.parametrize("proof", PROOFS)
async def test_kerberos_proves_the_proxy_with_its_last_token(
    member: Kerberos, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    said, why = PROOFS[proof]

    async def serve(stream: trio.SocketStream) -> None:
        await hear(stream, b"\r\n\r\n")
        await stream.send_all(wanted("Negotiate"))
        request = (await hear(stream, b"\r\n\r\n")).decode()
        token = request.partition("Proxy-Authorization: Negotiate ")[2].partition("\r\n")[0]
        last = Acceptor().step(b64decode(token))
        await stream.send_all(f"HTTP/1.1 200 OK\r\n{said(last)}\r\n\r\n".encode())

    monkeypatch.setenv("KRB5_KTNAME", str(member.keytab))
    monkeypatch.setenv("KRB5RCACHENAME", "none:")
    await trio.to_thread.run_sync(member.kinit)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    url = ProxyURL("http", "localhost", listeners[0].socket.getsockname()[1])
    for mutual in (False, True):
        way = Route((Hop(url, Login(mutual=mutual)),))
        if mutual and why:
            with pytest.raises(AuthenticationFailed, match=f"did not authenticate itself: {why}"):
                await open_tunnel("t.test", 1, route=way, memory=Memory())
        else:
            await (await open_tunnel("t.test", 1, route=way, memory=Memory())).aclose()


def test_schemes_that_prove_nothing_of_the_proxy_are_not_used() -> None:
    with pytest.raises(AuthenticationFailed, match=r"offers basic, ntlm - none of which allows mutual authentication"):
        attempt(ALICE, wanted("Basic", "NTLM"))


def test_a_proxy_that_does_not_even_ask_has_proved_nothing() -> None:
    with pytest.raises(
        AuthenticationFailed, match="did not authenticate itself: it did not even ask for authentication"
    ):
        attempt(ALICE, OK)


@pytest.mark.parametrize("scheme", ["socks5h", "socks4a"])
async def test_socks_proves_itself_by_gssapi_or_not_at_all(scheme: str) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        return trio.testing.memory_stream_pair()[0]

    with pytest.raises(TunnelRefused, match="mutual authentication"):
        await open_tunnel("t", 1, route=Route((Hop(ProxyURL(scheme, "p", 1), ALICE),)), dial=dial)
