"""Who a client is, as a node tells an agent that has asked for it in its registration:

    x-trioduct-clients: 1

A node that does answers `x-trioduct-clients: told`. Then each stream of TCP begins with a PROXY header of version 2
whose destination says nothing, and each request has the field `x-piko-client: ADDRESS PORT`, which no client can send:
a node takes out what begins like that. The port is 0 where it is not known, because another node or a proxy has told of
the client.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Final

from engine.wire.http1 import Fields

FIELD: Final = b"x-trioduct-clients"
TOLD: Final = b"told"
OF_REQUEST: Final = b"x-piko-client"

Client = tuple[str, int]


def are_asked_for(fields: Fields) -> bool:
    """Whether a registration asks to be told."""
    return any(name.lower() == FIELD for name, _ in fields)


def are_told(fields: Fields) -> bool:
    """Whether an answer says that the node tells."""
    return any(name.lower() == FIELD and value == TOLD for name, value in fields)


def encode(address: str, port: int) -> bytes:
    """The value of the field of a request."""
    return b"%b %d" % (address.encode(), port)


def take(lines: list[bytes]) -> tuple[Client | None, list[bytes]]:
    """The client that a request's head names, and its lines without that; None if it names none."""
    client: Client | None = None
    kept = []
    for line in lines:
        name, _, value = line.partition(b": ")
        if name.lower() == OF_REQUEST:
            client = _parse(value)
        else:
            kept.append(line)
    return client, kept


def _parse(value: bytes) -> Client | None:
    address, _, port = value.decode("latin-1").partition(" ")
    try:
        return str(ip_address(address)), min(int(port), 65535)
    except ValueError:
        return None
