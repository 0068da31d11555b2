"""What the messages say of carriers that are made of plain HTTP requests, for networks that block WebSocket.

Each request is a POST to a path of its own, so that no cache knows it, and what is in it stands in its body, so that no
proxy has to like a header field of ours. A body begins with a line, in ASCII; bytes of the session may follow it.

    poll ID {…}             opens a carrier of bounded requests; the answer is a line {…}
    up ID OFFSET            bytes of the session, from OFFSET on; the answer is a line: how many have been taken
    down ID NUMBER OLDEST HOLD    asks for bytes of the session, for HOLD seconds at the most
    close ID CODE REASON    good-bye (a close code of RFC 6455, 7.4.1)

    data OFFSET             the answer to `down`: bytes of the session follow, or none
    end OFFSET CODE REASON  the answer to `down`: good-bye, behind OFFSET bytes
    gone                    the answer to all of them: that carrier is not here (any more)

    stream ID {…}           opens a carrier of two endless bodies; the answer is a line {…} and the session's bytes
    stream-up ID            the other half: the session's bytes follow

ID is 128 random bits that the client draws: who does not know them can't join in, and credentials are asked for with
each request all the same. OFFSET counts bytes of the carrier, each way from 0. A request that was repeated, by
whomever, does no harm: what came before is dropped by its offset, and a `down` with the same NUMBER gets the same
answer. OLDEST is the lowest number that is still to be answered; answers before that one have come.
"""

from __future__ import annotations

import re
import secrets
from typing import Final, NamedTuple
from urllib.parse import quote

import msgspec

from engine.errors import UNREADABLE, HTTPError, RemoteProtocolError
from engine.wire import owner
from engine.wire.piko import endpoint_of_segment

UPSTREAM_PATH: Final = "/trioduct/v1/upstream/"
PROBE_PATH: Final = UPSTREAM_PATH + "probe/"  # for a session that only measures, and for a WebSocket of that kind
TCP_PATH: Final = "/_trioduct/v1/tcp/"
MAX_LINE: Final = 1024
MAX_UP: Final = 512 * 1024  # bytes of the session in one request; nginx takes bodies of 1 MiB
MAX_DOWN: Final = 1024 * 1024  # in one answer
MAX_BODY: Final = MAX_LINE + MAX_UP
HOLD_SECONDS: Final = 20
GONE: Final = b"gone"

_PATH = re.compile(
    rb"(/trioduct/v1/upstream/(?:probe/)?|/_trioduct/v1/tcp/)([^/?]+)/(?:(%b)\.)?[0-9a-f]+(?:\?.*)?" % owner.ANY,
    re.DOTALL,
)


class Hello(msgspec.Struct):
    """What opens a carrier: a wish for a session (see resumption), and what its sender understands."""

    session: str = ""
    summaries: bool = False

    def __repr__(self) -> str:
        return f"Hello(summaries={self.summaries})"  # the session's name is a secret


class Welcome(msgspec.Struct):
    """The answer: what became of the wish, where clients reach the node, which node or worker it is, whether it
    keeps to what was said of visitors, whether it tells who clients are, and whether the
    endpoint has the domains that were claimed.
    """

    session: str = ""
    public_url: str = ""
    owner: str = ""  # the tag of the node that has the session, if there are several
    workers: str = ""  # and which of how many workers (see workers)
    visitors: bool = False
    clients: bool = False
    domains: bool = False

    def __repr__(self) -> str:
        return f"Welcome(public_url={self.public_url!r})"  # the session's name is a secret


class Open(NamedTuple):
    """`poll` or `stream`."""

    kind: str
    id: bytes
    hello: Hello

    def __repr__(self) -> str:
        return f"Open({self.kind})"  # this and the following don't show the id: it is a secret


class Up(NamedTuple):
    id: bytes
    offset: int

    def __repr__(self) -> str:
        return f"Up(offset={self.offset})"


class Down(NamedTuple):
    id: bytes
    number: int
    oldest: int
    hold_seconds: int

    def __repr__(self) -> str:
        return f"Down(number={self.number}, oldest={self.oldest}, hold_seconds={self.hold_seconds})"


class Close(NamedTuple):
    id: bytes
    code: int
    reason: str

    def __repr__(self) -> str:
        return f"Close(code={self.code}, reason={self.reason!r})"


class StreamUp(NamedTuple):
    id: bytes

    def __repr__(self) -> str:
        return "StreamUp()"


Request = Open | Up | Down | Close | StreamUp


class Data(NamedTuple):
    """Bytes from `offset` on follow."""

    offset: int


class End(NamedTuple):
    """Good-bye, behind the byte before `offset`: answers that bring those may be under way still."""

    offset: int
    farewell: str


def path(base: str, endpoint: str, tag: bytes = b"") -> str:
    """A path that was never asked for before; `base` is one of those above, `tag` tells the owner (see owner)."""
    mark = tag.decode() + "." if tag else ""
    return f"{base}{quote(endpoint, safe='')}/{mark}{secrets.token_hex(8)}"


