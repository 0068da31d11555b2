"""The tokens that are taken back before they expire: a file with the `jti` of each on a line of its own.

Blank lines and what stands behind a `#` at the begin of a line are passed over.
"""

from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 16 << 20
MAX_ID: Final = 1024  # characters


def parse_revoked(document: bytes) -> frozenset[str]:
    """The names in such a file. Raises ValueError, with the number of the line, for what is no such file."""
    if len(document) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    names = set()
    for number, line in enumerate(document.split(b"\n"), 1):
        try:
            name = line.decode().strip()
        except UnicodeDecodeError:
            raise ValueError(f"line {number} is not UTF-8; expected the jti of a token on each line") from None
        if not name or name.startswith("#"):
            continue
        if len(name) > MAX_ID or not name.isprintable():
            raise ValueError(f"line {number} is not printable, or too long; expected the jti of a token on each line")
        names.add(name)
    return frozenset(names)
