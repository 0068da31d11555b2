"""This machine's own addresses: what PAC files ask for, and how a change of network is noticed."""

from __future__ import annotations

import socket

# Addresses that are nobody's (RFC 5737, RFC 3849): a UDP socket is connected to them, which sends nothing.
_ANYWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def my_addresses() -> tuple[str, ...]:
    """The addresses that this machine would call the world from, IPv4 first; empty without a network."""
    found = []
    for family, somewhere in _ANYWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((somewhere, 53))
                found.append(str(probe.getsockname()[0]).partition("%")[0])
        except OSError:
            continue
    return tuple(found)
