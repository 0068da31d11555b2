"""Addresses and URLs: their text, and the host and port in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"(?:\[([0-9a-fA-F:.]+(?:%\w+)?)\]|([^\[\]:/@\s]*)):(\d{1,5})", re.ASCII)


def split_address(text: str) -> tuple[str, int]:
    """Host and port: ":8000" is ("", 8000), "[::1]:80" is ("::1", 80). Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match[3]) > 65535:
        raise ValueError(f"no host:port: {text!r}")
    return match[1] or match[2] or "", int(match[3])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches who listens on this host. No name but localhost is believed to be so."""
    import ipaddress  # which only a node needs

    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Target(NamedTuple):
    """What a URL or an address leads to. `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str


_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


def split_url(text: str, schemes: Sequence[str] = ("http", "https", "ws", "wss")) -> Target:
    """The parts of a URL with one of these schemes, its port filled in. Raises ValueError."""
    url = urlsplit(text)
    if url.scheme not in schemes or not url.hostname or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError("no URL of these schemes")
    port = _DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if port == 0:
        raise ValueError("nothing listens on port 0")
    return Target(url.scheme, url.hostname, port, url.path.rstrip("/"))
