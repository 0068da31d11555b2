"""Addresses of IPv4 that are written as ones of IPv6."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address


def as_meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address that is meant: 10.0.0.1 for `::ffff:10.0.0.1`, as a port that is open to both shows it (RFC 4291,
    2.5.5.2), and any other as it is.
    """
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
