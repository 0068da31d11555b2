"""Who is calling, as a balancer in front of a port says it before anything else: HAProxy's PROXY protocol, 1 and 2.
An agent says it to a service that wants it so.

Version 1 is a line of text, version 2 begins with a signature that no other protocol begins with. Nothing is answered.
The specification is haproxy's doc/proxy-protocol.txt; a header in two spellings, or one that is no header, is refused.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from engine.errors import RemoteProtocolError
from engine.wire.addresses import as_meant

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_LINE: Final = 107  # of version 1, its CRLF included
MAX_BLOCK: Final = 4096  # of version 2, behind its first 16 bytes: addresses, and what a balancer adds (TLVs)
_HEAD: Final = 16
MOST: Final = _HEAD + MAX_BLOCK  # bytes of any header

Address = tuple[str, int]

_line = re.compile(
    rb"PROXY (?:UNKNOWN[ -~]*|TCP([46]) ([0-9a-fA-F:.]+) ([0-9a-fA-F:.]+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n"
).fullmatch


class ProxyProtocolError(RemoteProtocolError):
    """What came is not the header that was to come first."""


def header_end(data: bytes) -> int:
    """The index behind the header that begins `data`, or -1 if its end has not come yet. Raises ProxyProtocolError as
    soon as it cannot become one.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        if len(data) < _HEAD:
            return -1
        size = int.from_bytes(data[14:16], "big")
        if size > MAX_BLOCK:
            raise ProxyProtocolError(f"a PROXY header of {size} bytes, more than {MAX_BLOCK}")
        return _HEAD + size if len(data) >= _HEAD + size else -1
    if data[:6] != b"PROXY "[: len(data)]:
        raise ProxyProtocolError("expected a PROXY header")
    end = data.find(b"\n", 0, MAX_LINE) + 1
    if not end and len(data) >= MAX_LINE:
        raise ProxyProtocolError(f"a PROXY header of more than {MAX_LINE} bytes")
    return end or -1


def source(header: bytes) -> Address | None:
    """Host and port of who is calling; None if the balancer speaks for itself (a health check) or does not know.

    `header` is as cut by `header_end`. Raises ProxyProtocolError.
    """
    return _source_of_block(header) if header.startswith(SIGNATURE) else _source_of_line(header)


def encode(version: int, client: Address | None, to: Address) -> bytes:
    """The header of this version for a connection of `client` to `to`; None: of nobody's but the sender's own.

    Both ends have to be of one family: where they are not, IPv4 is written as IPv6.
    """
    if client is None:
        return b"PROXY UNKNOWN\r\n" if version == 1 else SIGNATURE + b"\x20\x00\x00\x00"
    (source, port), (destination, to_port) = client, to
    ends = [as_meant(ip_address(address.partition("%")[0])) for address in (source, destination)]
    if ends[0].version != ends[1].version:
        ends = [end if end.version == 6 else IPv6Address(f"::ffff:{end}") for end in ends]
    if version == 1:
        return f"PROXY TCP{ends[0].version} {ends[0]} {ends[1]} {port} {to_port}\r\n".encode()
    block = ends[0].packed + ends[1].packed + port.to_bytes(2, "big") + to_port.to_bytes(2, "big")
    return SIGNATURE + (b"\x21\x11" if ends[0].version == 4 else b"\x21\x21") + len(block).to_bytes(2, "big") + block


def _source_of_line(line: bytes) -> Address | None:
    match = _line(line)
    if match is None:
        raise ProxyProtocolError("expected a PROXY header of version 1")
    version, host, to, port, to_port = match.groups()
    if version is None:
        return None
    try:
        ends = ip_address(host.decode()), ip_address(to.decode())
    except ValueError:
        raise ProxyProtocolError("expected addresses in the PROXY header") from None
    if any(end.version != int(version) for end in ends) or int(port) > 65535 or int(to_port) > 65535:
        raise ProxyProtocolError("expected addresses in the PROXY header")
    return str(ends[0]), int(port)


def _source_of_block(header: bytes) -> Address | None:
    version, command = header[12] >> 4, header[12] & 15
    if version != 2 or command > 1:
        raise ProxyProtocolError(f"expected a PROXY header of version 2, got 0x{header[12]:02x}")
    block = header[_HEAD:]
    if command == 0:  # LOCAL
        return None
    if header[13] == 0x11:  # TCP over IPv4
        if len(block) < 12:
            raise ProxyProtocolError("expected addresses in the PROXY header")
        return str(IPv4Address(block[:4])), int.from_bytes(block[8:10], "big")
    if header[13] == 0x21:  # TCP over IPv6
        if len(block) < 36:
            raise ProxyProtocolError("expected addresses in the PROXY header")
        return str(as_meant(IPv6Address(block[:16]))), int.from_bytes(block[32:34], "big")
    return None  # of a Unix socket, or not known
