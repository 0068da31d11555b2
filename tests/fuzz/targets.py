"""All targets by name, and where their seeds are and what was found."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent

TARGETS: Final = {
    "heads": "http",
    "chunked": "http",
    "summaries": "http",
    "websocket": "frames",
    "handshake": "frames",
    "yamux": "frames",
    "datagrams": "frames",
    "carrier": "words",
    "session": "words",
    "proxied": "words",
    "peer": "words",
    "cluster": "words",
    "supervisor": "words",
    "status": "words",
    "jwt": "tokens",
    "keys": "tokens",
    "connect": "ways",
    "socks": "ways",
    "pac": "ways",
    "routes": "ways",
    "no_proxy": "ways",
    "configuration": "people",
    "texts": "people",
}
"""Where each of them stands: only what one needs is imported for it, because all of it takes seconds."""


def target(name: str) -> Callable[[bytes], None]:
    found: Callable[[bytes], None] = getattr(import_module(f"tests.fuzz.{TARGETS[name]}"), name)
    return found


def corpus(name: str) -> Path:
    """The folder of a target's seeds: inputs that lead into many of its corners."""
    return HERE / "corpus" / name


def found(name: str) -> Path:
    """The folder of what has raised in it once."""
    return HERE / "found" / name
