"""The exception types that some `except` names; everything else raises the most specific built-in type.

The type says who has to do something: the other end, which broke its protocol; the person who wrote the configuration;
whoever runs a server that said no for good; or nobody, because a server is not to be reached for now.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no value of the shape: no JSON or MessagePack, no UTF-8 in them, or nested so
deeply that they are not looked at.
"""


class RemoteProtocolError(Exception):
    """The other end sent bytes that its protocol forbids; the connection that carried them is of no use any more.

    It has two texts. `public` may be told to a stranger: it quotes nothing that came over the wire. `str(error)` is for
    the log: it adds what was `seen`, escaped. The value of a header field is in neither of them, because it may be a
    cookie or a token.

    What is raised is the class of the protocol, which has the code by which that protocol answers.
    """

    def __init__(self, public: str, seen: str = "") -> None:
        super().__init__(f"{public}: {seen}" if seen else public)
        self.public = public


class HTTPError(RemoteProtocolError):
    """What came is not HTTP as it has to be.

    `status` answers a request with this defect. If a response has it, who waits for the response gets 502.
    `retry_after`: the same request has a chance in so many seconds; 0: not said.
    """

    def __init__(self, status: int, public: str, seen: str = "", *, retry_after: int = 0) -> None:
        super().__init__(public, seen)
        self.status = status
        self.retry_after = retry_after


class WebSocketError(RemoteProtocolError):
    """What came on an open WebSocket is against RFC 6455. `code` is the close code that answers it (7.4)."""

    def __init__(self, code: int, public: str, seen: str = "") -> None:
        super().__init__(public, seen)
        self.code = code


class YamuxError(RemoteProtocolError):
    """What came in a session is not yamux as it has to be. `code` is the go-away code that answers it."""

    def __init__(self, code: int, public: str, seen: str = "") -> None:
        super().__init__(public, seen)
        self.code = code


class Unauthorized(Exception):
    """A token is missing or not good enough. The text is Piko's, and is what the client reads (always a 401)."""


class ConfigError(Exception):
    """What a person configured cannot work. The text is one line: source, key, value, and what would be right."""


class Refused(Exception):
    """A server answered, and its answer will not change by asking again (401, 403, 404 to a registration).

    `blocked`: it may not be the node that has answered, but something on the way, which may let other requests pass.
    """

    def __init__(self, message: str, *, blocked: bool = False) -> None:
        super().__init__(message)
        self.blocked = blocked


class CannotListen(OSError):
    """An address cannot be listened on: another program does, or it is not of this machine.

    `address` is as it was configured.
    """

    def __init__(self, address: str, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.address = address


class Unreachable(Exception):
    """Nobody answered, or the answer invites another try. The text names the hop and what it said.

    `retry_after_seconds` is how long it asks to be left alone, if it does (RFC 9110, 10.2.3). `blocked` as in Refused.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, blocked: bool = False) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.blocked = blocked


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups of it; an error that is no group is its only one."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
