"""The TLS of a port, made anew when one of its files changes: certificate, key, and the authorities of clients.

Certificates are renewed every few weeks, and a node that had to be restarted for that would move all of its agents each
time. So the files are looked at every `WATCH_SECONDS`. What is new holds for handshakes that begin from then on;
connections that are there go on as they are. While files do not fit each other, as between the writing of a certificate
and of its key, or are broken, the port keeps what it had.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Final

import trio

from engine.config import ServerTLS
from engine.errors import ConfigError
from engine.log import get_logger

WATCH_SECONDS: Final = 2.0

Sign = tuple[int, int, int] | None

log = get_logger("server")


class Certificates:
    """What a port needs to speak TLS: `context`, None if it does not. `port` is its name, for the log.

    Raises ConfigError for files that do not fit.
    """

    def __init__(self, port: str, config: ServerTLS) -> None:
        self._port = port
        self._config = config
        self._signs = self._look()
        self.context: ssl.SSLContext | None = config.server_context()

    def refresh(self) -> None:
        """See whether the files have changed, and take what they have become if it fits."""
        if self.context is None:
            return
        signs = self._look()
        if signs == self._signs:
            return
        self._signs = signs
        try:
            self.context = self._config.server_context()
        except (ConfigError, OSError) as error:
            log.warning("certificates as they were", port=self._port, error=str(error))
        else:
            log.info("certificates renewed", port=self._port)

    def _look(self) -> list[Sign]:
        """By what a file is known to be another: its place on the disk, its size and when it was written."""
        return [_sign(path) for path in (self._config.cert, self._config.key, self._config.client_cas) if path]


def _sign(path: str) -> Sign:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


async def watch(ports: Sequence[Certificates]) -> None:
    """Refresh all of them again and again, for ever."""
    while True:
        await trio.sleep(WATCH_SECONDS)
        for port in ports:
            port.refresh()
