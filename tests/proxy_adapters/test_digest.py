"""Digest (RFC 7616) against a proxy that works it out for itself, with curl beside ours as a second opinion."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.request import parse_http_list, parse_keqv_list

import pytest
import trio

from proxy_adapters import AuthenticationFailed, Hop, Login, Memory, ProxyURL, Route, Secret, open_tunnel
from tests.proxy_adapters.test_open import hear

USER, PASSWORD, REALM = "alice", "s3cret, or not", "Digest Lab"
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


@dataclass
class DigestProxy:
    """Demands Digest as it is told to, verifies it by the letter of RFC 7616, and is the destination as well."""

    algorithm: str = "SHA-256"  # "": says none, which means MD5
    qop: str = "auth"
    userhash: bool = False
    charset: bool = False
    user: str = USER
    says: Callable[[str], str] = lambda rspauth: f'rspauth="{rspauth}"'  # of itself, with its yes
    refused: list[str] = field(default_factory=list)
    accepted: list[dict[str, str]] = field(default_factory=list)
    _nonces: dict[str, tuple[int, str]] = field(default_factory=dict)  # the last count, the first cnonce

    async def serve(self, stream: trio.abc.Stream) -> None:
        while True:
            request = (await hear(stream, b"\r\n\r\n")).decode()
            method, target = request.split(" ")[:2]
            assert method == "CONNECT"
            lines = [line for line in request.split("\r\n") if line.lower().startswith("proxy-authorization: ")]
            said = parse_keqv_list(parse_http_list(lines[0].partition(" ")[2].partition(" ")[2])) if lines else {}
            why = self._refusal(said, target)
            if not why:
                break
            self.refused.append(why)
            await stream.send_all(self._challenge().encode())
        self.accepted.append(said)
        info = self.says(self._response(said, "", target))
        await stream.send_all(f"HTTP/1.1 200 OK\r\nProxy-Authentication-Info: {info}\r\n\r\n".encode())
        await hear(stream, b"\r\n\r\n")
        await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\nhello")
        await stream.aclose()

    def _challenge(self) -> str:
        nonce = secrets.token_hex(8)
        self._nonces[nonce] = 0, ""
        words = [f'realm="{REALM}"', f'nonce="{nonce}"', 'opaque="x, y"']
        words += [f'qop="{self.qop}"'] * bool(self.qop) + [f"algorithm={self.algorithm}"] * bool(self.algorithm)
        words += ["userhash=true"] * self.userhash + ["charset=UTF-8"] * self.charset
        head = f"HTTP/1.1 407 No\r\nProxy-Authenticate: Digest {', '.join(words)}\r\n"
        return head + "Content-Length: 0\r\n\r\n"

    def _refusal(self, said: dict[str, str], target: str) -> str:
        if not said:
            return "nothing said"
        if said.get("nonce") not in self._nonces:
            return "unknown nonce"
        count, first = self._nonces[said["nonce"]]
        if self.qop and int(said["nc"], 16) <= count:
            return "a count was used twice"
        self._nonces[said["nonce"]] = int(said.get("nc", "0"), 16), first or said.get("cnonce", "")
        name = self._h(f"{self.user}:{REALM}") if self.userhash else self.user
        expected = {"username": name, "realm": REALM, "uri": target, "opaque": "x, y"}
        expected |= {"algorithm": self.algorithm} if self.algorithm else {}
        expected |= {"userhash": "true"} if self.userhash else {}
        for key, value in expected.items():
            if said.get(key) != value:
                return f"{key} is {said.get(key)!r}"
        return "" if said["response"] == self._response(said, "CONNECT", target) else "wrong response"

    def _response(self, said: dict[str, str], method: str, target: str) -> str:
        a1 = self._h(f"{self.user}:{REALM}:{PASSWORD}")
        if self.algorithm.endswith("-sess"):
            a1 = self._h(f"{a1}:{said['nonce']}:{self._nonces[said['nonce']][1]}")
        a2 = self._h(f"{method}:{target}" + (f":{self._h('')}" if said.get("qop") == "auth-int" else ""))
        middle = f"{said['nc']}:{said['cnonce']}:{said['qop']}:" if self.qop else ""
        return self._h(f"{a1}:{said['nonce']}:{middle}{a2}")

    def _h(self, text: str) -> str:
        return hashlib.new(HASHES[self.algorithm.removesuffix("-sess") or "MD5"], text.encode()).hexdigest()


@asynccontextmanager
async def listening(proxy: DigestProxy) -> AsyncIterator[int]:
    async def serve(stream: trio.SocketStream) -> None:
        try:
            await proxy.serve(stream)
        except trio.BrokenResourceError:
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ours(port: int, *, user: str = USER, password: str = PASSWORD, memory: Memory, mutual: bool = False) -> None:
    login = Login(user=user, password=Secret.literal(password), mutual=mutual)
    hop = Hop(ProxyURL.parse(f"http://127.0.0.1:{port}"), login=login)
    async with await open_tunnel("t.test", 80, route=Route((hop,)), memory=memory) as tunnel:
        await tunnel.send_all(b"GET / HTTP/1.0\r\n\r\n")
        assert (await tunnel.receive_some()).endswith(b"hello")


async def curls(port: int, *, password: str = PASSWORD) -> bool:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    argv = ["curl", "-sS", "--max-time", "10", "--noproxy", "", "--proxytunnel", "-x", f"http://127.0.0.1:{port}"]
    argv += ["--proxy-digest", "-U", f"{USER}:{password}", "http://t.test/"]
    done = await trio.run_process(argv, capture_stdout=True, capture_stderr=True, check=False)
    return done.returncode == 0 and done.stdout == b"hello"


KINDS = [
    DigestProxy(algorithm=algorithm, qop=qop, userhash=userhash)
    for algorithm in ("", "MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess")
    for qop in ("auth", "auth-int, auth", "")
    for userhash in (False, True)
    if not (userhash and algorithm != "SHA-256") and (qop or not algorithm.endswith("-sess"))
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.algorithm}/{kind.qop}/{kind.userhash}")
async def test_what_is_right_passes_and_what_is_wrong_does_not(kind: DigestProxy) -> None:
    proxy = DigestProxy(kind.algorithm, kind.qop, kind.userhash)
    async with listening(proxy) as port:
        memory = Memory()
        await ours(port, memory=memory)
        await ours(port, memory=memory)
        assert proxy.refused == ["nothing said"], "the second tunnel needed no challenge"
        assert [int(said.get("nc", "0"), 16) for said in proxy.accepted] == ([1, 2] if kind.qop else [0, 0])
        with pytest.raises(AuthenticationFailed, match="refused for alice"):
            await ours(port, password="wrong", memory=Memory())
        assert proxy.refused == ["nothing said", "nothing said", "wrong response"]


async def test_an_integrity_that_is_all_there_is_covers_the_empty_body() -> None:
    async with listening(DigestProxy(qop="auth-int")) as port:
        await ours(port, memory=Memory())


async def test_a_user_beyond_ascii_is_in_utf_8() -> None:
    async with listening(DigestProxy(charset=True, userhash=True, user="Jäsøn Doe")) as port:
        await ours(port, user="Jäsøn Doe", memory=Memory())


#: What curl 7.88 computes as the RFC has it; its SHA-512-256 is SHA-256 in disguise.
CURLS = [kind for kind in KINDS if not kind.algorithm.startswith("SHA-512")]


@pytest.mark.parametrize("kind", CURLS, ids=lambda kind: f"{kind.algorithm}/{kind.qop}/{kind.userhash}")
async def test_curl_is_of_the_same_opinion(kind: DigestProxy) -> None:
    proxy = DigestProxy(kind.algorithm, kind.qop, kind.userhash)
    async with listening(proxy) as port:
        assert await curls(port), proxy.refused
        assert not await curls(port, password="wrong")
        assert proxy.refused[-1] == "wrong response"


# -- A proxy that has to prove itself (RFC 7616, 3.5)


async def test_a_proxy_that_knows_the_password_too_can_prove_it() -> None:
    async with listening(DigestProxy()) as port:
        memory = Memory()
        for _ in range(2):
            await ours(port, memory=memory, mutual=True)


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (lambda rspauth: f'rspauth="{rspauth[::-1]}"', "its rspauth is wrong"),
        (lambda rspauth: 'nextnonce="x"', "there is no rspauth"),
        (lambda rspauth: "", "there is no rspauth"),
        (lambda rspauth: f'rspauth="{rspauth}", nc=00000009', "its rspauth belongs to another request"),
        (lambda rspauth: f'rspauth="{rspauth}", cnonce="x"', "its rspauth belongs to another request"),
    ],
)
async def test_a_proof_that_is_none_is_no_tunnel_if_it_is_demanded(says: Callable[[str], str], words: str) -> None:
    async with listening(DigestProxy(says=says)) as port:
        with pytest.raises(AuthenticationFailed, match=f"did not authenticate itself: {words}") as caught:
            await ours(port, memory=Memory(), mutual=True)
        assert caught.value.leg == "proxy-auth"
        await ours(port, memory=Memory())
