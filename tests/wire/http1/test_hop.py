"""What ends at this hop and what goes on."""

from __future__ import annotations

import pytest

from engine.wire.http1 import Fields
from engine.wire.http1.hop import passable_trailers
from tests.wire.http1.heads import passed_on, refusal, request, response


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"1.1", None, True),
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"close", False),
        (b"1.1", b"Close", False),
        (b"1.1", b"keep-alive, close", False),
        (b"1.1", b", foo ,,", True),
        (b"1.0", None, False),
        (b"1.0", b"Keep-Alive", True),
        (b"1.0", b"foo, keep-alive", True),
        (b"1.0", b"keep-alive, close", False),
    ],
)
def test_keep_alive_follows_version_and_connection(version: bytes, connection: bytes | None, kept: bool) -> None:
    lines = [] if connection is None else [b"Connection: " + connection]
    assert request(*lines, first=b"GET / HTTP/" + version).keep_alive is kept
    got = response(*lines, b"Content-Length: 0", first=b"HTTP/" + version + b" 200 OK")
    assert got.keep_alive is kept


@pytest.mark.parametrize("connection", [b"a b", b"a;b", b'"a"', b"a/b", b"\xe9"])
def test_a_connection_field_that_is_no_list_of_names_is_refused(connection: bytes) -> None:
    assert refusal(b"Connection: " + connection) == 400


@pytest.mark.parametrize(
    ("connection", "upgrade", "wanted"),
    [
        (b"Upgrade", b"websocket", b"websocket"),
        (b"keep-alive, upgrade", b"WebSocket", b"WebSocket"),
        (b"upgrade", b"foo/2, bar", b"foo/2, bar"),
        (b"keep-alive", b"websocket", b""),
        (None, b"websocket", b""),
        (b"upgrade", None, b""),
        (b"upgrade", b"h2c", b""),
        (b"upgrade, HTTP2-Settings", b"H2C", b""),
        (b"upgrade", b"h2c, websocket", b"websocket"),
        (b"upgrade", b"HTTP/2.0", b""),
    ],
)
def test_an_upgrade_counts_if_connection_nominates_it(
    connection: bytes | None, upgrade: bytes | None, wanted: bytes
) -> None:
    lines = [] if connection is None else [b"Connection: " + connection]
    lines += [] if upgrade is None else [b"Upgrade: " + upgrade]
    assert request(*lines).upgrade == wanted
    assert response(*lines, first=b"HTTP/1.1 101 Switching Protocols").upgrade == wanted
    assert request(*lines, first=b"GET / HTTP/1.0").upgrade == b""


def test_an_upgrade_that_names_no_protocol_is_refused() -> None:
    assert refusal(b"Connection: upgrade", b"Upgrade: web socket") == 400


def test_several_upgrade_and_connection_fields_are_one_list() -> None:
    got = request(b"Connection: close", b"Upgrade: a", b"Connection: upgrade", b"Upgrade: b")
    assert (got.keep_alive, got.upgrade) == (False, b"a, b")


def names(fields: Fields) -> list[bytes]:
    return [name for name, _ in fields]


def test_fields_of_this_hop_are_not_passed_on() -> None:
    got = request(
        b"Connection: keep-alive, X-Private",
        b"Keep-Alive: 300",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Basic x",
        b"TE: deflate",
        b"Transfer-Encoding: chunked",
        b"Upgrade: websocket",
        b"HTTP2-Settings: x",
        b"x-private: 1",
        b"X-Public: 2",
    )
    assert passed_on(got) == [(b"Host", b"a.b"), (b"Transfer-Encoding", b"chunked"), (b"X-Public", b"2")]


def test_connection_cannot_take_away_what_is_for_the_other_end() -> None:
    kept = (
        b"Host Content-Length Content-Type Authorization Cookie X-Piko-Endpoint X-Forwarded-For Forwarded"
        b" X-Real-IP Date Cache-Control Range If-None-Match Accept-Encoding Sec-WebSocket-Key"
    ).split()
    lines = [name + b": 1" for name in kept if name not in (b"Host", b"Content-Length")]
    got = request(b"Connection: upgrade, " + b", ".join(kept), b"Upgrade: x", b"Content-Length: 1", *lines)
    assert sorted(names(passed_on(got))) == sorted(kept)


def test_the_wish_for_trailers_passes_on() -> None:
    assert (b"TE", b"trailers") in passed_on(request(b"TE: trailers", b"Connection: TE"))
    assert b"TE" not in names(passed_on(request(b"TE: trailers, deflate")))


@pytest.mark.parametrize(
    "name",
    (
        b"Content-Length Transfer-Encoding Host Authorization Cookie Set-Cookie x_piko_forward"
        b" Connection Trailer Content-Type Content_Length X-Forwarded-For Cache-Control Proxy-Authorization"
    ).split(),
)
def test_a_trailer_that_frames_routes_or_authenticates_is_dropped(name: bytes) -> None:
    block = b"A: b\r\n" + name + b": 1\r\nC: d\r\n\r\n"
    assert passable_trailers(block) == b"A: b\r\nC: d\r\n\r\n"
