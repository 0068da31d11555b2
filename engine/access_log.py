"""The access log: one JSON line per request, cheap enough to be left on.

A request costs the engine some 50 us, and a log line rendered field by field 15 us more; so this one is a
struct encoded by msgspec, what repeats with equal heads is encoded once, and `log.Writer` renders and writes the
lines of some milliseconds together.
Piko's keys come first (`level`, `ts`, `subsystem`, `msg`, `request{…}`), ours behind them: who asked, for
which endpoint, the bytes each way, and when the first of them came back.

`path` is the target without its query, as in Piko: queries carry tokens. Credentials among the header fields
are masked, whatever the lists say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from engine import log

Fields = Sequence[tuple[bytes, bytes]]
Shown = dict[str, tuple[str, ...]]

SECRET_FIELDS = frozenset(("Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Piko-Authorization"))

# Most heads are shorter than this and ASCII; only in others every value is looked at, and cut.
SHORT_BYTES = 1800
KNOWN_HEADS = 512  # remembered as they are to be written; requests and answers repeat themselves


class Finished(msgspec.Struct, gc=False):
    """A request that is over.

    `bytes_in` came from the client and `bytes_out` went to it; the whole took `seconds`, of which
    `first_byte_seconds` passed before the answer began (None: there was no answer). `known` stands for these very two
    heads whenever they come again, if there is such an object; it is held for a while.
    """

    proto: bytes
    method: bytes
    host: bytes
    target: bytes
    status: int
    request_headers: Fields | None
    response_headers: Fields | None
    known: object
    client: str
    endpoint: str
    bytes_in: int
    bytes_out: int
    first_byte_seconds: float | None
    seconds: float


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
                client_ip=request.client,
                took=f"{request.seconds * 1000:.1f}ms",
                bytes_in=request.bytes_in,
                bytes_out=request.bytes_out,
            )
            return
        line = _Line(self, request, level, log.timestamp())
        log.writer().put(line if request.known is not None else line.render())

    def rendered(self, request: Finished, level: str, timestamp: str) -> bytes:
        """The line; for known heads called by the writer."""
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
        )
        return _encode(object_) + b"\n"

    def _heads(self, request: Finished) -> bytes:
        """What of the line is known from the two heads alone, as a JSON object without its last brace."""
        heads = _Heads(
            request.proto.decode("ascii", "backslashreplace"),
            request.method.decode("ascii", "backslashreplace"),
            request.host.decode("ascii", "backslashreplace"),
            request.target.partition(b"?")[0].decode("ascii", "backslashreplace"),
            self._request_headers.shown(request.request_headers) if request.request_headers else {},
            self._response_headers.shown(request.response_headers) if request.response_headers else {},
        )
        data = _encode(heads)  # escapes control characters
        if len(data) > SHORT_BYTES or not data.isascii():
            data = _encode(_cut_and_escaped(heads))
        return data[:-1] + b","


class HeaderFilter:
    """Piko's lists of header fields (in any case): `allow`, if any, are the only ones written; otherwise all
    but those of `block`.
    """

    def __init__(self, allow: Iterable[str] = (), block: Iterable[str] = ()) -> None:
        self._allow = frozenset(map(_canonical, allow))
        self._block = frozenset(map(_canonical, block))
        self._all = not self._allow and not self._block
        self._names = _CanonicalNames()

    def shown(self, fields: Fields) -> Shown:
        """The fields as they are to be written: canonical name -> values."""
        names = self._names
        try:
            shown: Shown = {names[name]: (value.decode(),) for name, value in fields}
        except UnicodeDecodeError:
            shown = {}
        if len(shown) != len(fields):  # a name that comes twice, or bytes that are no UTF-8
            shown = {}
            for name, value in fields:
                key = names[name]
                shown[key] = (*shown.get(key, ()), value.decode("ascii", "backslashreplace"))
        if not SECRET_FIELDS.isdisjoint(shown):
            shown.update((name, (log.MASK,)) for name in SECRET_FIELDS & shown.keys())
        if not self._all:
            return {name: values for name, values in shown.items() if self._permits(name)}
        return shown

    def _permits(self, name: str) -> bool:
        return name in self._allow if self._allow else name not in self._block


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


class _Heads(msgspec.Struct):
    """The first part of `request`."""

    proto: str
    method: str
    host: str
    path: str
    request_headers: Shown
    response_headers: Shown


class _Outcome(msgspec.Struct):
    """The second part of `request`."""

    status: int
    duration: str


_encode = msgspec.json.Encoder().encode


def _cut_and_escaped(heads: _Heads) -> _Heads:
    def all_cut(shown: Shown) -> Shown:
        return {name: tuple(map(_cut, values)) for name, values in shown.items()}

    return _Heads(
        heads.proto,
        _cut(heads.method),
        _cut(heads.host),
        _cut(heads.path),
        all_cut(heads.request_headers),
        all_cut(heads.response_headers),
    )


def _cut(value: str) -> str:
    # Beyond ASCII there are C1 controls and marks that turn the direction of writing.
    return value[: log.VALUE_BYTES].encode("ascii", "backslashreplace")[: log.VALUE_BYTES].decode()


def _canonical(name: str) -> str:
    # Go's textproto.CanonicalMIMEHeaderKey: "user-agent" -> "User-Agent".
    return "-".join(part.capitalize() for part in name.split("-"))


class _CanonicalNames(dict[bytes, str]):
    """Remembers canonical names. Bounded, because strangers choose them."""

    BOUND = 1000

    def __missing__(self, name: bytes) -> str:
        text = _canonical(_cut(name.decode("ascii", "backslashreplace")))
        if len(self) < self.BOUND:
            self[name] = text
        return text
