"""Whatever a proxy, a PAC file or a person writes: a result or one of our errors, in bounded time and memory."""

from __future__ import annotations

import contextlib
import tracemalloc
from base64 import b64decode, b64encode
from urllib.parse import quote

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_adapters import Login, Memory, NoRoute, ProxyURL, Route, Secret, TunnelError
from proxy_adapters.auth.challenge import MAXIMUM_CHALLENGES, parse_challenges
from proxy_adapters.gssapi import GSSError, Initiator
from proxy_adapters.handshake import Hear, Player, Redial, Script, Work
from proxy_adapters.http_connect import MAXIMUM_DRAINED_BYTES, MAXIMUM_HEAD_BYTES, http_connect
from proxy_adapters.no_proxy import match_no_proxy
from proxy_adapters.pac import MEMORY_BYTES, PAC, run_script
from proxy_adapters.route import environment_route
from proxy_adapters.socks4 import socks4
from proxy_adapters.socks5 import socks5, socks5_with
from proxy_adapters.url import normal_host
from tests.proxy_adapters.beds.conftest import dead, lab, member, realm, secure_web, web
from tests.proxy_adapters.beds.proxies import Kerberos
from tests.proxy_adapters.test_auth import TYPE_2
from tests.proxy_adapters.test_dial import Names

__all__ = ["dead", "lab", "member", "realm", "secure_web", "web"]

PROXY = ProxyURL.parse("http://proxy.test:3128")
# Without Kerberos: what the system's library makes of tokens is asked for below, with a KDC at hand.
SCHEMES = ("digest-sha-256", "ntlm", "negotiate-ntlm", "bearer", "digest-md5", "basic")
ALICE = Login(user="alice", password=Secret.literal("s3cret"), token=Secret.literal("t0ken"), schemes=SCHEMES)

#: A handshake that is told more than this, and still is not over, goes on for ever.
MAXIMUM_STEPS = 500


def feed(script: Script[None], parts: list[bytes]) -> None:
    """Say `parts` to the script, then nothing more, until it ends. What our errors say of it is ended with it."""
    waiting = list(parts)
    with contextlib.suppress(TunnelError):
        player = Player(script)
        for _ in range(MAXIMUM_STEPS + len(parts)):
            match player.step:
                case None:
                    return
                case Hear():
                    player.receive(waiting.pop(0) if waiting else b"")
                case Redial():
                    player.redialled()
                case Work() as step:
                    try:
                        result = step.function()
                    except Exception as error:  # as the driver does it
                        player.fail(error)
                    else:
                        player.advance(result)
                case _:
                    player.advance()
        raise AssertionError("it does not end")


