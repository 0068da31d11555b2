"""What ends at this hop and what goes on to the next (RFC 9110, 7.6.1): fields, and the trailers of a body."""

from __future__ import annotations

from typing import Final

from engine.errors import HTTPError
from engine.wire import piko
from engine.wire.http1 import claims
from engine.wire.http1.defect import field_defect
from engine.wire.http1.grammar import (
    MAX_FIELDS,
    is_protocol_list,
    is_token_list,
    list_elements,
    split_lines,
    whole_lines,
)
from engine.wire.http1.message import Fields, Mark

NOTHING: Final[frozenset[bytes]] = frozenset()

# Fields that are about this connection only, and so are never passed on. Proxy-Authenticate and its kin are between a
# proxy and its client. This is a gateway, which has no such talk, and a service must not see the secret.
HOP_BY_HOP: Final = frozenset(
    b"connection keep-alive proxy-connection te transfer-encoding upgrade http2-settings"
    b" proxy-authenticate proxy-authorization proxy-authentication-info".split()
)

# What `Connection: x` cannot remove: routing, framing, credentials, and whatever the RFC defines for the other end.
# The option is there to remove fields that somebody made up for this connection.
_END_TO_END = frozenset(
    b"host authorization cookie set-cookie www-authenticate authentication-info date expires age etag"
    b" vary location last-modified allow from referer user-agent server origin range pragma warning"
    b" expect max-forwards via trailer traceparent tracestate x-request-id"
    b" link refresh alt-svc strict-transport-security retry-after".split()
)
_END_TO_END_PREFIXES = (piko.PREFIX, *b"content- cache- accept if- sec- access-control-".split())

# RFC 9110, 6.5.1: framing, routing, request modifiers, authentication, and how to read the content.
_NO_TRAILERS = HOP_BY_HOP | frozenset(
    b"host content-length content-encoding content-type content-range trailer authorization cookie"
    b" set-cookie www-authenticate authentication-info expect max-forwards cache-control pragma range age"
    b" expires date location retry-after vary warning if-match if-none-match"
    b" if-modified-since if-unmodified-since if-range".split()
)
_NO_TRAILER_PREFIXES = (piko.PREFIX, b"proxy-")


def connection(version: int, found: dict[bytes, bytes]) -> tuple[bool, bytes, frozenset[bytes]]:
    """What the Connection field decides: keep-alive, the upgrade wanted, and which fields end here besides HOP_BY_HOP.

    `found` has the deciding fields by their names in lower case, Connection among them.
    """
    option = found[b"connection"].lower()
    if option == b"keep-alive":
        return True, b"", NOTHING
    if option == b"close":
        return False, b"", NOTHING
    if is_token_list(option) is None:
        raise HTTPError(400, "expected names in Connection")
    options = frozenset(list_elements(option))
    keep_alive = b"close" not in options and (version == 11 or b"keep-alive" in options)
    # RFC 9110, 7.8: HTTP/1.0 cannot upgrade. h2c is obsolete (RFC 9113, 3.1), and would lead past every rule here.
    wanted = b""
    upgrade = found.get(b"upgrade")
    if upgrade is not None and version == 11 and b"upgrade" in options:
        if is_protocol_list(upgrade) is None:
            raise HTTPError(400, "expected protocols in Upgrade")
        protocols = list_elements(upgrade)
        wanted = b", ".join([p for p in protocols if not p.lower().startswith((b"h2c", b"http/"))])
    removable = [n for n in options if not _is_end_to_end(n)]
    return keep_alive, wanted, frozenset(removable) - HOP_BY_HOP


def _is_end_to_end(name: bytes) -> bool:
    return name in _END_TO_END or name.startswith(_END_TO_END_PREFIXES) or claims.is_claim(name)


def drop(lines: list[bytes], marks: list[Mark], nominated: frozenset[bytes], passes: tuple[bytes, ...]) -> None:
    """Take out of a head's `lines` the fields that end at this hop: those of HOP_BY_HOP but `passes`, and those that
    the Connection field has nominated.
    """
    for name, _, line in marks:
        if name in HOP_BY_HOP and name not in passes:
            lines.remove(line)
    if nominated:
        lines[1:] = [line for line in lines[1:] if line.partition(b":")[0].lower() not in nominated]


def passable_trailers(block: bytes) -> bytes:
    """What may go on of a trailer section, with its empty line."""
    if block == b"\r\n":
        return block
    match = whole_lines(block)
    if match is None:
        raise field_defect(block.split(b"\r\n"))
    fields: Fields = split_lines(match[1])
    if len(fields) > MAX_FIELDS:
        raise HTTPError(431, f"{len(fields)} trailers, more than {MAX_FIELDS}")
    kept = []
    for name, value in fields:
        low = name.lower().replace(b"_", b"-")
        if not (low in _NO_TRAILERS or low.startswith(_NO_TRAILER_PREFIXES) or claims.is_claim(low)):
            kept.append(b"%b: %b\r\n" % (name, value.rstrip(b" \t")))
    return b"".join(kept) + b"\r\n"
