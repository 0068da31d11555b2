"""The access log: one JSON line per request, cheap enough to be left on.

A request costs the engine some 50 us, and a log line rendered field by field 15 us more. So `log.Writer` renders and
writes the lines of some milliseconds together; of equal heads the line's part is made once; and of heads that differ,
the lines that come again and are public are (`http1.lines.KEPT`).
Piko's keys come first (`level`, `ts`, `subsystem`, `msg`, `request{…}`), ours behind them: who asked, for
which endpoint, the bytes each way, when the first of them came back, the worker, where a node has several, and the
trace, where there is one.

`path` is the target without its query, as in Piko: queries carry tokens. So do the queries of other URLs (Referer,
Location), which are left out as well. What is a secret among the header fields (see `secret`) is masked, whatever the
lists say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

from engine import log
from engine.secret import MASK, is_secret, is_url, without_query, without_secrets
from engine.wire.http1.lines import KEPT

_Part = tuple[bytes, bytes]  # of a JSON object: a key, and the values as the inside of an array

# Most heads are shorter than this and ASCII; only in others every value is looked at, and cut.
SHORT_BYTES = 1800
MOST_FORMS = 16  # of secrets in one value
KNOWN_HEADS = 512  # remembered as they are to be written; requests and answers repeat themselves
KNOWN_LINES = 1024  # that are public and come again (http1.lines.KEPT), as they are to be written
MOST_HELD = 8192  # bytes of heads until a line is rendered; with more, it is rendered at once, and each value is cut


class Finished(msgspec.Struct, gc=False):
    """A request that is over.

    The heads are in plain form (http1.grammar), None if there was none. `bytes_in` came from the client and `bytes_out`
    went to it; the whole took `seconds`, of which `first_byte_seconds` passed before the answer began (None: there was
    no answer). `known` stands for these very two heads whenever they come again, if there is such an object; it is held
    for a while.
    """

    proto: bytes
    method: bytes
    host: bytes
    target: bytes
    status: int
    request_head: bytes | None
    response_head: bytes | None
    known: object
    client: str
    endpoint: str
    bytes_in: int
    bytes_out: int
    first_byte_seconds: float | None
    seconds: float
    tenant: str = ""
    refused: str = ""  # why the visitor was not let in, if it was not
    trace: str = ""  # the id of its trace, if that is known

    @property
    def held(self) -> int:
        """Bytes of its heads."""
        return len(self.request_head or b"") + len(self.response_head or b"")


class AccessLog:
    """The access log of one port or listener (Piko's subsystems: "proxy.access" on a node,
    "proxy.http.access" on an agent). Where access logs are disabled there is None in its place.

    `level` is the level of an ordinary request; answers of 500 and above are warnings at least. Whether a
    level is written is the threshold of the subsystem, so `log.level: error` silences access logs, as in
    Piko.
    """

    def __init__(
        self,
        subsystem: str,
        *,
        level: str = "info",
        request_headers: HeaderFilter | None = None,
        response_headers: HeaderFilter | None = None,
    ) -> None:
        self._logger = log.get_logger(subsystem)
        self._level = level
        self._level_5xx = "error" if level == "error" else "warn"
        self._request_headers = request_headers or HeaderFilter()
        self._response_headers = response_headers or HeaderFilter()
        self._known: dict[object, bytes] = {}
        worker = log.worker()
        self._worker = msgspec.UNSET if worker is None else worker

    def record(self, request: Finished) -> None:
        """Write one finished request."""
        level = self._level if request.status < 500 else self._level_5xx
        if self._logger.threshold > log.LEVELS[level]:
            return
        if log.is_readable():
            self._logger.log(
                level,
                f"{request.method.decode('ascii', 'backslashreplace')} {request.status}",
                path=request.target.partition(b"?")[0],
                endpoint_id=request.endpoint,
                **({"tenant_id": request.tenant} if request.tenant else {}),
                **({"refused": request.refused} if request.refused else {}),
                **({"trace_id": request.trace} if request.trace else {}),
                client_ip=request.client,
                took=f"{request.seconds * 1000:.1f}ms",
                bytes_in=request.bytes_in,
                bytes_out=request.bytes_out,
            )
            return
        line = _Line(self, request, level, log.timestamp())
        log.writer().put(line if request.held < MOST_HELD else line.render())

    def rendered(self, request: Finished, level: str, timestamp: str) -> bytes:
        """The line; called by the writer, but for long heads."""
        known = request.known
        heads = self._known.get(known) if known is not None else None
        if heads is None:
            heads = self._heads(request)
            if known is not None:
                if len(self._known) >= KNOWN_HEADS:
                    self._known.clear()
                self._known[known] = heads
        outcome = _encode(_Outcome(request.status, f"{request.seconds * 1000:.3f}ms"))
        endpoint, first = request.endpoint, request.first_byte_seconds
        object_ = _Object(
            level,
            timestamp,
            self._logger.subsystem,
            "request",
            # One JSON object made of two: the first has no brace behind, the second is to have none before.
            msgspec.Raw(heads + outcome[1:]),
            request.client,
            endpoint if endpoint.isascii() and len(endpoint) <= log.VALUE_BYTES else _cut(endpoint),
            request.bytes_in,
            request.bytes_out,
            None if first is None else int(first * 1e6),
            _cut(request.tenant) if request.tenant else msgspec.UNSET,
            self._worker,
            request.refused or msgspec.UNSET,
            request.trace or msgspec.UNSET,
        )
        return _encode(object_) + b"\n"

    def _heads(self, request: Finished) -> bytes:
        """What of the line is known from the two heads alone, as a JSON object without its last brace."""
        path = request.target.partition(b"?")[0]
        words = [
            word.decode("ascii", "backslashreplace") for word in (request.proto, request.method, request.host, path)
        ]
        if b"eyJ" in path:
            words[3] = _masked(words[3])
        if request.held < MOST_HELD:
            data = self._joined(words, request, cut=False)
            if len(data) <= SHORT_BYTES and data.isascii():
                return data
        return self._joined(map(_cut, words), request, cut=True)

    def _joined(self, words: Iterable[str], request: Finished, *, cut: bool) -> bytes:
        return b'%b,"request_headers":{%b},"response_headers":{%b},' % (
            _encode(_First(*words))[:-1],  # escapes control characters
            self._request_headers.shown(request.request_head, cut=cut),
            self._response_headers.shown(request.response_head, cut=cut),
        )


class HeaderFilter:
    """Piko's lists of header fields (in any case): `allow`, if any, are the only ones written; otherwise all
    but those of `block`.
    """

    def __init__(self, allow: Iterable[str] = (), block: Iterable[str] = ()) -> None:
        self._allow = frozenset(map(_canonical, allow))
        self._block = frozenset(map(_canonical, block))
        self._all = not self._allow and not self._block
        self._names = _Names(self._permits)
        self._parts: dict[bytes, _Part] = {}  # by lines

    def shown(self, head: bytes | None, *, cut: bool = False) -> bytes:
        """The fields of `head` as they are to be written, as the inside of a JSON object: canonical name -> values.

        What is `cut` is ASCII, and short.
        """
        if head is None:
            return b""
        lines = head.split(b"\r\n")[1:-2]
        parts = [*map(self._parts.get, lines)] if not cut else [None] * len(lines)
        shown: dict[bytes, bytes] = {}
        for line, part in zip(lines, parts, strict=True):
            if part is None:
                part = self._part(line, cut=cut)
            name, values = part
            if values:
                shown[name] = b"%b,%b" % (shown[name], values) if name in shown and values != _MASKED else values
        return b"],".join(map(b":[".join, shown.items())) + b"]" * bool(shown)

    def _part(self, line: bytes, *, cut: bool) -> _Part:
        """What is written of a field; no values if nothing is."""
        spelled, _, value = line.partition(b": ")
        key, known, is_link = self._names[spelled]
        if known is not None:
            return key, known
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("ascii", "backslashreplace")
        if is_link:
            text = without_query(text)
        # By its form: a JWT, an Authorization under another name, a URL's password. To look for more takes longer.
        if "eyJ" in text or "earer " in text or "asic " in text or (is_link and "@" in text):
            text = _masked(text)
        part = key, _encode(_cut(text) if cut else text)
        if not cut and spelled.lower() in KEPT:
            if len(self._parts) >= KNOWN_LINES:
                self._parts.clear()
            self._parts[line] = part
        return part

    def _permits(self, name: str) -> bool:
        return self._all or (name in self._allow if self._allow else name not in self._block)


# What is in a line --------------------------------------------------------------------------------------------


class _Line(msgspec.Struct, gc=False):
    """A line that is not rendered yet (see `log.Later`)."""

    access_log: AccessLog
    request: Finished
    level: str
    timestamp: str

    def render(self) -> bytes:
        return self.access_log.rendered(self.request, self.level, self.timestamp)


class _Object(msgspec.Struct, rename=log.KEYS):
    level: str
    ts: str
    subsystem: str
    msg: str
    request: msgspec.Raw
    client_ip: str
    endpoint_id: str
    bytes_in: int
    bytes_out: int
    first_byte_us: int | None
    tenant_id: str | msgspec.UnsetType
    worker: int | msgspec.UnsetType
    refused: str | msgspec.UnsetType
    trace_id: str | msgspec.UnsetType


class _First(msgspec.Struct):
    """The first part of `request`."""

    proto: str
    method: str
    host: str
    path: str


class _Outcome(msgspec.Struct):
    """The last part of `request`."""

    status: int
    duration: str


_encode = msgspec.json.Encoder().encode
_MASKED = _encode(MASK)


def _cut(value: str) -> str:
    # Beyond ASCII there are C1 controls and marks that turn the direction of writing.
    return value[: log.VALUE_BYTES].encode("ascii", "backslashreplace")[: log.VALUE_BYTES].decode()


def _masked(text: str) -> str:
    """A value without the secrets in it; nothing of it if it is full of what begins like one, for each costs time."""
    low = text.lower()
    return MASK if low.count("eyj") + low.count("://") > MOST_FORMS else without_secrets(text)


def _canonical(name: str) -> str:
    # Go's textproto.CanonicalMIMEHeaderKey: "user-agent" -> "User-Agent".
    return "-".join(part.capitalize() for part in name.split("-"))


@lru_cache(maxsize=64)
def header_filter(allow: tuple[str, ...], block: tuple[str, ...]) -> HeaderFilter:
    """The filter of these lists: listeners that have the same share one, and what it knows of headers."""
    return HeaderFilter(allow, block)


class _Names(dict[bytes, tuple[bytes, bytes | None, bool]]):
    """Names as keys in JSON, what is written whatever the value (nothing, or a mask), and whether that is a URL.

    Bounded, because strangers choose them.
    """

    BOUND = 1000

    def __init__(self, permits: Callable[[str], bool]) -> None:
        self._permits = permits

    def __missing__(self, spelled: bytes) -> tuple[bytes, bytes | None, bool]:
        name = _canonical(_cut(spelled.decode("ascii", "backslashreplace")))
        known = b"" if not self._permits(name) else _MASKED if is_secret(name) else None
        found = _encode(name), known, is_url(name)
        if len(self) < self.BOUND:
            self[spelled] = found
        return found
