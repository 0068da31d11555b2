"""What whoever looks on is told: each leg as it begins and ends, and once per proxy what a person should know."""

from __future__ import annotations

import pytest
import trio

from proxy_adapters import (
    AuthenticationFailed,
    Hop,
    Login,
    Memory,
    NoRoute,
    ProxyURL,
    Route,
    Router,
    Secret,
    Seen,
    open_tunnel,
)
from tests.conftest import Pki
from tests.proxy_adapters.test_open import OK, Serve, behind_tls, echo, hang_up, hear, http_proxy, route, world

ALICE = Login(user="alice", password=Secret.literal("s3cret"))


def told(seen: list[Seen]) -> list[tuple[str, str, str]]:
    return [(one.leg, one.outcome, one.text) for one in seen if one.outcome != "begun"]


def wanted(*challenges: str, close: bool = False) -> bytes:
    lines = "".join(f"Proxy-Authenticate: {challenge}\r\n" for challenge in challenges)
    return f"HTTP/1.1 407 No\r\n{lines}{'Connection: close' if close else 'A: b'}\r\nContent-Length: 0\r\n\r\n".encode()


def answering(*answers: bytes, then: Serve = echo) -> Serve:
    async def serve(stream: trio.abc.Stream) -> None:
        for answer in answers:
            await hear(stream, b"\r\n\r\n")
            await stream.send_all(answer)
        await then(stream)

    return serve


def hearing(heard: list[bytes], *answers: bytes) -> Serve:
    """Like `answering`, and what it was asked is kept."""

    async def serve(stream: trio.abc.Stream) -> None:
        for answer in answers:
            heard.append(await hear(stream, b"\r\n\r\n"))
            await stream.send_all(answer)
        await echo(stream)

    return serve


async def test_each_leg_is_told_with_its_place_and_its_end(pki: Pki) -> None:
    seen: list[Seen] = []
    proxy = behind_tls(pki, http_proxy(OK, behind_tls(pki, echo)))
    async with world(proxy) as (dial, _):
        way = route("https://localhost:1", tls=pki.client_context())
        await open_tunnel("127.0.0.1", 2, route=way, tls=pki.client_context(), dial=dial, watch=seen.append)
    assert [(one.position, one.hop, one.leg, one.outcome) for one in seen] == [
        (position, hop, leg, outcome)
        for position, hop, leg in (
            (1, "https://localhost:1", "proxy-tcp"),
            (1, "https://localhost:1", "proxy-tls"),
            (1, "https://localhost:1", "proxy-request"),
            (2, "127.0.0.1:2", "target-tls"),
        )
        for outcome in ("begun", "ok")
    ]
    assert {one.route for one in seen} == {way}
    layer = seen[3].tls
    assert layer is not None
    assert layer.object.getpeercert(binary_form=True)
    assert seen[3].text == "TLSv1.3"
    assert seen[5].text == "a tunnel to 127.0.0.1:2"


async def test_addresses_are_those_of_a_connection_ours_last() -> None:
    seen: list[Seen] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, echo, listeners)
        port = listeners[0].socket.getsockname()[1]
        async with await open_tunnel("127.0.0.1", port, route="direct", watch=seen.append) as tunnel:
            assert tunnel.route == Route((), "explicit")
        nursery.cancel_scope.cancel()
    assert [one.leg for one in seen] == ["target-tcp"] * 2, "an address needs no DNS"
    assert seen[1].addresses == ("127.0.0.1", "127.0.0.1")


async def test_each_scheme_is_a_leg_of_its_own() -> None:
    digest, basic = 'Digest realm="r", nonce="n"', 'Basic realm="r"'
    first = answering(wanted(digest, basic), wanted(digest, basic, close=True), then=hang_up)
    memory, seen = Memory(), list[Seen]()
    hop = Hop(ProxyURL.parse("http://p:1"), login=ALICE)
    async with world(first, answering(OK), answering(OK)) as (dial, _):
        await open_tunnel("t", 2, route=Route((hop,)), dial=dial, memory=memory, watch=seen.append)
        assert told(seen) == [
            ("proxy-tcp", "ok", ""),
            ("proxy-request", "next", "407, offers digest, basic"),
            ("proxy-auth", "next", "digest-md5: refused for alice"),
            ("proxy-tcp", "ok", ""),
            ("proxy-auth", "warning", seen[-2].text),
            ("proxy-auth", "ok", "basic: accepted; a tunnel to t:2"),
        ]
        seen.clear()
        await open_tunnel("t", 2, route=Route((hop,)), dial=dial, memory=memory, watch=seen.append)
        assert told(seen) == [("proxy-tcp", "ok", ""), ("proxy-request", "ok", "basic: accepted; a tunnel to t:2")]