@st.composite
def split(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> list[bytes]:
    data = draw(whole)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=8)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [part for part in parts if part]


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """Some of its bytes replaced, left out or added to."""
    data = bytearray(draw(originals))
    for _ in range(draw(st.integers(0, 6))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


# -- HTTP proxies

_NTLM = st.one_of(mutated(st.just(b64decode(TYPE_2))), st.binary(max_size=80)).map(lambda raw: b64encode(raw).decode())
_VALUES = st.one_of(
    st.sampled_from(
        [
            'Basic realm="x"',
            "NTLM",
            "Negotiate",
            "Bearer",
            'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256',
            'Digest realm="r", nonce="m", stale=true',
            'Digest nonce="n", algorithm=MD5-sess, userhash=true, charset=UTF-8, qop="auth-int"',
            'Digest nonce="n", qop="auth-conf"',
        ]
    ),
    _NTLM.map(lambda token: f"NTLM {token}"),
    _NTLM.map(lambda token: f"Negotiate {token}"),
    st.text(st.characters(max_codepoint=255), max_size=60),
)
_FIELDS = st.one_of(
    _VALUES.map(lambda value: f"Proxy-Authenticate: {value}"),
    st.sampled_from(
        [
            "Connection: close",
            "Content-Length: 3",
            "Content-Length: 99999999999",
            "Content-Length: -1",
            "Transfer-Encoding: chunked",
            "Retry-After: 5",
            " folded",
            "no colon",
            "Location: http://portal/",
        ]
    ),
)
_BODIES = st.one_of(
    st.sampled_from([b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"fffffffff\r\n", b"<title>x"]), st.binary()
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    status = draw(st.sampled_from([100, 101, 200, 302, 400, 401, 403, 404, 407, 407, 407, 429, 503]))
    lines = [f"HTTP/1.{draw(st.integers(0, 1))} {status} x", *draw(st.lists(_FIELDS, max_size=4)), "", ""]
    return "\r\n".join(lines).encode("latin-1") + draw(_BODIES)


_CONVERSATIONS = st.lists(answers(), max_size=6).map(b"".join)


@given(split(st.one_of(_CONVERSATIONS, mutated(_CONVERSATIONS), st.binary(max_size=300))), st.booleans())
def test_an_http_proxy_may_say_anything_in_any_pieces(parts: list[bytes], mutual: bool) -> None:
    login = Login(user="alice", password=ALICE.password, token=ALICE.token, schemes=SCHEMES, mutual=mutual)
    feed(http_connect("t", 1, proxy=PROXY, login=login, memory=Memory()), parts)


@given(mutated(st.just(b64decode(TYPE_2))))
def test_any_challenge_of_ntlm_is_answered_or_left(token: bytes) -> None:
    asked = b"HTTP/1.1 407 x\r\nProxy-Authenticate: %b\r\nContent-Length: 0\r\n\r\n"
    for word in (b"NTLM", b"Negotiate"):
        parts = [asked % word, asked % (word + b" " + b64encode(token)), b"HTTP/1.1 200 x\r\n\r\n"]
        feed(http_connect("t", 1, proxy=PROXY, login=ALICE, memory=Memory()), parts)


@given(st.lists(_VALUES, max_size=40))
def test_any_fields_are_a_bounded_list_of_challenges(values: list[str]) -> None:
    assert len(parse_challenges(values)) <= MAXIMUM_CHALLENGES


@pytest.mark.parametrize(
    "endless",
    [
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000,
        b"x" * 8000,
        b"\r\n" * 4000,
        b"HTTP/1.1 100 x\r\n\r\n" * 400,
        b"1\r\na\r\n" * 1000,
        b"<p>" * 3000,
    ],
)
@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 403 x\r\nContent-Length: 262143\r\n\r\n",
        b"HTTP/1.1 403 x\r\n\r\n",
    ],
)
def test_a_proxy_that_never_stops_talking_is_not_listened_to_for_ever(head: bytes, endless: bytes) -> None:
    heard = 0

    def talk() -> None:
        nonlocal heard
        player = Player(http_connect("t", 1, proxy=PROXY, login=Login(), memory=Memory()))
        said = head
        while player.step is not None:
            if isinstance(player.step, Hear):
                said, data = endless, said or endless
                heard += len(data)
                player.receive(data)
            else:
                player.advance()

    tracemalloc.start()
    with contextlib.suppress(TunnelError):
        talk()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert heard <= MAXIMUM_HEAD_BYTES + MAXIMUM_DRAINED_BYTES + 2 * len(endless)
    assert peak < 4_000_000


# -- SOCKS proxies

_SOCKS5 = st.one_of(
    st.binary(max_size=40),
    st.tuples(
        st.sampled_from([b"\x05\x00", b"\x05\x02", b"\x05\x02\x01\x00", b"\x05\xff"]), st.binary(max_size=40)
    ).map(b"".join),
    mutated(st.just(b"\x05\x02\x01\x00\x05\x00\x00\x03\x09proxy.testzz")),
)


@given(split(_SOCKS5), st.booleans())
def test_a_socks5_proxy_may_say_anything_in_any_pieces(parts: list[bytes], known: bool) -> None:
    if known:
        feed(socks5_with(ALICE, PROXY, Memory(), "t", 1), parts)
    else:
        feed(socks5("t", 1), parts)


@given(split(st.one_of(st.binary(max_size=20), mutated(st.just(b"\x00\x5a" + bytes(6))))))
def test_a_socks4_proxy_may_say_anything_in_any_pieces(parts: list[bytes]) -> None:
    feed(socks4("t.test", 1), parts)


# -- Kerberos


def test_any_token_is_an_answer_or_an_error_of_the_library(member: Kerberos) -> None:
    member.kinit()

    @settings(suppress_health_check=[HealthCheck.nested_given])
    @given(
        st.one_of(
            st.binary(max_size=200), mutated(st.just(bytes.fromhex("a1143012a0030a0100a10b06092a864886f712010202")))
        )
    )
    def any_token(token: bytes) -> None:
        for service in ("HTTP@localhost", "HTTP/localhost@"):
            context = Initiator(service)
            assert context.step(b"")
            with contextlib.suppress(GSSError):
                context.step(token)
                assert not context.mutual, "nobody can prove that by chance"

    any_token()


