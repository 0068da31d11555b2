"""A body of chunks (RFC 9112, 7.1): where it ends, and what of it goes on to the next hop."""

from __future__ import annotations

import re

from engine.errors import HTTPError
from engine.wire.http1.grammar import TOKEN
from engine.wire.http1.hop import passable_trailers

MAX_CHUNK_LINE = 4 * 1024
MAX_EXTENSIONS = 64 * 1024
MAX_TRAILERS = 8 * 1024
MAX_CHUNK = 2**63 - 1  # RFC 9112, 7.1: recipients must expect large sizes, and must not let them overflow

_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSIONS = rb"(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+" % (TOKEN, TOKEN, _QUOTED)
_chunk_line = re.compile(rb"([0-9A-Fa-f]{1,16}+)(" + _EXTENSIONS + rb")\r\n").match
_may_become_chunk_line = re.compile(rb"[0-9A-Fa-f]{1,16}+(?:\r?+|[ \t;][^\r\n]*+\r?+)").fullmatch

_SIZE, _DATA, _CR, _LF, _TRAILERS, _DONE = range(6)


class ChunkedBody:
    """Follows a chunked body through any number of reads and says what to send on.

    The parts to send on are views of the input, as long as possible: a read full of chunks leaves as one part, whether
    it holds one large chunk or many small ones. Only what was understood is passed on. A line that is cut by the end of
    a read is kept (a few KiB at most) until its rest has come. The `0` of the last chunk is held back together with the
    trailers, so that a body that breaks off never looks complete to the next reader.

    Extensions are checked, bounded and dropped. They are for this hop only (RFC 9112, 7.1.1), and what they have
    carried in practice is smuggled requests.

    The views that are returned are the caller's own memory: send or copy them before it is written again.

    `done` says that the body has ended, and `trailers` what of its trailers may go on, with the empty line behind them.
    `taken` is how many bytes of its data the last call of `receive` has taken:
    all, or those up to the end of the body, or up to where it stopped because of its limit. `rest` is what followed
    the body in the call that ended it.
    """

    __slots__ = ("_decode", "_extensions", "_held", "_left", "_state", "done", "rest", "taken", "trailers")

    def __init__(self, *, decode: bool = False) -> None:
        self._decode = decode
        self._state = _SIZE
        self._left = 0  # bytes of the current chunk that are still to come
        self._held = b""  # the beginning of a line or of the trailers
        self._extensions = 0
        self.done = False
        self.rest = memoryview(b"")
        self.taken = 0
        self.trailers = b""

    def receive(self, data: memoryview, limit: int | None = None) -> list[memoryview | bytes]:
        """Take the next bytes, return the parts to send on: chunks with their framing, or (`decode`) only their data.

        With a `limit` (1 or more), at most so many chunk lines are read: a MiB of one-byte chunks takes 0.14 s, in
        which nobody else is served. The call then stops before the next chunk line. What it has not taken
        (`data[taken:]`) is to be given again, in front of what follows.

        When the body has ended, `done` is true; nothing more may be given then. Raises HTTPError: the message
        is broken, and whoever reads it must see it break off.
        """
        assert not self.done, "the body has ended"
        decode = self._decode
        parts: list[memoryview | bytes] = []
        end = self.taken = len(data)
        pos = 0
        lines = 0
        mark = 0  # up to here, everything is in `parts` or is not passed on
        while pos < end:
            state = self._state
            if state == _DATA:
                begin = pos
                pos = min(end, pos + self._left)
                self._left -= pos - begin
                if decode:
                    parts.append(data[begin:pos])
                if self._left == 0:
                    self._state = _CR
            elif state == _CR:
                if data[pos] != 0x0D:
                    raise HTTPError(400, "expected CRLF behind a chunk", f"byte 0x{data[pos]:02x}")
                pos += 1
                self._state = _LF
            elif state == _LF:
                if data[pos] != 0x0A:
                    raise HTTPError(400, "expected CRLF behind a chunk", f"byte 0x{data[pos]:02x}")
                pos += 1
                self._state = _SIZE
            elif state == _SIZE:
                if lines == limit:
                    self.taken = pos
                    end = pos  # the views end here, too
                    break
                lines += 1
                held = self._held
                source = held + data[pos : pos + MAX_CHUNK_LINE] if held else data
                match = _chunk_line(source, 0 if held else pos)
                if match is None:
                    self._hold_line(held + bytes(data[pos : pos + MAX_CHUNK_LINE]))
                    if not decode and mark < pos:
                        parts.append(data[mark:pos])
                    return parts
                begin, behind = pos, match.end() - len(held)
                digits, extensions = match.groups()
                if len(digits) + len(extensions) > MAX_CHUNK_LINE:
                    raise HTTPError(400, f"a chunk line longer than {MAX_CHUNK_LINE} bytes")
                self._extensions += len(extensions)
                if self._extensions > MAX_EXTENSIONS:
                    raise HTTPError(400, f"more than {MAX_EXTENSIONS} bytes of chunk extensions")
                self._held = b""
                self._left = int(digits, 16)
                if self._left > MAX_CHUNK:
                    raise HTTPError(400, "a chunk of 2^63 bytes or more")
                pos = behind
                if self._left == 0:
                    self._state = _TRAILERS
                else:
                    self._state = _DATA
                if decode or (not held and not extensions and self._left):
                    continue  # the line passes as it came, inside the view that is still growing
                if mark < begin:
                    parts.append(data[mark:begin])
                mark = pos
                if self._left:
                    parts.append(digits + b"\r\n")
            else:
                block = self._held + bytes(data[pos : pos + MAX_TRAILERS + 4])
                length = 2 if block.startswith(b"\r\n") else block.find(b"\r\n\r\n") + 4
                if length == 3:
                    self._hold_trailers(block)
                    return parts
                if length > MAX_TRAILERS + 4:
                    raise HTTPError(431, f"more than {MAX_TRAILERS} bytes of trailers")
                self.trailers = trailers = passable_trailers(block[:length])
                pos += length - len(self._held)
                self._held = b""
                self._state = _DONE
                self.done = True
                self.taken = pos
                self.rest = data[pos:]
                if not decode:
                    parts.append(b"0\r\n" + trailers)
                return parts
        if not decode and mark < end:
            parts.append(data[mark:end])
        return parts

    def _hold_line(self, line: bytes) -> None:
        if _may_become_chunk_line(line) is None:
            # It may be anything, a body's data too.
            raise HTTPError(400, "expected a chunk size", f"byte 0x{line[0]:02x}" if line else "")
        if len(line) >= MAX_CHUNK_LINE:
            raise HTTPError(400, f"a chunk line longer than {MAX_CHUNK_LINE} bytes")
        self._held = line

    def _hold_trailers(self, block: bytes) -> None:
        if len(block) > MAX_TRAILERS:
            raise HTTPError(431, f"more than {MAX_TRAILERS} bytes of trailers")
        if block.count(b"\n") != block.count(b"\r\n"):
            raise HTTPError(400, "a line ends with a bare LF")
        self._held = block
