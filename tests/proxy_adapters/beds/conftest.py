"""The beds as fixtures. Each is started once, when the first test asks for it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trustme

from proxy_adapters import Route, Router, open_tunnel
from proxy_adapters.auth.login import Memory
from tests.conftest import Pki
from tests.programs import free_port
from tests.proxy_adapters.beds import proxies
from tests.proxy_adapters.beds.bed import program, target
from tests.proxy_adapters.beds.proxies import Kerberos, Lab, Proxy, Squid


@pytest.fixture(scope="session")
def web() -> Iterator[int]:
    with target() as port:
        yield port


@pytest.fixture(scope="session")
def secure_web(pki: Pki) -> Iterator[int]:
    with target(pki.server_context()) as port:
        yield port


@pytest.fixture(scope="session")
def dead() -> int:
    """A port on which nothing listens."""
    return free_port()


@pytest.fixture(scope="session")
def lab(pki: Pki, web: int, secure_web: int, dead: int) -> Iterator[Lab]:
    with Lab(pki, [web, secure_web, dead]) as opened:
        yield opened


@pytest.fixture
def proxy(name: str, lab: Lab) -> Proxy:
    """The bed that a test is parametrised with. (Asked for in a test that is a task of Trio's, a program that is
    missing would skip it without a reason.)
    """
    return lab.open(name)


@pytest.fixture
def get(web: int) -> Callable[..., object]:
    """Open a tunnel to the web server by `route` and fetch its page through it; returns the trail."""

    async def fetch(route: Route | Router | str, *, port: int = web, **options: object) -> list[str]:
        options.setdefault("memory", Memory())
        with trio.fail_after(30):
            tunnel = await open_tunnel("127.0.0.1", port, route=route, **options)  # type: ignore[arg-type]  # options are the test's
            async with tunnel:
                await tunnel.send_all(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                # Not to the end: who inspects TLS may leave without a word, which is an error.
                while b"\r\n\r\nhello " not in answer and (data := await tunnel.receive_some()):
                    answer += data
            assert answer.endswith(b"\r\n\r\nhello "), answer
            return tunnel.trail

    return fetch


def curl(*arguments: str) -> int:
    """curl's exit code for the same errand; 56 means that the proxy's answer was no tunnel."""
    command = [program("curl"), "-sS", "-o", os.devnull, "--max-time", "20", "--proxytunnel", *arguments]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode


@pytest.fixture
def no_realm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process belongs to no realm, whatever the machine does."""
    for name, value in proxies.no_realm(tmp_path).items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def realm(lab: Lab) -> Kerberos:
    return lab.realm


@pytest.fixture
def member(realm: Kerberos, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kerberos]:
    """This process becomes a member of the realm, without a ticket."""
    for name, value in realm.env.items():
        monkeypatch.setenv(name, value)
    realm.forget()
    yield realm
    realm.forget()


# Those which several tests ask for by name; `proxy` is any.


@pytest.fixture(scope="session")
def squid_basic(lab: Lab) -> Squid:
    return lab.squid("squid_basic")


@pytest.fixture(scope="session")
def squid_digest(lab: Lab) -> Squid:
    return lab.squid("squid_digest")


@pytest.fixture(scope="session")
def squid_ntlm(lab: Lab) -> Squid:
    return lab.squid("squid_ntlm")


@pytest.fixture(scope="session")
def squid_open(lab: Lab) -> Squid:
    return lab.squid("squid_open")


@pytest.fixture(scope="session")
def squid_tls(lab: Lab) -> Squid:
    return lab.squid("squid_tls")


@pytest.fixture(scope="session")
def squid_kerberos(lab: Lab) -> Squid:
    return lab.squid("squid_kerberos")


@pytest.fixture(scope="session")
def squid_all_four(lab: Lab) -> Squid:
    return lab.squid("squid_all_four")


@pytest.fixture(scope="session")
def squid_inspecting(lab: Lab) -> Squid:
    return lab.squid("squid_inspecting")


@pytest.fixture(scope="session")
def inspector(lab: Lab) -> trustme.CA:
    return lab.inspector
