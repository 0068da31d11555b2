"""A second reader of heads, to hold the first against: it matches a head as a whole, keeps nothing, and is slow.

It shares with the first one what a field's value means (framing, Connection), and nothing of how lines are found,
known and taken out.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import HTTPError
from engine.wire import piko
from engine.wire.http1 import CHUNKED, MAX_FIELDS, UNTIL_CLOSE, Fields, claims
from engine.wire.http1.grammar import absolute_target, is_host, split_lines, whole_request, whole_response
from engine.wire.http1.hop import HOP_BY_HOP, connection

_GUARDED = (piko.PREFIX, *claims.PREFIXES, *b"content-length transfer-encoding proxy-".split())


class Read(NamedTuple):
    """What a head says, and the fields that go on."""

    first: tuple[bytes | int, ...]
    body: int
    keep_alive: bool
    upgrade: bytes
    passed: Fields


def read_request(head: bytes) -> Read | None:
    """None for a head that is refused."""
    match = whole_request(head)
    if match is None:
        return None
    method, target, minor, lines = match.groups()
    fields = _fields(lines)
    lowered = [name.lower() for name, _ in fields]
    for name in lowered:
        dashed = name.replace(b"_", b"-")
        twins = {other for other in lowered if other.replace(b"_", b"-") == dashed}
        if len(twins) > 1 or (name != dashed and (dashed in claims.NAMES or dashed.startswith(_GUARDED))):
            return None
    hosts = [value for name, value in fields if name.lower() == b"host"]
    if len(hosts) > 1 or (minor == b"1" and not hosts) or method == b"CONNECT" or len(fields) > MAX_FIELDS:
        return None
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        form = absolute_target(target)
        if form is None:
            return None
        if hosts and is_host(hosts[0]) is None:
            return None
        host, path = form.groups()
        target = path if path.startswith(b"/") else b"*" if method == b"OPTIONS" and not path else b"/" + path
        fields = [(b"Host", host), *[field for field in fields if field[0].lower() != b"host"]]
        hosts = [host]
    if any(is_host(host) is None for host in hosts):
        return None
    expected = [value for name, value in fields if name.lower() == b"expect"]
    if expected and b", ".join(expected).lower() != b"100-continue" and minor == b"1":
        return None
    if minor == b"0":
        fields = [field for field in fields if field[0].lower() != b"expect"]
    try:
        return _read((method, target), fields, 10 + int(minor), 0, {b"te"})
    except HTTPError:
        return None


def read_response(head: bytes, method: bytes) -> Read | None:
    """None for a head that is refused."""
    match = whole_response(head)
    if match is None:
        return None
    minor, code, reason, lines = match.groups()
    fields = _fields(lines)
    if len(fields) > MAX_FIELDS:
        return None
    status = int(code)
    try:
        read = _read((status, reason or b""), fields, 10 + int(minor), UNTIL_CLOSE, set())
    except HTTPError:
        return None
    if status < 200 or status in (204, 304) or method == b"HEAD":
        no_length = status < 200 or status == 204
        passed = [
            (name, value)
            for name, value in read.passed
            if name.lower() != b"transfer-encoding" and not (no_length and name.lower() == b"content-length")
        ]
        return read._replace(body=0, passed=passed)
    return read._replace(keep_alive=False) if read.body == UNTIL_CLOSE else read


def _fields(lines: bytes) -> Fields:
    return [(name, value.rstrip(b" \t")) for name, value in split_lines(lines)]


def _read(first: tuple[bytes | int, ...], fields: Fields, version: int, body: int, passes: set[bytes]) -> Read:
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        low = name.lower()
        found[low] = found[low] + b", " + value if low in found else value
    coding, length = found.get(b"transfer-encoding"), found.get(b"content-length")
    if coding is not None:
        if version == 10 or length is not None or coding.lower() != b"chunked":
            raise HTTPError(400, "framing")
        body = CHUNKED
    elif length is not None:
        if not length.isdigit() or len(length) > 18:
            raise HTTPError(400, "framing")
        body = int(length)
    keep_alive, upgrade, nominated = version == 11, b"", frozenset[bytes]()
    if b"connection" in found:
        keep_alive, upgrade, nominated = connection(version, found)
    dropped = set(HOP_BY_HOP | nominated)
    if found.get(b"te") == b"trailers":
        dropped -= passes
    if body == CHUNKED:
        dropped -= {b"transfer-encoding"}
    passed = [field for field in fields if field[0].lower() not in dropped]
    return Read(first, body, keep_alive, upgrade, passed)
