"""The exception types that some `except` names; everything else raises the most specific built-in type.

Who did it decides the type: the remote end broke its protocol, the person who wrote the configuration made a
mistake, a server said no for good, or the way to somewhere is (for now) not there.
"""

from __future__ import annotations


class RemoteProtocolError(Exception):
    """The other end sent bytes that its protocol forbids; the connection that carried them is not usable.

    `status` is the HTTP status that answers a request with this defect (400 unless the RFC has a better one);
    for WebSocket it is the close code (RFC 6455, 7.4), for yamux the go-away code.
    """

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


class Unauthorized(Exception):
    """A token is missing or not good enough. The text is Piko's, and is what the client reads (always a 401)."""


class ConfigError(Exception):
    """What a person configured cannot work. The text is one line: source, key, value, and what would be right."""


class Refused(Exception):
    """A server answered, and its answer will not change by asking again (401, 403, 404 to a registration)."""


class CannotListen(OSError):
    """An address cannot be listened on: another program does, or it is not of this machine.

    `address` is as it was configured.
    """

    def __init__(self, address: str, cause: OSError) -> None:
        super().__init__(cause.errno, cause.strerror)
        self.address = address


class Unreachable(Exception):
    """Nobody answered, or the answer invites another try. The text names the hop and what it said.

    `retry_after_seconds` is how long it asks to be left alone, if it does (RFC 9110, 10.2.3).
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
