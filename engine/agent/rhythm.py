"""How soon an agent pings, learned from what becomes of sessions that are silent.

Forward proxies and firewalls drop connections on which nothing has moved for a while, mostly minutes, sometimes
seconds. A session that is lost after a silence, or loses its carrier, may have met such a timer, or its node may have
crashed. But two in a row that are lost after like silences have met a timer, and pings come well before it from then
on.
"""

from __future__ import annotations

from typing import Final

from engine.session.liveness import PING_SECONDS

LEAST_SECONDS: Final = 1.0  # shorter silences are chance, and sooner pings a burden
ALIKE: Final = 0.25  # timers are looked at now and then, so no two silences are the same
SHARE: Final = 0.6  # of the timer: a ping that is lost once may be sent again by TCP


class Rhythm:
    """Of one uplink. `seconds` is how long a session may wait from a pong to the next ping."""

    def __init__(self) -> None:
        self.seconds = PING_SECONDS
        self._last = 0.0

    def cut_after(self, silence: float) -> bool:
        """A session, or its carrier, was lost after so many seconds of silence; True if `seconds` are fewer for it."""
        if silence < LEAST_SECONDS:
            return False
        alike = abs(silence - self._last) <= ALIKE * silence
        self._last = silence
        seconds = max(LEAST_SECONDS, SHARE * silence)
        if not alike or seconds >= self.seconds:
            return False
        self.seconds = seconds
        return True
