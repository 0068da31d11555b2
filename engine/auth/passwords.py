"""Checks what visitors show as their passwords, in threads, for bcrypt takes as long as a thousand requests.

The queue is bounded, in all and for each client, so whoever guesses keeps out others for a moment at the most. Who
shows the same at once (the six connections of a browser) is checked once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

import trio

from engine.auth.visitors import Users

THREADS: Final = 2
MAX_WAITING: Final = 64
MAX_WAITING_OF_ONE: Final = 8  # client

Told = Callable[[bool], None]
"""Told whether the password was right."""


class Passwords:
    """The checks of one process. `run` makes them. `refused` counts those for which there was no room."""

    def __init__(self) -> None:
        self.refused = 0
        self._checks: dict[bytes, _Check] = {}  # that are waited for
        self._of_client: Counter[str] = Counter()
        self._threads = trio.CapacityLimiter(THREADS)  # not those that others wait for
        self._put, self._take = trio.open_memory_channel[_Check](MAX_WAITING)

    def ask(self, users: Users, value: bytes, client: str, told: Told) -> Callable[[], None] | None:
        """Have `told` called when this value of Authorization is checked; what to call if nobody wants to know any
        more. None: there is no room. An empty `client` is anybody, whose checks are not counted.
        """
        digest = users.digest(value)
        check = self._checks.get(digest)
        if check is None:
            if client and self._of_client[client] >= MAX_WAITING_OF_ONE:
                self.refused += 1
                return None
            check = _Check(users, value, digest, client)
            try:
                self._put.send_nowait(check)
            except trio.WouldBlock:
                self.refused += 1
                return None
            self._checks[digest] = check
            self._of_client[client] += 1
        ticket = object()
        told_by = check.told
        told_by[ticket] = told

        def forget() -> None:
            told_by.pop(ticket, None)

        return forget

    async def run(self) -> None:
        """Check for ever."""
        async with trio.open_nursery() as nursery:
            for _ in range(THREADS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        async for check in self._take:
            right = False
            if check.told:
                right = await trio.to_thread.run_sync(
                    check.users.check, check.value, abandon_on_cancel=True, limiter=self._threads
                )
            del self._checks[check.digest]
            self._of_client[check.client] -= 1
            if not self._of_client[check.client]:
                del self._of_client[check.client]
            for told in tuple(check.told.values()):
                told(right)


class _Check:
    """One password, and those who wait for what becomes of it."""

    __slots__ = ("client", "digest", "told", "users", "value")

    def __init__(self, users: Users, value: bytes, digest: bytes, client: str) -> None:
        self.users = users
        self.value = value
        self.digest = digest
        self.client = client
        self.told: dict[object, Told] = {}
