"""How a handshake is written, and what plays it. No I/O here, no clock.

A handshake is a *script*: a generator that yields steps, "say these bytes", "hear that much", and returns
when the way through is open. A script therefore reads from top to bottom like the conversation it holds:

    yield Say(b"\\x05\\x01\\x00")
    version, method = yield Hear(exactly(2))

`Hear` names a rule, `enough(heard) -> length`, that says how many of the bytes at the front belong to the
answer, or 0 while they are not all there. The player keeps whatever comes behind: the first bytes of the
tunnel may arrive in the same segment as the proxy's last word, so nothing may be lost and nothing is ever
read to be thrown away.

Two steps are about the world outside the connection: `Work` is a function that may block (a Kerberos
library that asks a silent KDC, a command that prints a password), `Redial` asks for a fresh connection to
the same hop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from proxy_adapters.errors import HopUnreachable, TunnelError

T = TypeVar("T")
Enough = Callable[[bytearray], int]

#: What an error may quote of either side.
EVIDENCE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Say:
    """Send `data` in one piece: microsocks drops a greeting that arrives split.

    `shown` stands in for it in errors when it holds a secret; `scheme` is the one of authentication that it is a
    part of.
    """

    data: bytes = field(repr=False)
    shown: str = ""
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait until `enough` is satisfied; the script is sent those bytes.

    `partial`: an end of the stream, or a short silence, is an answer as well, and the script gets what
    there is. Else the end of the stream is thrown into the script as HopUnreachable.
    """

    enough: Enough
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """Call `function` where it may block; the script is sent its result, or gets its exception."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Redial:
    """Throw this connection away and go on with a new one to the same hop."""


@dataclass(frozen=True, slots=True)
class Leg:
    """What follows is another leg, with a name for errors and a deadline of its own.

    `scheme` of authentication that it tries; `before` how the leg before it ended, if not well; `greeting`: the answer
    is due at once, because a proxy needs nobody else for it.
    """

    name: str
    scheme: str = ""
    before: str = ""
    greeting: bool = False


Step = Say | Hear | Work | Redial | Leg
Script = Generator[Step, Any, T]


def exactly(count: int) -> Enough:
    return lambda heard: count if len(heard) >= count else 0


class Player(Generic[T]):
    """Plays one script. Look at `step`, do it, report back; `step` is None when the script has ended.

    Say -> `advance()` · Hear -> `receive(data)`, b"" for the end of the stream · Work -> `advance(result)`
    or `fail(error)` · Redial -> `redialled()` · Leg -> `advance()`. Any of these may raise what the script
    raises. Afterwards `result` is what the script returned and `leftover` what was heard behind it.
    """

    result: T

    def __init__(self, script: Script[T]) -> None:
        self._script = script
        self._heard = bytearray()
        self._said: Say | None = None
        self._evidence = bytearray()
        self.step: Step | None = None
        self._resume(lambda: next(script))

    @property
    def leftover(self) -> bytes:
        return bytes(self._heard)

    def advance(self, answer: object = None) -> None:
        self._resume(lambda: self._script.send(answer))

    def fail(self, error: BaseException) -> None:
        self._resume(lambda: self._script.throw(error))

    def redialled(self) -> None:
        self._heard.clear()
        self.advance()

    def receive(self, data: bytes | bytearray) -> None:
        assert isinstance(self.step, Hear), "bytes may come only when the script listens"
        self._heard += data
        if len(self._evidence) < EVIDENCE_BYTES:
            self._evidence += data[: EVIDENCE_BYTES - len(self._evidence)]
        if data:
            self._look()
        elif self.step.partial:
            self.give_up_listening()
        else:
            error = HopUnreachable("it closed the connection without a complete answer")
            if self._said is not None and self._said.scheme:
                error.advice = "that may be how it refuses a login: are user and password right?"
            error.heard = printable(bytes(self._evidence))
            self.fail(error)

    def give_up_listening(self) -> None:
        """Answer a partial Hear with what there is."""
        heard, self._heard = bytes(self._heard), bytearray()
        self.advance(heard)

    def _resume(self, resume: Callable[[], Step]) -> None:
        try:
            self.step = resume()
        except StopIteration as end:
            self.step, self.result = None, end.value
        except TunnelError as error:
            said = self._said
            if said is not None and not error.said:
                error.said = printable(said.shown.encode("utf-8", "replace") or said.data)
            error.heard = error.heard or printable(bytes(self._evidence))
            raise
        else:
            if isinstance(self.step, Say):
                self._said = self.step
                self._evidence.clear()
            self._look()

    def _look(self) -> None:
        """What was heard already may be the answer to the next question too."""
        if isinstance(self.step, Hear):
            enough = self.step.enough
            try:
                count = enough(self._heard)
            except TunnelError as error:
                self.fail(error)
                return
            if count:
                answer = bytes(self._heard[:count])
                del self._heard[:count]
                self.advance(answer)


_SECRET = re.compile(
    r"(?i)((?:proxy-)?(?:authorization|authenticate)\s*:\s*[a-z-]+|\b(?:negotiate|ntlm|basic|bearer))\s+(?=\S)([^\r\n]{8,})"
)


def printable(data: bytes) -> str:
    """`data` for a person's eyes: bounded, control characters escaped, tokens of authentication cut to
    their length.
    """
    text = data[:EVIDENCE_BYTES].decode("utf-8", "backslashreplace").rstrip("\r\n")
    text = _SECRET.sub(lambda match: f"{match[1]} ({len(match[2])} characters)", text)
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
