"""The access log: one JSON line per request, cheap enough to be left on.

A request costs the engine some 50 us, and a log line rendered field by field 15 us more; so this one is a
struct encoded by msgspec, and `log.Writer` collects the lines of some milliseconds into one system call.
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

# Most lines are shorter than this and ASCII; only in others every value is looked at, and cut.
SHORT_LINE_BYTES = 2048
KNOWN_HEADERS = 512  # remembered as they are to be written; requests and answers repeat themselves


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

    def record(
        self,
        *,
        proto: bytes,
        method: bytes,
        host: bytes,
        target: bytes,
        status: int,
        request_headers: Fields | None,
        response_headers: Fields | None,
        request_known: object = None,
        response_known: object = None,
        client: str,
        endpoint: str,
        bytes_in: int,
        bytes_out: int,
        first_byte_seconds: float | None,
        seconds: float,
    ) -> None:
        """Write one finished request.

        `bytes_in` came from the client and `bytes_out` went to it; the whole took `seconds`, of which
        `first_byte_seconds` passed before the answer began (None: there was no answer). `request_known` and
        `response_known`: objects that stand for these very headers whenever they come again, if there are such.
        """
        level = self._level if status < 500 else self._level_5xx
        logger = self._logger
        if logger.threshold > log.LEVELS[level]:
            return
        if log.is_readable():
            logger.log(
                level,
                f"{method.decode('ascii', 'backslashreplace')} {status}",
                path=target.partition(b"?")[0],
                endpoint=endpoint,
                client=client,
                took=f"{seconds * 1000:.1f}ms",
                bytes_in=bytes_in,
                bytes_out=bytes_out,
            )
            return
        line = _Line(
            level,
            log.timestamp(),
            logger.subsystem,
            "request",
            _Request(
                proto.decode("ascii", "backslashreplace"),
                method.decode("ascii", "backslashreplace"),
                host.decode("ascii", "backslashreplace"),
                target.partition(b"?")[0].decode("ascii", "backslashreplace"),
                self._request_headers.shown(request_headers, request_known) if request_headers else {},
                self._response_headers.shown(response_headers, response_known) if response_headers else {},
                status,
                f"{seconds * 1000:.3f}ms",
            ),
            client,
            endpoint,
            bytes_in,
            bytes_out,
            None if first_byte_seconds is None else int(first_byte_seconds * 1e6),
        )
        data = _encode(line)  # escapes control characters
        if len(data) > SHORT_LINE_BYTES or not data.isascii():
            _cut_and_escape(line)
            data = _encode(line)
        log.writer().put(data + b"\n")


class HeaderFilter:
    """Piko's lists of header fields (in any case): `allow`, if any, are the only ones written; otherwise all
    but those of `block`.
    """

    def __init__(self, allow: Iterable[str] = (), block: Iterable[str] = ()) -> None:
        self._allow = frozenset(map(_canonical, allow))
        self._block = frozenset(map(_canonical, block))
        self._all = not self._allow and not self._block
        self._names = _CanonicalNames()
        self._known: dict[object, Shown] = {}

    def shown(self, fields: Fields, known: object = None) -> Shown:
        """The fields as they are to be written: canonical name -> values. Remembered by `known`, if it is given."""
        if known is None:
            return self._shown(fields)
        shown = self._known.get(known)
        if shown is None:
            if len(self._known) >= KNOWN_HEADERS:
                self._known.clear()
            shown = self._known[known] = self._shown(fields)
        return shown

    def _shown(self, fields: Fields) -> Shown:
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


class _Request(msgspec.Struct):
    proto: str
    method: str
    host: str
    path: str
    request_headers: Shown
    response_headers: Shown
    status: int
    duration: str


class _Line(msgspec.Struct):
    level: str
    ts: str
    subsystem: str
    msg: str
    request: _Request
    client: str
    endpoint: str
    bytes_in: int
    bytes_out: int
    first_byte_us: int | None


_encode = msgspec.json.Encoder().encode


def _cut_and_escape(line: _Line) -> None:
    request = line.request
    line.endpoint = _cut(line.endpoint)
    request.method, request.host, request.path = _cut(request.method), _cut(request.host), _cut(request.path)
    for shown in (request.request_headers, request.response_headers):
        shown.update((name, tuple(map(_cut, values))) for name, values in shown.items())


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
