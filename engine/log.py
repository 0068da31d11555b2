"""Logs: what happened, for the person who must act on it, without ever holding up the data.

`get_logger("proxy")` may stand at the top of any module. It gives a `Logger` whose methods cost one
comparison while their level is off. `configure` (called once by the command) sets the level, names the
*subsystems* that log everything whatever the level is (Piko's `log.subsystems`), and chooses the form:
readable text on a terminal, JSON lines with Piko's keys (`level`, `ts`, `subsystem`, `msg`) anywhere else.

The way of a line: `Logger` -> a processor that makes the values harmless -> structlog's renderer -> `Writer`,
a bounded queue emptied by a thread of its own. A pipe that nobody reads, or a full disk, therefore stops that
thread and nothing else: the queue fills up, further lines are dropped, and the first line that gets through
again says how many there were.

Values come from anywhere, strangers included. So: control characters are escaped (a CR LF would forge a line,
an ESC would reach the reader's terminal), text is cut at 200 bytes (an error's at 1000), and what is a secret by
the name of its field or by its form (`Bearer …`, `user:password@` in a URL) is masked (see `secret`).
"""

from __future__ import annotations

import atexit
import os
import re
import select
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, TextIO

from engine.secret import MASK, is_secret, is_url, without_query, without_secrets

DEBUG, INFO, WARNING, ERROR = 10, 20, 30, 40
LEVELS = {"debug": DEBUG, "info": INFO, "warn": WARNING, "error": ERROR}
_NAMES = {number: name for name, number in LEVELS.items()}

VALUE_BYTES = 200
ERROR_BYTES = 1000  # a way out through several proxies has more to tell, and ends with what to do about it
#: Fields whose keys are Piko's, which no name in Python can be.
KEYS = {"endpoint_id": "endpoint-id", "tenant_id": "tenant-id", "client_ip": "client-ip", "node_id": "node-id"}