# -- PAC files

SCRIPTS = [
    """function FindProxyForURL(url, host) {
      if (isPlainHostName(host) || dnsDomainIs(host, ".corp.test") || host == "127.0.0.1") return "DIRECT";
      if (isInNet(dnsResolve(host), "10.0.0.0", "255.0.0.0")) return "PROXY a.test:3128; DIRECT";
      return "PROXY p1.test:8080; PROXY p2.test:8080; SOCKS5 s.test:1080";
    }""",
    """var hosts = ["a.test", "b.test"];
    function hash(text) { var sum = 0; for (var i = 0; i < text.length; i++) sum = (sum * 31 + text.charCodeAt(i)) % 97;
      return sum; }
    function FindProxyForURL(url, host) {
      if (shExpMatch(url, "https://*.bank.test/*")) return "HTTPS secure.test:443";
      if (weekdayRange("MON", "FRI") && timeRange(8, 18)) return "PROXY " + hosts[hash(host) % 2] + ":3128";
      return /^(\\w+\\.)+local$/.test(host) ? "DIRECT" : "PROXY " + myIpAddress() + ":1";
    }""",
    "function FindProxyForURLEx(u) { for (var k in this) if (isResolvableEx(k)) return k; return 'PROXY ' + u; }",
    "function f(n) { return n ? f(n - 1) + 'PROXY x:1;' : ''; } function FindProxyForURL() { return f(1000); }",
    "function FindProxyForURL() { var s = 'PROXY a:1;'; for (var i = 0; i < 22; i++) s += s; return s; }",
    "function FindProxyForURL() { while (true) { try { dnsResolve('x' + Math.random()); } catch (e) {} } }",
]
_SCRIPTS = st.one_of(
    st.text(max_size=60),
    mutated(st.sampled_from([one.encode() for one in SCRIPTS])).map(lambda raw: raw.decode("latin-1")),
)
# A script that does not end by itself costs its second, so there are fewer of them.
fewer = settings(max_examples=max(10, settings().max_examples // 5), deadline=None)


@fewer
@given(_SCRIPTS)
def test_any_script_is_a_text_or_a_runtime_error(text: str) -> None:
    with contextlib.suppress(RuntimeError):
        answer, needed = run_script(text, "https://h.test/", "h.test", {}, ("10.0.0.5",))
        assert len(answer) < MEMORY_BYTES
        assert len(needed) <= 20


@fewer
@given(_SCRIPTS)
async def test_any_pac_file_is_a_list_of_routes_or_no_route(text: str) -> None:
    trio.socket.set_custom_hostname_resolver(Names({"h.test": ["10.1.2.3"]}))
    with contextlib.suppress(NoRoute):
        routes = await PAC("data:," + quote(text)).routes("h.test", 443, "https")
        assert 0 < len(routes) < 5000


# -- What people write

_HOSTS = st.one_of(
    st.sampled_from(["a.test", "10.1.2.3", "::1", "fd00::1", "ü.test", "1.2.3.4.5", "[::1]"]), st.text(max_size=30)
)
_ENTRIES = st.lists(
    st.one_of(
        st.sampled_from(
            ["*", ".test", "10.0.0.0/8", "::/0", "[::1]:1", "127.*", "<local>", "a.test:1", "*.*.*", "/", ":1"]
        ),
        st.text(max_size=20),
    ),
    max_size=8,
).map(",".join)


@given(_HOSTS, st.integers(1, 65535), _ENTRIES)
def test_any_no_proxy_is_an_entry_or_none(host: str, port: int, entries: str) -> None:
    try:
        normal_host(host)
    except ValueError:
        return
    found = match_no_proxy(host, port, entries)
    assert found is None or found in entries


def test_a_pattern_of_many_stars_does_not_take_for_ever() -> None:
    assert match_no_proxy("a" * 60 + ".test", 1, "*a" * 30 + "*b") is None


@given(
    st.one_of(
        st.text(max_size=60),
        mutated(st.just(b"socks5h://al%40ice:pw@[::1]:1080/ -> http://b:3128")).map(lambda raw: raw.decode("latin-1")),
    )
)
def test_any_way_is_a_route_or_a_value_error_without_its_secret(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert str(Route.parse(text))
    with contextlib.suppress(ValueError):
        environment_route("h.test", 443, scheme="https", environ={"https_proxy": text, "no_proxy": text})
