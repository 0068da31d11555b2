"""Certificates that are renewed while a node runs: new connections are shown the new one, the others go on.

What renews them (certbot, an administrator) replaces files, and does not tell us. So they are looked at once a minute.
"""

from __future__ import annotations

import os
import ssl
from typing import Final

import trio

from engine.config import ServerTLS
from engine.log import get_logger

LOOK_SECONDS: Final = 60.0

log = get_logger("server")


class Certificate:
    """A port's certificate, in the `context` that its connections are secured with; None if the port has no TLS."""

    def __init__(self, tls: ServerTLS) -> None:
        self._tls = tls
        self._loaded = _state(tls)  # before they are read, so that no change is missed
        self.context = tls.server_context()

    async def keep_current(self) -> None:
        """Load certificate and key again whenever their files have changed. Returns only if there is nothing to do."""
        tls, seen = self._tls, self._loaded
        while self.context is not None:
            await trio.sleep(LOOK_SECONDS)
            now = _state(tls)
            if now == self._loaded:
                continue
            try:
                # Elsewhere first: one that does not fit its key would leave the port with neither.
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
                self.context.load_cert_chain(tls.cert, tls.key)
            except OSError as error:  # ssl.SSLError is one
                if now != seen:
                    reason = getattr(error, "reason", None) or error.strerror or str(error)
                    log.error("cannot reload certificate, keeping the old one", cert=tls.cert, error=reason)
            else:
                self._loaded = now
                log.info("certificate reloaded", cert=tls.cert)
            seen = now


def _state(tls: ServerTLS) -> list[tuple[int, int, int] | None]:
    """What changes with the files, which may be links to others; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for path in (tls.cert, tls.key):
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
    return found