def tag_of(target: bytes) -> bytes:
    """The tag that a request for this target has; empty if it has none, or is below none of the bases."""
    match = _PATH.fullmatch(target)
    return match[3] or b"" if match else b""


def new_id() -> bytes:
    return secrets.token_hex(16).encode()


def endpoint_of(target: bytes, base: str) -> str | None:
    """The endpoint that a request for this target is about; None if the target is not below `base`."""
    match = _PATH.fullmatch(target)
    if match is None or match[1] != base.encode():
        return None
    return endpoint_of_segment(match[2])


_ID = rb"([0-9a-f]{32})"
_OPEN = re.compile(rb"(poll|stream) " + _ID + rb" (\{.*\})")
_UP = re.compile(rb"up " + _ID + rb" (\d{1,18})", re.ASCII)
_DOWN = re.compile(rb"down " + _ID + rb" (\d{1,15}) (\d{1,15}) (\d{1,2})", re.ASCII)
_CLOSE = re.compile(rb"close " + _ID + rb" (\d{4}) ([ -~]{0,200})", re.ASCII)
_STREAM_UP = re.compile(rb"stream-up " + _ID)
_DATA = re.compile(rb"data (\d{1,18})", re.ASCII)
_END = re.compile(rb"end (\d{1,18}) ([ -~]{0,200})", re.ASCII)
_TAKEN = re.compile(rb"(\d{1,18})\n", re.ASCII)


def line_end(body: bytes | bytearray) -> int:
    """Where the first line of a body ends, behind its LF; -1 if that has not come. HTTPError if it is too long."""
    start = bytes(body[: MAX_LINE + 1])
    end = start.find(b"\n") + 1
    if not end and len(start) > MAX_LINE:
        raise HTTPError(400, f"expected a line of at most {MAX_LINE} bytes")
    return end or -1


def parse_request(line: bytes) -> Request:
    """The first line of a request's body, with its LF. Raises HTTPError."""
    line = line[:-1]
    if match := _UP.fullmatch(line):
        return Up(match[1], int(match[2]))
    if match := _DOWN.fullmatch(line):
        return Down(match[1], int(match[2]), int(match[3]), int(match[4]))
    if match := _STREAM_UP.fullmatch(line):
        return StreamUp(match[1])
    if match := _CLOSE.fullmatch(line):
        return Close(match[1], int(match[2]), match[3].decode())
    if match := _OPEN.fullmatch(line):
        try:
            return Open(match[1].decode(), match[2], msgspec.json.decode(match[3], type=Hello))
        except UNREADABLE as error:
            raise HTTPError(400, "expected the JSON of a hello") from error
    raise HTTPError(400, "expected a message of a carrier")


def parse_answer(line: bytes) -> Data | End | None:
    """The first line of the answer to `down`, with its LF; None if the carrier is gone. Raises RemoteProtocolError."""
    line = line[:-1]
    if match := _DATA.fullmatch(line):
        return Data(int(match[1]))
    if match := _END.fullmatch(line):
        return End(int(match[1]), match[2].decode())
    if line == GONE:
        return None
    raise RemoteProtocolError("expected the answer of a carrier")


def parse_taken(answer: bytes) -> int | None:
    """The answer to `up`; None if the carrier is gone. Raises RemoteProtocolError."""
    if match := _TAKEN.fullmatch(answer):
        return int(match[1])
    if answer == GONE + b"\n":
        return None
    raise RemoteProtocolError("expected how much has been taken")


def parse_welcome(line: bytes) -> Welcome:
    """The first line of the answer to `poll` or `stream`. Raises RemoteProtocolError."""
    try:
        return msgspec.json.decode(line, type=Welcome)
    except UNREADABLE as error:
        raise RemoteProtocolError("expected the JSON of a welcome") from error


def encode_open(kind: str, id: bytes, hello: Hello) -> bytes:
    return b"%b %b %b\n" % (kind.encode(), id, msgspec.json.encode(hello))


def encode_up_stream(id: bytes) -> bytes:
    return b"stream-up %b\n" % id


def encode_up(id: bytes, offset: int) -> bytes:
    return b"up %b %d\n" % (id, offset)


def encode_down(id: bytes, number: int, oldest: int, hold_seconds: int) -> bytes:
    return b"down %b %d %d %d\n" % (id, number, oldest, hold_seconds)


def encode_close(id: bytes, code: int, reason: str) -> bytes:
    return b"close %b %04d %b\n" % (id, code, printable(reason))


def encode_taken(count: int) -> bytes:
    return b"%d\n" % count


def encode_data(offset: int, data: bytes) -> bytes:
    return b"data %d\n%b" % (offset, data)


def encode_end(offset: int, code: int, reason: str) -> bytes:
    return b"end %d %04d %b\n" % (offset, code, printable(reason))


def encode_welcome(welcome: Welcome) -> bytes:
    return msgspec.json.encode(welcome) + b"\n"


def printable(reason: str) -> bytes:
    return re.sub(rb"[^ -~]", b"?", reason.encode())[:190]
