"""The driver: real scripts, real TLS, fake proxies at the other end of a stream."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import ssl
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from proxy_adapters import (
    AuthenticationFailed,
    Deadlines,
    Hop,
    HopTLSError,
    HopUnreachable,
    NoRoute,
    NotAProxy,
    ProxyURL,
    Route,
    Router,
    TunnelError,
    TunnelRefused,
    open_tunnel,
)
from proxy_adapters.auth.login import Memory
from tests.conftest import Pki
from tests.proxy_adapters.tls_server import Server

Serve = Callable[[trio.abc.Stream], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n\r\n"


@asynccontextmanager
async def world(
    *servers: Serve,
) -> AsyncIterator[tuple[Callable[[str, int], Awaitable[trio.abc.Stream]], list[str]]]:
    """A `dial` whose connections are served by `servers`, one after the other, and the list of what was
    dialled.
    """
    dialled: list[str] = []
    left = list(servers)
    async with trio.open_nursery() as nursery:

        async def dial(host: str, port: int) -> trio.abc.Stream:
            dialled.append(f"{host}:{port}")
            if not left:
                raise ConnectionRefusedError(111, "Connection refused")
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(left.pop(0), theirs)
            return ours

        yield dial, dialled
        nursery.cancel_scope.cancel()


async def hear(stream: trio.abc.Stream, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = await stream.receive_some()
        if not more:
            raise trio.BrokenResourceError(f"the end came behind {data!r}")
        data += more
    return data


async def echo(stream: trio.abc.Stream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)
    await stream.aclose()


def http_proxy(answer: bytes = OK, then: Serve = echo) -> Serve:
    async def serve(stream: trio.abc.Stream) -> None:
        await hear(stream, b"\r\n\r\n")
        await stream.send_all(answer)
        await then(stream)

    return serve


def socks5_proxy(then: Serve = echo, answer: bytes = b"\x05\x00\x00\x01" + bytes(6)) -> Serve:
    async def serve(stream: trio.abc.Stream) -> None:
        assert await hear(stream, b"\x05\x01\x00") == b"\x05\x01\x00"
        await stream.send_all(b"\x05\x00")
        await stream.receive_some()
        await stream.send_all(answer)
        await then(stream)

    return serve


def behind_tls(pki: Pki, then: Serve, *, context: ssl.SSLContext | None = None) -> Serve:
    async def serve(stream: trio.abc.Stream) -> None:
        server = Server(stream)
        with contextlib.suppress(ssl.SSLError, trio.BrokenResourceError):  # a client that does not like us
            await server.start_server_tls(context or pki.server_context(), strict=False)
            await then(server)
        await server.aclose()

    return serve


async def hang_up(stream: trio.abc.Stream) -> None:
    await stream.aclose()


async def stall(stream: trio.abc.Stream) -> None:
    await trio.sleep_forever()


def route(text: str, **hop: object) -> Route:
    return Route(tuple(Hop(ProxyURL.parse(part), **hop) for part in text.split(" -> ")), "a test")  # type: ignore[arg-type]


async def assert_echoes(tunnel: trio.abc.Stream, data: bytes = b"hello") -> None:
    await tunnel.send_all(data)
    heard = b""
    while len(heard) < len(data):
        heard += await tunnel.receive_some()
    assert heard == data


# -- What works ----------------------------------------------------------------


async def test_a_tunnel_through_one_proxy_keeps_its_first_bytes_and_closes_what_is_below() -> None:
    ended = trio.Event()

    async def far_end(stream: trio.abc.Stream) -> None:
        assert await stream.receive_some() == b""
        ended.set()

    async with world(http_proxy(OK + b"early", far_end)) as (dial, dialled):
        tunnel = await open_tunnel("t.test", 443, route="http://p.test:3128", dial=dial)
        assert dialled == ["p.test:3128"]
        assert tunnel.leftover == b"early"
        assert await tunnel.receive_some(2) == b"ea"
        assert await tunnel.receive_some() == b"rly"
        assert tunnel.trail[0] == "route: http://p.test:3128 (chosen by explicit)"
        await tunnel.aclose()
        await ended.wait()


async def test_an_answer_in_single_bytes_is_an_answer() -> None:
    async def drip(stream: trio.abc.Stream) -> None:
        await hear(stream, b"\r\n\r\n")
        for byte in OK + b"early":
            await stream.send_all(bytes([byte]))

    async with world(drip) as (dial, _):
        tunnel = await open_tunnel("t.test", 443, route="http://p.test:3128", dial=dial)
        heard = b""
        while heard != b"early":
            heard += await tunnel.receive_some()


@pytest.mark.parametrize("order", ["socks5h://a:1 -> http://b:2", "http://b:2 -> socks5h://a:1"])
async def test_a_chain_is_stacked_in_the_order_given(order: str) -> None:
    asked: list[bytes] = []

    def noting(kind: str, then: Serve) -> Serve:
        async def http(stream: trio.abc.Stream) -> None:
            asked.append((await hear(stream, b"\r\n\r\n")).split(b" HTTP")[0])
            await stream.send_all(OK)
            await then(stream)

        return http if kind == "http" else socks5_proxy(then)

    kinds = ["http" if "http" in part else "socks" for part in order.split(" -> ")]
    async with world(noting(kinds[0], noting(kinds[1], echo))) as (dial, dialled):
        tunnel = await open_tunnel("t.test", 443, route=order, dial=dial)
        assert dialled == ["b:2" if kinds[0] == "http" else "a:1"]
        assert asked == [b"CONNECT a:1" if kinds[0] == "http" else b"CONNECT t.test:443"]
        await assert_echoes(tunnel)


async def test_tls_to_the_proxy_and_tls_to_the_destination_stack(pki: Pki) -> None:
    outer, inner = pki.client_context(), pki.client_context()
    far_end = behind_tls(pki, http_proxy(OK, behind_tls(pki, echo)))
    async with world(far_end) as (dial, _):
        tunnel = await open_tunnel(
            "127.0.0.1", 443, route=route("https://localhost:3128", tls=outer), tls=inner, dial=dial
        )
        assert len(tunnel.tls_layers) == 2
        await assert_echoes(tunnel, bytes(range(256)) * 2000)
        assert [line.split(", ")[0] for line in tunnel.trail[1:]] == [
            "[1] https://localhost:3128: tcp ok",
            "[1] https://localhost:3128: TLSv1.3 ok",
            "[1] https://localhost:3128: https to 127.0.0.1:443 ok",
            "[2] 127.0.0.1:443: TLSv1.3 ok",
        ]


async def test_what_comes_in_one_segment_behind_tls_and_connect_is_leftover_in_plaintext(pki: Pki) -> None:
    async def early(stream: trio.abc.Stream) -> None:
        await hear(stream, b"\r\n\r\n")
        await stream.send_all(OK + b"early")
        await trio.sleep_forever()

    async with world(behind_tls(pki, early)) as (dial, _):
        tunnel = await open_tunnel("t", 1, route=route("https://localhost:1", tls=pki.client_context()), dial=dial)
        assert tunnel.leftover == b"early"


async def test_over_tcp_the_socket_and_the_tls_layers_can_be_taken_over(pki: Pki) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, behind_tls(pki, http_proxy(OK + b"early")), listeners)
        port = listeners[0].socket.getsockname()[1]
        tunnel = await open_tunnel("t", 1, route=route(f"https://localhost:{port}", tls=pki.client_context()))
        assert tunnel.socket is not None
        taken = tunnel.detach()
        assert isinstance(taken, socket.socket)
        assert not taken.getblocking()
        assert tunnel.leftover == b"early"
        with pytest.raises(trio.ClosedResourceError):
            await tunnel.send_all(b"x")
        (layer,) = tunnel.tls_layers
        taken.send(layer.encrypt(b"hello"))
        heard = b""
        while not heard:
            await trio.lowlevel.wait_readable(taken)
            heard = layer.decrypt(taken.recv(65536))
        assert heard == b"hello"
        taken.close()
        nursery.cancel_scope.cancel()


async def test_straight_is_a_route_too_and_an_unopened_one_names_the_destination() -> None:
    async with world(echo) as (dial, dialled):
        await assert_echoes(await open_tunnel("t.test", 443, route="direct", dial=dial))
        with pytest.raises(HopUnreachable, match=r"^t.test:443: Connection refused"):
            await open_tunnel("t.test", 443, route=Router(environ=None), dial=dial)
        assert dialled == ["t.test:443"] * 2


async def test_the_environment_decides_when_nobody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://env.test:1")
    async with world(http_proxy()) as (dial, dialled):
        await open_tunnel("t.test", 443, dial=dial)
        assert dialled == ["env.test:1"]


async def test_socks5_without_h_resolves_here_and_socks4_only_to_ipv4() -> None:
    asked: list[bytes] = []

    async def socks4(stream: trio.abc.Stream) -> None:
        asked.append(bytes(await stream.receive_some()))
        await stream.send_all(b"\x00\x5a" + bytes(6))

    async def socks5(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\x05\x00")
        asked.append(bytes(await stream.receive_some()))
        await stream.send_all(b"\x05\x00\x00\x01" + bytes(6))

    async with world(socks4, socks5) as (dial, _):
        await open_tunnel("localhost", 80, route="socks4://p:1", dial=dial)
        await open_tunnel("127.0.0.1", 80, route="socks5://p:1", dial=dial)
        with pytest.raises(HopUnreachable, match=r"finds no IPv4 address of ::1"):
            await open_tunnel("::1", 80, route="socks4://p:1", dial=dial)
    assert asked == [b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50"]


# -- What fails, and in which words ----------------------------------------------


async def test_a_refused_password_is_tried_on_a_fresh_connection_and_once() -> None:
    wanted = b'HTTP/1.0 407 No\r\nProxy-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\n\r\n'
    memory = Memory()
    async with world(*[http_proxy(wanted, hang_up)] * 3) as (dial, dialled):
        for _ in range(2):
            with pytest.raises(AuthenticationFailed) as caught:
                await open_tunnel("t", 1, route="http://alice:s3cret@p:1", dial=dial, memory=memory)
            assert "s3cret" not in caught.value.report()
        assert len(dialled) == 3


async def test_every_connection_that_failed_is_closed() -> None:
    closed = 0

    async def closed_on(stream: trio.abc.Stream) -> None:
        nonlocal closed
        assert await stream.receive_some() == b""
        closed += 1

    no = b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
    async with world(http_proxy(no, closed_on), http_proxy(b"\x05\x01", closed_on)) as (dial, _):
        with pytest.raises(TunnelRefused, match=r"hop 1, http://p:1, proxy-request: it forbids t:1"):
            await open_tunnel("t", 1, route="http://p:1", dial=dial)
        with pytest.raises(NotAProxy):
            await open_tunnel("t", 1, route="http://p:1", dial=dial)
        await trio.testing.wait_all_tasks_blocked()
    assert closed == 2


@pytest.mark.parametrize(
    ("text", "server", "words"),
    [
        ("http://p:1", stall, "hop 1, http://p:1, proxy-request: no answer within 30 s - is the proxy alive?"),
        ("https://p:1", stall, "hop 1, https://p:1, proxy-tls: no TLS handshake within 10 s"),
        ("socks5h://p:1", stall, "hop 1, socks5h://p:1, proxy-request: no answer within 10 s - is it a SOCKS5 proxy?"),
        ("http://a:1 -> http://p:1", http_proxy(OK, stall), "hop 2, http://p:1, proxy-request: no answer"),
    ],
)
async def test_silence_ends_at_the_deadline_of_its_leg(
    text: str, server: Serve, words: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with world(server) as (dial, _):
        with pytest.raises(HopUnreachable) as caught:
            await open_tunnel("t", 1, route=text, dial=dial)
        assert str(caught.value).startswith(words)
        assert caught.value.retryable


async def test_a_dial_that_hangs_ends_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()
        raise AssertionError

    with pytest.raises(HopUnreachable, match="proxy-tcp: no connection within 3 s"):
        await open_tunnel("t", 1, route="http://p:1", dial=dial, deadlines=Deadlines(tcp=3))


async def test_a_page_without_an_end_is_not_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with world(http_proxy(b"HTTP/1.1 403 No\r\n\r\n<title>Blocked", stall)) as (dial, _):
        with pytest.raises(TunnelRefused, match="Blocked"):
            await open_tunnel("t", 1, route="http://p:1", dial=dial)
        assert trio.current_time() < 10_000


async def test_an_unknown_proxy_name_is_a_matter_of_dns() -> None:
    async def dial(host: str, port: int) -> trio.abc.Stream:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(HopUnreachable, match=r"proxy-dns: cannot resolve p\.invalid: Name or service not known"):
        await open_tunnel("t", 1, route="http://p.invalid:1", dial=dial)


async def test_every_address_that_refused_is_in_the_words() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(HopUnreachable, match=r"proxy-tcp: .*[Rr]efused"):
        await open_tunnel("t", 1, route=f"http://127.0.0.1:{port}")


async def test_success_before_connecting_shows_in_the_next_leg(pki: Pki) -> None:
    async with world(socks5_proxy(hang_up)) as (dial, _):
        with pytest.raises(HopUnreachable, match="target-tls: the connection was closed right after") as caught:
            await open_tunnel("t", 1, route="socks5h://p:1", tls=pki.client_context(), dial=dial)
        assert caught.value.position == 2


def context_that_wants_a_certificate(pki: Pki) -> ssl.SSLContext:
    context = pki.server_context()
    context.load_verify_locations(pki.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("untrusted", r"not issued by anyone we trust \(issuer: trustme"),
        ("wrong name", "is for another name than p.test"),
        ("expired", "has expired"),
        ("not yet", "is not valid yet"),
        ("plain", "it speaks no TLS on this port - use http://"),
        ("client certificate", "it requires a client certificate"),
        ("old", "no TLS version in common"),
        ("h2", "it chose 'h2' by ALPN"),
        ("pin", "not the pinned one: its SHA-256 is [0-9a-f]{64}"),
    ],
)
async def test_each_failure_of_tls_has_its_own_sentence(pki: Pki, case: str, words: str) -> None:
    server, client, host, pin = pki.server_context(), pki.client_context(), "localhost", None
    if case == "untrusted":
        client = ssl.create_default_context()
    elif case == "wrong name":
        host = "p.test"
    elif case in ("expired", "not yet"):
        day = timedelta(days=1)
        begin = datetime.now(UTC) + (5 * day if case == "not yet" else -5 * day)
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        pki.authority.issue_cert(host, not_before=begin, not_after=begin + day).configure_cert(server)
    elif case == "client certificate":
        server = context_that_wants_a_certificate(pki)
    elif case == "old":
        server.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
    elif case == "h2":
        server.set_alpn_protocols(["h2"])
        client.set_alpn_protocols(["h2", "http/1.1"])
    elif case == "pin":
        pin = "00" * 32
    serve = (
        http_proxy(b"HTTP/1.0 400 Bad\r\n\r\n") if case == "plain" else behind_tls(pki, http_proxy(), context=server)
    )
    if case == "plain":

        async def serve(stream: trio.abc.Stream) -> None:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    async with world(serve) as (dial, _):
        with pytest.raises(HopTLSError, match=words) as caught:
            await open_tunnel("t", 1, route=route(f"https://{host}:1", tls=client, pin=pin), dial=dial)
        assert not caught.value.retryable


@pytest.mark.parametrize("way", ["direct", "http://p:1"])
@pytest.mark.parametrize(
    ("case", "words", "who"),
    [
        ("plain", "it speaks no TLS on this port - is TLS right for it, and the port?", "you"),
        ("wrong name", "is for another name than t.test", "the administrator of the destination"),
        ("old", "no TLS version in common", "the administrator of the destination"),
    ],
)
async def test_a_failure_of_tls_with_the_destination_is_not_the_proxys(
    pki: Pki, way: str, case: str, words: str, who: str
) -> None:
    server, client = pki.server_context(), pki.client_context()
    if case == "old":
        server.minimum_version, client.maximum_version = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2

    async def plain(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    target = plain if case == "plain" else behind_tls(pki, echo, context=server)
    async with world(target if way == "direct" else http_proxy(then=target)) as (dial, _):
        with pytest.raises(
            HopTLSError, match=f"^(hop 2, )?(t.test|localhost):1(, target-tls)?: .*{re.escape(words)}"
        ) as caught:
            await open_tunnel("t.test" if case == "wrong name" else "localhost", 1, route=way, tls=client, dial=dial)
    assert caught.value.who == who
    assert "proxy URL" not in str(caught.value)


def test_it_has_a_version_which_is_that_of_the_project() -> None:
    import proxy_adapters

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert proxy_adapters.__version__ == project["version"]


async def test_the_right_pin_passes(pki: Pki) -> None:
    certificate = ssl.PEM_cert_to_DER_cert(
        pki.cert.read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    )
    pin = hashlib.sha256(certificate).hexdigest()
    async with world(behind_tls(pki, http_proxy())) as (dial, _):
        await open_tunnel("t", 1, route=route("https://localhost:1", tls=pki.client_context(), pin=pin), dial=dial)


# -- More than one way ------------------------------------------------------------


async def test_a_dead_proxy_gives_way_to_the_next_and_stays_behind() -> None:
    router = Router(["http://dead:1", "http://alive:1", "direct"], environ=None)
    async with world(http_proxy(b"\x15\x03\x01\x00\x02\x02\x46"), http_proxy(), http_proxy()) as (
        dial,
        dialled,
    ):
        await open_tunnel("t", 1, route=router, dial=dial)
        await open_tunnel("t", 1, route=router, dial=dial)
        assert dialled == ["dead:1", "alive:1", "alive:1"]


async def test_a_proxy_that_closes_in_place_of_an_answer_gives_way_too() -> None:
    async with world(hang_up, http_proxy()) as (dial, dialled):
        await open_tunnel("t", 1, route=Router(["http://a:1", "http://b:1"], environ=None), dial=dial)
        assert dialled == ["a:1", "b:1"]


async def test_a_proxy_that_says_no_does_not() -> None:
    no = http_proxy(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
    async with world(no, no, http_proxy()) as (dial, dialled):
        for on_refusal in ("stop", "next"):
            router = Router(["http://a:1", "http://b:1"], environ=None, on_refusal=on_refusal)
            with contextlib.suppress(TunnelRefused):
                await open_tunnel("t", 1, route=router, dial=dial)
        assert dialled == ["a:1", "a:1", "b:1"]


async def test_when_all_fail_each_says_of_what() -> None:
    router = Router(["http://a:1", "socks5h://b:1"], environ=None)
    async with world() as (dial, _):
        with pytest.raises(NoRoute, match=r"\[1\] hop 1, http://a:1.*\[2\] hop 1, socks5h://b:1") as caught:
            await open_tunnel("t", 1, route=router, dial=dial)
        assert [type(error) for error in caught.value.errors] == [HopUnreachable, HopUnreachable]
        assert caught.value.retryable


async def test_the_longest_pause_that_any_of_them_asks_for_is_told() -> None:
    busy = [http_proxy(b"HTTP/1.1 429 No\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n" % n) for n in (30, 90)]
    router = Router(["http://a:1", "http://b:1", "http://c:1"], environ=None, on_refusal="next")
    async with world(*busy) as (dial, _):
        with pytest.raises(NoRoute) as caught:
            await open_tunnel("t", 1, route=router, dial=dial)
    assert caught.value.retry_after_seconds == 90


async def test_a_name_that_is_none_is_a_value_error_before_anything_is_dialled() -> None:
    async with world() as (dial, dialled):
        with pytest.raises(ValueError, match="no host name"):
            await open_tunnel("a b", 1, route="http://p:1", dial=dial)
        with pytest.raises(ValueError, match="must be one of"):
            await open_tunnel("a", 1, route="gopher://p:1", dial=dial)
        assert dialled == []


def test_the_family_is_one() -> None:
    for kind in (HopUnreachable, HopTLSError, NotAProxy, TunnelRefused, AuthenticationFailed, NoRoute):
        assert issubclass(kind, TunnelError)
