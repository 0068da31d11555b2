"""What somebody needs to speak TLS, made anew when one of its files changes; and when certificates end.

What is new holds for handshakes that begin from then on; connections that are there go on as they are.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

import trio

from engine.errors import ConfigError
from engine.log import get_logger
from engine.loop.renewed import Renewed

DAY_SECONDS: Final = 86400.0
WARNED_DAYS: Final = 14  # of a certificate that ends, before it does

log = get_logger("tls")


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


def now(tls: ssl.SSLContext | Certificates | None) -> ssl.SSLContext | None:
    """What to speak TLS with, now."""
    if not isinstance(tls, Certificates):
        return tls
    tls.refresh()
    return tls.context


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
