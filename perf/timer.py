"""A precise timer: the kernel's timerfd.

epoll, and so `trio.sleep`, counts in whole milliseconds and rounds up: a generator that sent on that beat
would add half a millisecond to every latency it measures. A timerfd is precise to some 50 µs and is waited
for like a socket.
"""

import ctypes
import os
import struct
import time

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLOEXEC_NONBLOCK = os.O_CLOEXEC | os.O_NONBLOCK
_ABSOLUTE = 1


class Timer:
    """Readable once `ring_at` (of the clock `time.monotonic`) has come. Python 3.13 has it in `os`, 3.11
    does not.
    """

    def __init__(self) -> None:
        self._descriptor: int = _LIBC.timerfd_create(time.CLOCK_MONOTONIC, _CLOEXEC_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        return self._descriptor

    def ring_at(self, moment: float) -> None:
        """Set the one alarm; a moment that has passed rings at once."""
        seconds, fraction = divmod(max(moment, 1e-9), 1)
        # struct itimerspec: interval, then value; a value of zero would disarm.
        setting = struct.pack("@qqqq", 0, 0, int(seconds), max(1, int(fraction * 1e9)))
        if _LIBC.timerfd_settime(self._descriptor, _ABSOLUTE, setting, None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def heard(self) -> None:
        """Take note of a ring, so that the descriptor is not readable any more."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return

    def close(self) -> None:
        os.close(self._descriptor)
