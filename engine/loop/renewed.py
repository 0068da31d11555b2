"""What is made of files, and made anew when one of them changes: certificates, keys, tokens, lists of networks, pages.

They are renewed every few weeks, and a node that had to be restarted for that would move all of its agents each time.
So a port's files are looked at every `WATCH_SECONDS`, a client's before it dials. While files do not fit each other, as
between the writing of a certificate and of its key, or are broken, all stays as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import trio

from engine.errors import ConfigError
from engine.log import get_logger

WATCH_SECONDS: Final = 2.0
SOON_SECONDS: Final = 1.0  # between two looks at what has to be honoured within two seconds

Sign = tuple[int, int, int] | None

log = get_logger("files")


class Renewed:
    """Something made of files, and made anew by `make` when one of them changes; files with an empty name are none.

    `make` raises ConfigError if they do not fit, and then all stays as it was. `name` is for the log.
    """

    def __init__(self, name: str, files: Sequence[str], make: Callable[[], object]) -> None:
        self._name = name
        self._files = [file for file in files if file]
        self._make = make
        self._signs = self._look()

    def refresh(self) -> None:
        """See whether the files have changed, and take what they have become if it fits."""
        signs = self._look()
        if signs == self._signs:
            return
        self._signs = signs
        try:
            self._make()
        except (ConfigError, OSError) as error:
            log.warning("changed files are of no use, keeping what they were", of=self._name, error=str(error))
        else:
            log.info("files reloaded", of=self._name)

    def _look(self) -> list[Sign]:
        """By what a file is known to be another: its place on the disk, its size and when it was written."""
        return list(map(_sign, self._files))


def _sign(path: str) -> Sign:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


async def watch(things: Sequence[Renewed], seconds: float | None = None) -> None:
    """Refresh all of them every `seconds` (None: WATCH_SECONDS), for ever."""
    while True:
        await trio.sleep(WATCH_SECONDS if seconds is None else seconds)
        for thing in things:
            thing.refresh()
