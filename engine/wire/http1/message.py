"""What a head is after it was read: a Request or a Response, with what its fields decide."""

from __future__ import annotations

Fields = list[tuple[bytes, bytes]]
"""Names and values in the order in which they came, as they were spelled."""

Mark = tuple[bytes, bytes, bytes]
"""A field that decides something, or that a node reads: its name in lower case, its value, and its line."""

# What `body` is where it is no length.
CHUNKED = -1
UNTIL_CLOSE = -2


class Request:
    """A request's head.

    `head` is what came, in plain form (see grammar): where it was not, it was written anew. `target` is in origin-form
    (or `*`), whatever form it came in. `host` is where the request goes: a target in absolute-form has overruled the
    Host field, in `head` too (RFC 9112, 3.2.2).

    `lines` is what goes on to the next hop, without the empty lines behind: a request line of HTTP/1.1, then the
    field lines, without those that end at this hop. Framing is among them, an upgrade is not. If `intact`, that is
    all of `head`. `for_node` has the fields that a node reads or replaces, in order: Piko's, claims about
    the client (claims.py), Authorization.

    `body` is a length or CHUNKED. `upgrade` is the value of the Upgrade field if the Connection field nominates it,
    else b"". `expect_continue` says that the client waits for 100 before it sends the body.

    `repeats`: equal heads give this very object, so what follows from it may be remembered with it as the key. Nobody
    may change it.
    """

    __slots__ = (
        "_host",
        "_lines",
        "body",
        "expect_continue",
        "for_node",
        "head",
        "intact",
        "keep_alive",
        "method",
        "repeats",
        "target",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        head: bytes,
        lines: list[bytes] | None,
        intact: bool,
        method: bytes,
        target: bytes,
        version: int,
        host: bytes | None,
        body: int,
        keep_alive: bool,
        upgrade: bytes,
        expect_continue: bool,
        for_node: list[Mark],
    ) -> None:
        self.head = head
        self._lines = lines
        self.intact = intact
        self.method = method
        self.target = target
        self.version = version
        self._host = host
        self.body = body
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.expect_continue = expect_continue
        self.for_node = for_node
        self.repeats = False

    @property
    def host(self) -> bytes:
        if self._host is None:
            self._host = next((value for name, value in self.fields if name.lower() == b"host"), b"")
        return self._host

    @property
    def lines(self) -> list[bytes]:
        return self.head.split(b"\r\n")[:-2] if self._lines is None else self._lines

    @property
    def fields(self) -> Fields:
        """All that came, those for this hop included."""
        return fields_of(self.head)


class Response:
    """A response's head.

    `body` is a length, CHUNKED or UNTIL_CLOSE, and 0 if the status or the request's method says that there is none.
    `keep_alive` is False if the end of the connection ends the body. `head`, `lines` and `repeats` are as in Request.
    If `intact`, `head` may go on as it is to a client of HTTP/1.1.
    """

    __slots__ = (
        "body",
        "head",
        "intact",
        "keep_alive",
        "lines",
        "reason",
        "repeats",
        "status",
        "upgrade",
        "version",
    )

    def __init__(
        self,
        head: bytes,
        lines: list[bytes],
        intact: bool,
        version: int,
        status: int,
        reason: bytes,
        body: int,
        keep_alive: bool,
        upgrade: bytes,
    ) -> None:
        self.head = head
        self.lines = lines
        self.intact = intact
        self.version = version
        self.status = status
        self.reason = reason
        self.body = body
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.repeats = False

    @property
    def fields(self) -> Fields:
        """All that came, those for this hop included."""
        return fields_of(self.head)


def with_lines(response: Response, lines: list[bytes]) -> Response:
    """`response` with other lines, which say the same of its body and its connection."""
    return Response(
        b"\r\n".join([*lines, b"", b""]),
        lines,
        response.intact,
        response.version,
        response.status,
        response.reason,
        response.body,
        response.keep_alive,
        response.upgrade,
    )


def fields_of(head: bytes) -> Fields:
    """The fields of a head in plain form."""
    fields = []
    for line in head.split(b"\r\n")[1:-2]:
        name, _, value = line.partition(b": ")
        fields.append((name, value))
    return fields
