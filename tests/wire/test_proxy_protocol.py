"""The PROXY protocol as a port hears it: our own writer, the specification's words, and what is none of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.wire.proxy_protocol import MAX_BLOCK, MAX_LINE, SIGNATURE, ProxyProtocolError, encode, header_end, source
from proxy_adapters.proxy_protocol import proxy_header

V4 = (("192.0.2.7", 4711), ("198.51.100.1", 443))
V6 = (("2001:db8::7", 4711), ("2001:db8::1", 443))


def read(data: bytes) -> tuple[tuple[str, int] | None, bytes] | None:
    """Who is calling, and what follows; None if there is more to come."""
    end = header_end(data)
    return None if end < 0 else (source(data[:end]), data[end:])


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("ends", [V4, V6])
def test_who_is_calling_is_read_at_any_pace(version: int, ends: tuple[tuple[str, int], tuple[str, int]]) -> None:
    header = proxy_header(version, *ends)
    for end in range(len(header)):
        assert read(header[:end]) is None
    assert read(header) == (ends[0], b"")
    assert read(header + b"\x16\x03GET /\r\n") == (ends[0], b"\x16\x03GET /\r\n")


@pytest.mark.parametrize(
    "header",
    [
        proxy_header(1, None, None),
        proxy_header(2, None, None),
        b"PROXY UNKNOWN ff:: ff:: 1 2\r\n",
        SIGNATURE + b"\x20\x11\x00\x0c" + bytes(12),  # LOCAL, whatever it says
        SIGNATURE + b"\x21\x31\x00\x00",  # a Unix socket
        SIGNATURE + b"\x21\x00\x00\x00",
    ],
)
def test_a_balancer_may_speak_for_itself(header: bytes) -> None:
    assert read(header + b"x") == (None, b"x")


def test_what_a_balancer_adds_is_passed_over() -> None:
    header = proxy_header(2, *V4)
    size = int.from_bytes(header[14:16], "big") + 5
    assert read(header[:14] + size.to_bytes(2, "big") + header[16:] + b"\x04\0\x02ab" + b"x") == (V4[0], b"x")


def test_a_mapped_address_is_told_by_its_usual_name() -> None:
    assert read(proxy_header(2, ("::ffff:192.0.2.7", 1), ("::1", 2))) == (("192.0.2.7", 1), b"")


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 65536\r\n",
        b"PROXY TCP4 192.0.2.07 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 443\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 4711 443\r\n",
        b"PROXY TCP4 evil 198.51.100.1 4711 443\r\n",
        b"PROXY " + b"x" * MAX_LINE,
        b"proxy UNKNOWN\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x0b" + bytes(11),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11" + (MAX_BLOCK + 1).to_bytes(2, "big"),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        read(data)


@given(st.one_of(st.binary(), st.binary().map(lambda tail: SIGNATURE + tail), st.binary().map(lambda t: b"PROXY " + t)))
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    try:
        found = read(data)
    except ProxyProtocolError:
        return
    assert found is None or found[0] is None or 0 <= found[0][1] < 65536


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("client", "to", "told"),
    [
        (V4[0], V4[1], V4[0]),
        (V6[0], V6[1], V6[0]),
        (V6[0], V4[1], V6[0]),
        (("::ffff:192.0.2.7", 1), V4[1], ("192.0.2.7", 1)),
        (("fe80::1%eth0", 1), V6[1], ("fe80::1", 1)),
    ],
)
def test_what_is_written_is_read(
    version: int, client: tuple[str, int], to: tuple[str, int], told: tuple[str, int]
) -> None:
    assert read(encode(version, client, to) + b"x") == (told, b"x")
    if "." not in client[0] or "." in to[0]:
        assert encode(version, *V4) == proxy_header(version, *V4)


@pytest.mark.parametrize("version", [1, 2])
def test_an_ipv4_client_of_an_ipv6_service_is_written_as_ipv6(version: int) -> None:
    header = encode(version, V4[0], V6[1])
    expected = b"PROXY TCP6 ::ffff:" if version == 1 else SIGNATURE + b"\x21\x21\x00\x24" + bytes(10) + b"\xff\xff"
    assert header.startswith(expected)
    assert header_end(header) == len(header)


@pytest.mark.parametrize("version", [1, 2])
def test_who_speaks_for_itself_says_so(version: int) -> None:
    assert encode(version, None, V4[1]) == proxy_header(version, None, None)
