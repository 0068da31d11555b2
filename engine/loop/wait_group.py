"""Waiting until the last of several tasks has left a block of code, as Go's sync.WaitGroup does."""

from __future__ import annotations

import trio


class WaitGroup:
    """`with group:` enters it, from any number of tasks at once; `wait` returns when none is within."""

    def __init__(self) -> None:
        self._count = 0
        self._empty = trio.Event()  # set once the last of those who are within has left

    def __enter__(self) -> None:
        if not self._count:
            self._empty = trio.Event()
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._empty.set()

    async def wait(self) -> None:
        """Return when no task is within. Who enters while others wait is waited for too."""
        while self._count:
            await self._empty.wait()
        await trio.lowlevel.checkpoint()
