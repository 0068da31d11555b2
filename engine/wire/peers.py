"""The words between two nodes (or two workers of one): how a link is opened, and how each of its streams begins.

A link is opened by an HTTP upgrade, on which both ends prove that they know the cluster's secret without saying it:

    GET /_trioduct/v1/peer          Upgrade: trioduct-peer
                                    X-Trioduct-Peer: FROM TO NONCE
    101 Switching Protocols         X-Trioduct-Peer: NONCE PROOF        (the accepting end's)
    PROOF                           (the dialling end's, 32 bytes)

FROM and TO are the two ids, percent-encoded; a nonce is 128 random bits in hex, a PROOF the HMAC-SHA256 of all of them
and of which end says it. So a proof that was overheard proves nothing a second time or to another node, and nothing
depends on clocks. Who can change what passes on the way could go on behind the proofs: where that is to be feared, the
link needs TLS.

What follows is a yamux session. Each stream begins with what it is for, in two bytes of length and a text:

- an endpoint, by its name in the accepting end's registry: all that follows is the endpoint's session's;
- with the first bit of the length set, a port and an address: all that follows is a connection to that port, which has
  come from there and belongs to a session of the accepting end (see owner);
- with that bit, `client`, an address and an endpoint: all that follows is the endpoint's session's, if its agent lets
  in who comes from there.

A stream is only ever joined to what the accepting process has itself, so nothing can go in circles.
"""

from __future__ import annotations

import hmac
import re
import secrets
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from engine.errors import HTTPError, RemoteProtocolError
from engine.wire.http1 import Fields

PATH: Final = b"/_trioduct/v1/peer"
PROTOCOL: Final = b"trioduct-peer"
FIELD: Final = b"x-trioduct-peer"
PROOF_SIZE: Final = 32
MAX_NAME: Final = 1024  # of an endpoint, in bytes
LENGTH_SIZE: Final = 2

_HANDED: Final = 0x8000
_VISIT: Final = re.compile(r"client ([^ ]+) (.+)", re.DOTALL)
_CONNECTION: Final = re.compile(r"(proxy|upstream) ([^ ]*) (\d{1,5})", re.ASCII)
_HELLO: Final = re.compile(rb"([^ ]{1,512}) ([^ ]{1,512}) ([0-9a-f]{32})")
_ANSWER: Final = re.compile(rb"([0-9a-f]{32}) ([0-9a-f]{64})")


class Hello(NamedTuple):
    """Who dials whom, and the dialling end's nonce."""

    from_id: str
    to_id: str
    nonce: bytes

    def encode(self) -> bytes:
        return b"%b %b %b" % (quote(self.from_id, safe="").encode(), quote(self.to_id, safe="").encode(), self.nonce)


def new_nonce() -> bytes:
    return secrets.token_hex(16).encode()


def hello_in(fields: Fields) -> Hello:
    """Raises HTTPError for what is none."""
    said = _said(fields)
    found = _HELLO.fullmatch(said)
    if found is None:
        raise HTTPError(400, "expected who dials whom in x-trioduct-peer")
    from_id, to_id, nonce = found.groups()
    return Hello(unquote(from_id.decode("latin-1")), unquote(to_id.decode("latin-1")), nonce)


def answer(secret: bytes, hello: Hello, nonce: bytes) -> bytes:
    """The field's value in the 101."""
    return nonce + b" " + _proof(secret, b"accepts", hello, nonce).hex().encode()


def check_answer(secret: bytes, hello: Hello, fields: Fields) -> bytes:
    """The dialling end's own proof, if the other end's holds. Raises RemoteProtocolError."""
    found = _ANSWER.fullmatch(_said(fields))
    if found is None:
        raise RemoteProtocolError("it is not a peer: no proof in its answer")
    nonce, proof = found.groups()
    if not hmac.compare_digest(_proof(secret, b"accepts", hello, nonce), bytes.fromhex(proof.decode())):
        raise RemoteProtocolError("it does not know the cluster's secret, or has another one")
    return proof_of_dialler(secret, hello, nonce)


def proof_of_dialler(secret: bytes, hello: Hello, nonce: bytes) -> bytes:
    """What the accepting end, whose nonce this is, has to be shown: PROOF_SIZE bytes."""
    return _proof(secret, b"dials", hello, nonce)


def same(shown: bytes, proof: bytes) -> bool:
    """In a time that tells nothing of where they differ."""
    return hmac.compare_digest(shown, proof)


def _proof(secret: bytes, end: bytes, hello: Hello, nonce: bytes) -> bytes:
    return hmac.digest(secret, b"trioduct-peer 1 %b %b %b" % (end, hello.encode(), nonce), "sha256")


def _said(fields: Fields) -> bytes:
    found = [value for name, value in fields if name.lower() == FIELD]
    return found[0] if len(found) == 1 else b""


class Port(StrEnum):
    """Of a node."""

    PROXY = "proxy"
    UPSTREAM = "upstream"


class Handed(NamedTuple):
    """A connection that came to `port` of another node, from `address`."""

    port: Port
    address: tuple[str, int]

    def encode(self) -> bytes:
        return _opening(f"{self.port} {self.address[0]} {self.address[1]}", _HANDED)


class Visit(NamedTuple):
    """A client that has come from `address` wants `endpoint`."""

    address: str
    endpoint: str

    def encode(self) -> bytes:
        """Raises ValueError for a name that is too long."""
        return _opening(f"client {self.address} {self.endpoint}", _HANDED)


Wanted = str | Handed | Visit
"""What a stream is for; a text is an endpoint."""


def opening(endpoint: str) -> bytes:
    """What a stream for `endpoint` begins with. Raises ValueError for a name that is too long."""
    return _opening(endpoint, 0)


def _opening(text: str, mark: int) -> bytes:
    name = text.encode()
    if not 0 < len(name) <= MAX_NAME:
        raise ValueError(f"expected a name of at most {MAX_NAME} bytes")
    return (len(name) | mark).to_bytes(LENGTH_SIZE) + name


def read_opening(data: bytes | memoryview) -> tuple[Wanted, int] | None:
    """What a stream is for, and how many bytes that took; None: more has to come. Raises RemoteProtocolError."""
    if len(data) < LENGTH_SIZE:
        return None
    size = int.from_bytes(data[:LENGTH_SIZE])
    handed, size = size & _HANDED, size & ~_HANDED
    if not 0 < size <= MAX_NAME:
        raise RemoteProtocolError(f"a name of {size} bytes")
    end = LENGTH_SIZE + size
    if len(data) < end:
        return None
    try:
        text = str(data[LENGTH_SIZE:end], "utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("a name that is not UTF-8") from None
    if not handed:
        return text, end
    if (visit := _VISIT.fullmatch(text)) is not None:
        return Visit(*visit.groups()), end
    found = _CONNECTION.fullmatch(text)
    if found is None or int(found[3]) > 65535:
        raise RemoteProtocolError("a connection to no port, or from no address")
    return Handed(Port(found[1]), (found[2], int(found[3]))), end
