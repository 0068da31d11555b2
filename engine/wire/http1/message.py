"""What a head is after it was read: a Request or a Response, with what its fields decide."""

from __future__ import annotations

Fields = list[tuple[bytes, bytes]]
"""Names and values in the order in which they came, as they were spelled."""

# What `body` is where it is no length.
CHUNKED = -1
UNTIL_CLOSE = -2


class Request:
    """A request's head.

    `target` is in origin-form (or `*`), whatever form it came in. `host` is where the request goes: a target in
    absolute-form has overruled the Host field, in `fields` too (RFC 9112, 3.2.2).

    `body` is a length or CHUNKED. `upgrade` is the value of the Upgrade field if the Connection field nominates it,
    else b"". `expect_continue` says that the client waits for 100 before it sends the body. `dropped` holds the names
    of fields that are not passed on, in lower case.

    `repeats`: equal heads give this very object, so what follows from it may be remembered with it as the key.
    `whole`: the head as it came, if it may go on like that (nothing in it ends at this hop, no framing is to be
    added), else b"".
    """

    __slots__ = (
        "body",
        "dropped",
        "expect_continue",
        "fields",
        "host",
        "keep_alive",
        "method",
        "repeats",
        "target",
        "upgrade",
        "version",
        "whole",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        version: int,
        fields: Fields,
        host: bytes,
        body: int,
        keep_alive: bool,
        upgrade: bytes,
        expect_continue: bool,
        dropped: frozenset[bytes],
        whole: bytes,
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.host = host
        self.body = body
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.expect_continue = expect_continue
        self.repeats = False
        self.whole = whole
        self.dropped = dropped


class Response:
    """A response's head.

    `body` is a length, CHUNKED or UNTIL_CLOSE, and 0 if the status or the request's method says that there is none.
    `keep_alive` is False if the end of the connection ends the body. `dropped`, `repeats` and `whole` are as in
    Request.
    """

    __slots__ = (
        "body",
        "dropped",
        "fields",
        "keep_alive",
        "reason",
        "repeats",
        "status",
        "upgrade",
        "version",
        "whole",
    )

    def __init__(
        self,
        version: int,
        status: int,
        reason: bytes,
        fields: Fields,
        body: int,
        keep_alive: bool,
        upgrade: bytes,
        dropped: frozenset[bytes],
        whole: bytes,
    ) -> None:
        self.version = version
        self.status = status
        self.reason = reason
        self.fields = fields
        self.body = body
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.repeats = False
        self.whole = whole
        self.dropped = dropped