async def test_what_ends_it_is_told_with_its_error() -> None:
    seen: list[Seen] = []
    async with world(answering(wanted("NTLM"))) as (dial, _):
        with pytest.raises(AuthenticationFailed) as caught:
            await open_tunnel("t", 2, route="http://p:1", dial=dial, watch=seen.append)
    assert told(seen)[1:] == [
        ("proxy-request", "next", "407, offers ntlm"),
        ("proxy-auth", "next", "ntlm: no user and password given"),
        ("proxy-auth", "failed", caught.value.fact),
    ]
    assert seen[-1].error is caught.value


async def test_a_source_that_fails_is_told_as_well() -> None:
    class Nowhere:
        async def routes(self, host: str, port: int, scheme: str) -> list[Route]:
            error = NoRoute("the script failed")
            error.leg = "pac-eval"
            raise error

        def distrust(self) -> None:
            pass

    seen: list[Seen] = []
    with pytest.raises(NoRoute):
        await open_tunnel("t", 2, route=Router(pac=Nowhere(), environ=None), watch=seen.append)
    assert told(seen) == [("pac-eval", "failed", "the script failed")]


async def test_a_socks_password_is_a_leg_too_and_shows_itself() -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\x05\x02")
        await stream.receive_some()
        await stream.send_all(b"\x01\x00")
        await stream.receive_some()
        await stream.send_all(b"\x05\x00\x00\x01" + bytes(6))

    seen: list[Seen] = []
    async with world(serve) as (dial, _):
        await open_tunnel("t", 2, route="socks5h://a:b@p:1", dial=dial, watch=seen.append, memory=Memory())
    assert [(leg, outcome) for leg, outcome, _ in told(seen)] == [
        ("proxy-tcp", "ok"),
        ("proxy-request", "ok"),
        ("proxy-auth", "warning"),
        ("proxy-auth", "ok"),
        ("proxy-request", "ok"),
    ]


# -- Warnings


async def test_a_secret_in_clear_text_is_warned_about_once_per_proxy_as_soon_as_somebody_looks_on() -> None:
    memory, seen = Memory(), list[Seen]()
    first, again = answering(wanted("Basic"), OK), answering(OK)
    async with world(first, again, first, again, again) as (dial, _):
        await open_tunnel("t", 2, route="http://a:b@p:1", dial=dial, memory=memory)
        for place in ("p:1", "q:1", "p:1", "q:1"):
            await open_tunnel("t", 2, route=f"http://a:b@{place}", dial=dial, memory=memory, watch=seen.append)
    warnings = [one for one in seen if one.outcome == "warning"]
    assert [one.hop for one in warnings] == ["http://p:1", "http://q:1"]
    assert "a password or token (basic) in clear text" in warnings[0].text


@pytest.mark.parametrize("challenge", ['Digest realm="r", nonce="n"', "Basic"])
async def test_what_is_not_in_clear_text_is_not_warned_about(pki: Pki, challenge: str) -> None:
    tls = challenge == "Basic"
    serve = answering(wanted(challenge), OK)
    seen: list[Seen] = []
    async with world(behind_tls(pki, serve) if tls else serve) as (dial, _):
        way = route("https://a:b@localhost:1" if tls else "http://a:b@localhost:1", tls=pki.client_context())
        await open_tunnel("t", 2, route=way, dial=dial, memory=Memory(), watch=seen.append)
    assert "warning" not in [one.outcome for one in seen]


# -- Proxies named by a source that is not trusted


