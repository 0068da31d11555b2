"""The PROXY protocol, byte for byte as haproxy's text has it."""

from __future__ import annotations

import pytest

from proxy_adapters.proxy_protocol import proxy_header

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@pytest.mark.parametrize(
    ("version", "source", "destination", "header"),
    [
        (1, ("10.0.0.1", 1000), ("10.0.0.2", 3128), b"PROXY TCP4 10.0.0.1 10.0.0.2 1000 3128\r\n"),
        (1, ("fd00::1", 1, 0, 0), ("fd00::2", 2, 0, 0), b"PROXY TCP6 fd00::1 fd00::2 1 2\r\n"),
        (1, None, None, b"PROXY UNKNOWN\r\n"),
        (1, ("10.0.0.1", 1), ("fd00::2", 2), b"PROXY UNKNOWN\r\n"),
        (1, ("/tmp/socket", 1), ("10.0.0.1", 2), b"PROXY UNKNOWN\r\n"),
        (
            2,
            ("10.0.0.1", 258),
            ("10.0.0.2", 772),
            SIGNATURE + b"\x21\x11\x00\x0c\x0a\x00\x00\x01\x0a\x00\x00\x02\x01\x02\x03\x04",
        ),
        (
            2,
            ("::1", 1),
            ("fe80::2%eth0", 2),
            SIGNATURE + b"\x21\x21\x00\x24" + bytes(15) + b"\x01\xfe\x80" + bytes(13) + b"\x02\x00\x01\x00\x02",
        ),
        (2, None, None, SIGNATURE + b"\x20\x00\x00\x00"),
    ],
)
def test_the_header(
    version: int, source: tuple[str, int] | None, destination: tuple[str, int] | None, header: bytes
) -> None:
    assert proxy_header(version, source, destination) == header
