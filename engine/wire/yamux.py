"""The vocabulary of yamux version 0, as specified by hashicorp: the header, its types, flags and codes.

    version 8 · type 8 · flags 16 · stream id 32 · length 32      (big-endian, 12 bytes)

`length` is the payload's size for DATA, the window's growth for WINDOW_UPDATE, an opaque value for PING and a
code for GO_AWAY. Stream 0 is the session itself: only PING and GO_AWAY live there.
"""

from __future__ import annotations

import struct
from typing import Final

VERSION: Final = 0

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3
CONFIRM: Final = 4
"""Not hashicorp's, and said only to an end of ours that has asked for it: how many bytes of the session have been
taken, in its low 32 bits (see resumption.py).
"""

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

# go-away codes
NORMAL: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2

INITIAL_WINDOW: Final = 256 * 1024
MAX_STREAM_ID: Final = 2**32 - 1
HEADER_SIZE: Final = 12
CONFIRM_WRAP: Final = 1 << 32

HEADER = struct.Struct(">BBHLL")


def header(kind: int, flags: int, stream_id: int, length: int) -> bytes:
    """Twelve bytes."""
    return HEADER.pack(VERSION, kind, flags, stream_id, length)