class Logger:
    """The log of one subsystem. Get it from `get_logger`; each subsystem has exactly one.

    `threshold` is the lowest level that is written (`DEBUG` … `ERROR`): compare with it before working out a
    field that is expensive. The special field `exc_info=<exception>` adds the traceback.
    """

    __slots__ = ("subsystem", "threshold")

    def __init__(self, subsystem: str, threshold: int) -> None:
        self.subsystem = subsystem
        self.threshold = threshold

    def debug(self, event: str, /, **fields: object) -> None:
        if self.threshold <= DEBUG:
            _emit(DEBUG, self.subsystem, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        if self.threshold <= INFO:
            _emit(INFO, self.subsystem, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        if self.threshold <= WARNING:
            _emit(WARNING, self.subsystem, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        _emit(ERROR, self.subsystem, event, fields)

    def log(self, level: str, event: str, /, **fields: object) -> None:
        """Log at a level that is only known now ("debug", "info", "warn" or "error")."""
        if self.threshold <= LEVELS[level]:
            _emit(LEVELS[level], self.subsystem, event, fields)


class _Settings:
    """What `configure` decided. Until then only warnings and errors are written."""

    def __init__(self) -> None:
        self.level = WARNING
        self.subsystems: frozenset[str] = frozenset()
        self.loggers: dict[str, Logger] = {}
        self.render: Callable[[dict[str, object]], str] | None = None
        self.readable = False
        self.worker: int | None = None
        self.writer: Writer | None = None

    def threshold(self, subsystem: str) -> int:
        # An enabled subsystem logs at every level, also below `level` (Piko: pkg/log, `check`); the names are
        # compared whole, so "proxy" does not enable "proxy.http".
        return DEBUG if subsystem in self.subsystems else self.level


_settings = _Settings()


def get_logger(subsystem: str) -> Logger:
    """The logger of a subsystem, also before `configure` is called: the thresholds follow."""
    logger = _settings.loggers.get(subsystem)
    if logger is None:
        logger = _settings.loggers[subsystem] = Logger(subsystem, _settings.threshold(subsystem))
    return logger


def configure(level: str = "info", subsystems: Sequence[str] = (), stream: TextIO | None = None) -> None:
    """Set level ("debug", "info", "warn", "error"), the subsystems that log all, and where to (default:
    stderr).

    May be called again; what was logged before goes where it was meant to go. Raises ValueError for a level
    that does not exist.
    """
    if level not in LEVELS:
        raise ValueError(f"log level must be one of {', '.join(LEVELS)}, got {level!r}")
    flush()
    stream = sys.stderr if stream is None else stream
    _settings.level = LEVELS[level]
    _settings.subsystems = frozenset(subsystems)
    for logger in _settings.loggers.values():
        logger.threshold = _settings.threshold(logger.subsystem)
    _settings.readable = stream.isatty()
    _settings.render = _readable_renderer() if _settings.readable else _json_renderer()
    _settings.writer = Writer(_write_to(stream), _report_dropped)


def say_worker(number: int) -> None:
    """Have every line of this process from now on say which worker of a node it is."""
    _settings.worker = number


def worker() -> int | None:
    """What lines say; None: there are no several."""
    return _settings.worker


def is_readable() -> bool:
    """Whether a person reads along (the stream is a terminal), so that JSON lines are out of place."""
    return _settings.readable


def writer() -> Writer:
    """The queue that every line goes through; what makes its own lines (the access log) puts them there."""
    if _settings.writer is None:
        configure("warn")
    assert _settings.writer is not None
    return _settings.writer


def show(*lines: str) -> None:
    """Write lines for the person who reads along on a terminal, in their order among the log's; nowhere else."""
    if is_readable():
        writer().put("".join(f"{printable(line, ERROR_BYTES)}\n" for line in lines).encode())


def flush(seconds: float = 1.0) -> bool:
    """Wait until what was logged so far is written, `seconds` at the most. Returns whether it is."""
    return _settings.writer is None or _settings.writer.flush(seconds)


def dropped() -> int:
    """How many lines were lost so far because nobody read them in time."""
    return 0 if _settings.writer is None else _settings.writer.dropped


def _emit(level: int, subsystem: str, event: str, fields: dict[str, object]) -> None:
    target = writer()
    error = fields.pop("exc_info", None)
    record: dict[str, object] = {
        "level": _NAMES[level],
        "ts": timestamp(),
        "subsystem": subsystem,
        "msg": printable(event),
        **_of_worker(),
    }
    for key, value in fields.items():
        key = KEYS.get(key, key)
        record[key if key not in record else f"{key}_"] = harmless(key, value)
    if isinstance(error, BaseException):
        record["exception"] = _traceback(error)
    target.put(_line(record))


def _line(record: dict[str, object]) -> bytes:
    assert _settings.render is not None
    return _settings.render(record).encode() + b"\n"


def _report_dropped(count: int) -> bytes:
    head = {"level": "warn", "ts": timestamp(), "subsystem": "log", "msg": "log lines dropped"}
    return _line({**head, **_of_worker(), "count": count})


def _of_worker() -> dict[str, object]:
    return {"worker": _settings.worker} if _settings.worker is not None else {}


# Making values harmless -------------------------------------------------------------------------------------

# C0 and C1 controls and DEL; line and paragraph separators; what turns the direction of writing (it makes a
# terminal show another text than there is).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(key: str, value: object) -> object:
    """A value as it may be written under this key: masked if secret, else escaped and cut, also inside."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else printable(hex(value))
    if is_secret(key):
        return MASK if value else value
    if isinstance(value, Mapping):
        return {printable(str(k)): harmless(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [harmless(key, item) for item in value]
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value[:VALUE_BYTES]).decode("ascii", "backslashreplace")
    text = str(value)
    return printable(without_query(text) if is_url(key) else text, ERROR_BYTES if key == "error" else VALUE_BYTES)


def printable(text: str, limit: int = VALUE_BYTES) -> str:
    """`text`, credentials masked and unprintable characters escaped, cut after `limit` bytes of UTF-8."""
    # Cut first, so that a megabyte costs no more than a line; but with a margin, lest the cut take away the
    # part that shows a secret to be one.
    text = without_secrets(text[: 8 * limit])
    text = _UNPRINTABLE.sub(_escape, text)
    if len(text) * 4 > limit and len(data := text.encode()) > limit:
        text = data[:limit].decode("utf-8", "ignore") + "…"
    return text


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _traceback(error: BaseException) -> str:
    # Source lines and file names are ours; the messages in between are not, so each line is treated like a
    # value.
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(printable(line) for line in lines[-100:])


_last_stamp = (-1, "")


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds (remembered for the millisecond it is true in)."""
    global _last_stamp
    milliseconds = time.time_ns() // 1_000_000
    known, text = _last_stamp
    if known != milliseconds:
        moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
        text = f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03d}Z"
        _last_stamp = (milliseconds, text)
    return text


# Rendering: structlog, imported only when logs are configured (it brings rich and asyncio: 50 ms) -----------


def _json_renderer() -> Callable[[dict[str, object]], str]:
    import msgspec
    from structlog.processors import JSONRenderer

    def encode(value: object, **_: object) -> str:
        return msgspec.json.encode(value).decode()

    renderer = JSONRenderer(serializer=encode)
    return lambda record: str(renderer(None, "", record))


def _readable_renderer() -> Callable[[dict[str, object]], str]:
    from structlog import dev

    plain = "NO_COLOR" in os.environ
    dim, bold, red, green, yellow, cyan, reset = (
        "" if plain else f"\x1b[{number}m" for number in (2, 1, 31, 32, 33, 36, 0)
    )
    levels = {"debug": dim, "info": green, "warn": yellow, "error": red}

    def text(style: str, width: int = 0) -> dev.KeyValueColumnFormatter:
        return dev.KeyValueColumnFormatter(None, style, reset, value_repr=str, width=width)

    def quoted(value: object) -> str:
        # A value with a space in it must not look like two fields.
        if isinstance(value, str):
            return value if re.fullmatch(r"[^\s\"'=]+", value) else '"' + value.replace('"', r"\"") + '"'
        return repr(value)

    renderer = dev.ConsoleRenderer(
        exception_formatter=dev.plain_traceback,
        columns=[
            dev.Column("ts", text(dim)),
            dev.Column("level", dev.LogLevelColumnFormatter(levels, reset)),
            dev.Column("subsystem", text(cyan, width=8)),
            dev.Column("msg", text(bold, width=32)),
            dev.Column("", dev.KeyValueColumnFormatter(cyan, "", reset, value_repr=quoted)),
        ],
        sort_keys=False,
    )

    def render(record: dict[str, object]) -> str:
        record["ts"] = datetime.now().strftime("%H:%M:%S.%f")[:-3]  # a person's clock
        return str(renderer(None, "", record))

    return render


# Writing ----------------------------------------------------------------------------------------------------


class Later(Protocol):
    """What becomes a line when the writer asks for it."""

    def render(self) -> bytes: ...


class Sink(Protocol):
    """Where the writer's thread puts its bytes: takes all of them, waiting if need be, or raises OSError."""

    def __call__(self, data: bytes) -> None: ...


class _Piece(NamedTuple):
    """Rendered lines, as they were counted when they were put."""

    data: bytes
    counted_bytes: int
    lines: int


class Writer:
    """A bounded queue of lines and the thread that writes them. `put` never waits for the reader of the log.

    The thread starts with the first line. It lets lines gather for a few milliseconds, because every
    awakening of another thread costs the event loop a switch, then writes all of them by one system call.

    A line that is put unrendered is rendered with some dozens of others in a row, where its code and data are still in
    the caches; and by who puts, because what another thread looks at, or frees, comes back from another core. Only what
    is left over at the end of a gathering is rendered by the thread. (Access logs took 24 % of the requests/s when the
    thread rendered all of them, and take 21 % like this.)

    `put` of such a line takes no lock, it is called for every request: that `append` and `popleft` are each one step
    under the interpreter lock is enough. The lock keeps the order of what is rendered, and guards falling asleep and
    waking up. It is re-entrant because garbage collection may run a finaliser that logs.
    """

    # At 600 bytes per line and 30 us per request, 200 ms of access log.
    BOUND_BYTES = 4 << 20
    LATER_BYTES = 600  # what a line that is not rendered yet counts for
    TOGETHER = 64  # rendered in a row: 0.1 ms
    GATHER_SECONDS = 0.02

    def __init__(self, sink: Sink, report: Callable[[int], bytes]) -> None:
        self._sink = sink
        self._report = report
        self._later: deque[Later] = deque()
        self._pieces: list[_Piece] = []
        self._put_bytes = self._done_bytes = 0
        self._refused = self._lost = self._reported = 0  # lines: queue full, sink failed, told about
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()
        self._asleep = True
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    @property
    def dropped(self) -> int:
        """Lines that were put and will never be written."""
        return self._refused + self._lost

    def put(self, line: bytes | Later) -> None:
        """Queue a line (with its LF); drops and counts it when the queue is full. One that is rendered later must hold
        on to little, and share what it holds.
        """
        put_bytes = self._put_bytes + (len(line) if isinstance(line, bytes) else self.LATER_BYTES)
        if put_bytes - self._done_bytes > self.BOUND_BYTES:
            self._refused += 1
            return
        self._put_bytes = put_bytes
        if isinstance(line, bytes):
            with self._lock:
                self._render()
                self._pieces.append(_Piece(line, len(line), 1))
        else:
            self._later.append(line)
            if len(self._later) >= self.TOGETHER:
                self._render()
        if self._asleep:
            self._awaken()

    def flush(self, seconds: float) -> bool:
        """Wait until the queue is empty and written, `seconds` at the most. Returns whether it is."""
        self._hurry.set()
        return self._idle.wait(seconds)

    def _render(self) -> None:
        """Render what waits for it."""
        with self._lock:
            later, lines, taken = self._later, [], 0
            while later:
                line = later.popleft()
                taken += 1
                try:
                    lines.append(line.render())
                except Exception:  # a defect, which must not keep the lines behind it from being written
                    self._lost += 1
            if taken:
                self._pieces.append(_Piece(b"".join(lines), taken * self.LATER_BYTES, len(lines)))

    def _awaken(self) -> None:
        with self._lock:
            if not self._asleep:
                return
            self._asleep = False
            self._idle.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
                self._thread.start()
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            while not self._fall_asleep():
                self._hurry.wait(self.GATHER_SECONDS)
                with self._lock:
                    self._render()
                    pieces, self._pieces = self._pieces, []
                self._write(pieces)

    def _fall_asleep(self) -> bool:
        with self._lock:
            self._asleep = True  # before looking: a line put after the look sees it and wakes us
            if self._pieces or self._later:
                self._asleep = False
                return False
            self._hurry.clear()
            self._idle.set()
            return True

    def _write(self, pieces: list[_Piece]) -> None:
        missing = self.dropped - self._reported
        report = [self._report(missing)] if missing else []
        try:
            self._sink(b"".join([*report, *(piece.data for piece in pieces)]))
            self._reported += missing
        except (OSError, ValueError):  # the reader is gone, the disk full, the stream closed
            with self._lock:
                self._lost += sum(piece.lines for piece in pieces)
        self._done_bytes += sum(piece.counted_bytes for piece in pieces)


def _write_to(stream: TextIO) -> Sink:
    try:
        stream.fileno()
    except (OSError, ValueError, AttributeError):  # a StringIO has none

        def write_text(data: bytes) -> None:
            stream.write(data.decode())
            stream.flush()

        return write_text

    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            descriptor = stream.fileno()  # asked anew: once closed, its number may be a client's socket
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # somebody else made this pipe or terminal non-blocking; it is shared
                waiting = select.poll()
                waiting.register(descriptor, select.POLLOUT)
                waiting.poll()

    return write


def _start_over_after_fork() -> None:
    # A child has the queue but not the thread; and the parent will write what is in the queue.
    if _settings.writer is not None:
        _settings.writer = Writer(_settings.writer._sink, _report_dropped)


os.register_at_fork(after_in_child=_start_over_after_fork)
atexit.register(flush)