class Untrusted:
    """A PAC file that came over plain http."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def routes(self, host: str, port: int, scheme: str) -> list[Route]:
        way = Route.parse(self._text)
        return [Route(way.hops, "a PAC file", untrusted=True)]

    def distrust(self) -> None:
        pass


@pytest.mark.parametrize(
    ("login", "offers"),
    [
        (ALICE, ["Basic"]),
        (Login(token=Secret.literal("s3cret")), ["Bearer"]),
        (Login(command=Secret.literal("s3cret")), ["Custom"]),
        (ALICE, ["NTLM"]),
        (ALICE, ["Negotiate"]),
        (ALICE, ['Digest realm="r", nonce="n", qop="auth"', "Basic"]),
        (None, ["Negotiate"]),
    ],
)
async def test_a_proxy_of_an_untrusted_source_is_not_told_who_we_are(login: Login | None, offers: list[str]) -> None:
    default = Hop(ProxyURL.parse("http://any:1"), login, headers=(("X-Key", "s3cret"),))
    router = Router(pac=Untrusted("http://p.test:1"), environ=None, default=default)
    heard: list[bytes] = []
    async with world(hearing(heard, wanted(*offers))) as (dial, dialled):
        with pytest.raises(AuthenticationFailed) as caught:
            await open_tunnel("t", 2, route=router, dial=dial, memory=Memory())
        assert len(dialled) == 1
    assert caught.value.attempts == ()
    assert "add p.test to login_hosts" in caught.value.advice
    assert b"authorization" not in b"".join(heard).lower()
    assert b"X-Key" not in b"".join(heard)


@pytest.mark.parametrize(
    ("default", "warned"),
    [
        (Hop(ProxyURL.parse("http://any:1"), ALICE), 1),
        (Hop(ProxyURL.parse("http://any:1"), headers=(("X-Key", "s3cret"),)), 1),
        (Hop(ProxyURL.parse("http://any:1")), 0),
        (None, 0),
    ],
)
async def test_what_it_does_not_get_is_told_once(default: Hop | None, warned: int) -> None:
    seen: list[Seen] = []
    memory, heard = Memory(), list[bytes]()
    router = Router(pac=Untrusted("http://p.test:1"), environ=None, default=default)
    async with world(hearing(heard, OK), hearing(heard, OK)) as (dial, _):
        for _ in range(2):
            await open_tunnel("t", 2, route=router, dial=dial, memory=memory, watch=seen.append)
    warnings = [one.text for one in seen if one.outcome == "warning"]
    assert len(warnings) == warned
    assert all("add p.test to login_hosts" in warning for warning in warnings)
    assert b"s3cret" not in b"".join(heard)


async def test_headers_go_to_a_proxy_that_login_hosts_names() -> None:
    default, heard = Hop(ProxyURL.parse("http://any:1"), headers=(("X-Key", "s3cret"),)), list[bytes]()
    router = Router(pac=Untrusted("http://p.test:1"), environ=None, default=default, login_hosts=["p.test"])
    async with world(hearing(heard, OK)) as (dial, _):
        await open_tunnel("t", 2, route=router, dial=dial, memory=Memory())
    assert b"X-Key: s3cret\r\n" in b"".join(heard)


@pytest.mark.parametrize("scheme", ["socks4", "socks4a"])
async def test_a_socks_user_is_not_told_to_an_untrusted_source(scheme: str) -> None:
    heard: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        heard.append(bytes(await stream.receive_some()))
        await stream.send_all(b"\0\x5a" + bytes(6))

    router = Router(
        pac=Untrusted(f"{scheme}://p.test:1"), environ=None, default=Hop(ProxyURL.parse("http://any:1"), ALICE)
    )
    async with world(serve) as (dial, _):
        await open_tunnel("192.0.2.1", 2, route=router, dial=dial, memory=Memory())
    assert b"alice" not in b"".join(heard).lower()


async def test_login_hosts_lift_it() -> None:
    default = Hop(ProxyURL.parse("http://any:1"), ALICE)
    router = Router(pac=Untrusted("http://p.test:1"), environ=None, default=default, login_hosts=["P.test"])
    async with world(answering(wanted("Basic"), OK)) as (dial, _):
        await open_tunnel("t", 2, route=router, dial=dial, memory=Memory())


async def test_a_scheme_that_worked_there_before_is_not_shown_to_an_untrusted_source_either() -> None:
    memory, default = Memory(), Hop(ProxyURL.parse("http://any:1"), ALICE)
    known = Router(["http://p.test:1"], environ=None, default=default)
    untrusted = Router(pac=Untrusted("http://p.test:1"), environ=None, default=default)
    async with world(answering(wanted("Basic"), OK), answering(wanted("Basic"))) as (dial, _):
        await open_tunnel("t", 2, route=known, dial=dial, memory=memory)
        with pytest.raises(AuthenticationFailed):
            await open_tunnel("t", 2, route=untrusted, dial=dial, memory=memory)


async def test_a_socks_password_is_not_shown_to_an_untrusted_source() -> None:
    heard: list[bytes] = []

    async def serve(stream: trio.abc.Stream) -> None:
        heard.append(bytes(await stream.receive_some()))
        await stream.send_all(b"\x05\xff")

    router = Router(
        pac=Untrusted("socks5h://p.test:1"), environ=None, default=Hop(ProxyURL.parse("http://any:1"), ALICE)
    )
    async with world(serve) as (dial, _):
        with pytest.raises(AuthenticationFailed, match=r"add p\.test to login_hosts"):
            await open_tunnel("t", 2, route=router, dial=dial, memory=Memory())
    assert heard == [b"\x05\x01\x00"]
