"""What somebody needs to speak TLS, or to verify tokens, made anew when one of its files changes.

Certificates are renewed every few weeks, and a node that had to be restarted for that would move all of its agents each
time. So a port's files are looked at every `WATCH_SECONDS`, a client's before it dials. What is new holds for
handshakes that begin from then on; connections that are there go on as they are. While files do not fit each other, as
between the writing of a certificate and of its key, or are broken, all stays as it was.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import trio

from engine.errors import ConfigError
from engine.log import get_logger

WATCH_SECONDS: Final = 2.0
SOON_SECONDS: Final = 1.0  # between two looks at what has to be honoured within two seconds
DAY_SECONDS: Final = 86400.0
WARNED_DAYS: Final = 14  # of a certificate that ends, before it does

Sign = tuple[int, int, int] | None

log = get_logger("tls")


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
            log.warning("files do not match, keeping the old ones", of=self._name, error=str(error))
        else:
            log.info("files reloaded", of=self._name)

    def _look(self) -> list[Sign]:
        """By what a file is known to be another: its place on the disk, its size and when it was written."""
        return list(map(_sign, self._files))


class Expiry(NamedTuple):
    """Until when the certificates in `file` are good: `at`, in Unix seconds."""

    port: str
    file: str
    at: float

    @property
    def shown(self) -> str:
        return f"{datetime.fromtimestamp(self.at, UTC):%Y-%m-%dT%H:%M:%SZ}"


class Certificates(Renewed):
    """What is needed to speak TLS: `context`, None for who does not. `make` makes it of the `files`.

    `chains` are those of the files that hold one's own certificates, `authorities` those that others' are verified
    with; `name` is the key of what they are for, which begins with the name of a port.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[str],
        make: Callable[[], ssl.SSLContext | None],
        *,
        chains: Sequence[str] = (),
        authorities: Sequence[str] = (),
    ) -> None:
        super().__init__(name, files, self._renew)
        self._context = make
        self.context: ssl.SSLContext | None = make()
        self._chains = [file for file in dict.fromkeys(chains) if file]
        self._authorities = [file for file in dict.fromkeys(authorities) if file]
        self._ends = self._read()

    def expiries(self) -> list[Expiry]:
        """Of the certificates in use."""
        self.refresh()
        port, ends, now = self._name.partition(".")[0], self._ends, time.time()
        own = [Expiry(port, file, first_end(ends[file])) for file in self._chains if file in ends]
        return own + [Expiry(port, file, next_end(ends[file], now)) for file in self._authorities if file in ends]

    def _renew(self) -> None:
        if self.context is not None:
            self.context = self._context()
            self._ends = self._read()

    def _read(self) -> dict[str, list[float]]:
        """When the certificates of each file end."""
        found = {}
        for file in (*self._chains, *self._authorities):
            try:
                found[file] = ends_in(file)
            except (ConfigError, OSError) as error:  # OpenSSL takes it; it is in use
                log.warning("cannot tell when a certificate expires", of=self._name, error=str(error))
        return found


def ends_in(path: str) -> list[float]:
    """When the certificates of a PEM file end, in Unix seconds. Raises OSError, and ConfigError for no PEM."""
    from cryptography import x509  # it takes 100 ms to import

    with open(path, "rb") as file:
        try:
            return [one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(file.read())]
        except ValueError as error:
            raise ConfigError(f"{path}: {error}; expected PEM certificates") from None


def first_end(ends: Iterable[float]) -> float:
    """Of a chain: without one of its certificates it is worth nothing."""
    return min(ends)


def next_end(ends: Iterable[float], now: float) -> float:
    """Of authorities: those that have ended may stay in a file beside those that follow them."""
    ends = sorted(ends)
    return next((end for end in ends if end > now), ends[-1])


def _sign(path: str) -> Sign:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def now(tls: ssl.SSLContext | Certificates | None) -> ssl.SSLContext | None:
    """What to speak TLS with, now."""
    if not isinstance(tls, Certificates):
        return tls
    tls.refresh()
    return tls.context


async def watch(things: Sequence[Renewed], seconds: float | None = None) -> None:
    """Refresh all of them every `seconds` (None: WATCH_SECONDS), for ever."""
    while True:
        await trio.sleep(WATCH_SECONDS if seconds is None else seconds)
        for thing in things:
            thing.refresh()


async def warn_of_expiry(certificates: Sequence[Certificates], clock: Callable[[], float] = time.time) -> None:
    """Say once a day which of them end within WARNED_DAYS, for ever. `clock`: Unix seconds."""
    while True:
        for expiry in (expiry for one in certificates for expiry in one.expiries()):
            days = (expiry.at - clock()) / DAY_SECONDS
            if days < WARNED_DAYS:
                log.warning(
                    "certificate expires soon" if days > 0 else "certificate has expired",
                    port=expiry.port,
                    file=expiry.file,
                    expires=expiry.shown,
                )
        await trio.sleep(DAY_SECONDS)
