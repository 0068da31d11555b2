"""Load that keeps books: every request has an id and a hash both ways, and ends whole or visibly failed.

A third outcome, an answer that looks good and is not what was sent, or no end at all, raises at once.
"""

from __future__ import annotations

import hashlib
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx
import trio

HUNG_SECONDS = 30


@dataclass
class Ledger:
    """What became of the requests that clients made so far."""

    whole: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: list[tuple[float, float]] = field(default_factory=list)  # when one began, and how long it took
    _ids: count[int] = field(default_factory=count)
    _entered: trio.Event = field(default_factory=trio.Event)
    _closing: bool = False

    async def wait_whole(self, more: int) -> None:
        """Return when so many more requests have ended well."""
        wanted = self.whole + more
        while self.whole < wanted:
            await self._entered.wait()

    def enter(self, failure: str | None) -> None:
        if failure is None:
            self.whole += 1
        else:
            self.failed.append(failure)
        self._entered.set()
        self._entered = trio.Event()

    async def run_client(self, port: int, endpoint: str, largest: int, tls: ssl.SSLContext | None, keep: bool) -> None:
        """Ask one request after another, with up to `largest` bytes each way, until `load` ends."""
        head = {"x-piko-endpoint": endpoint}
        base = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        limits = httpx.Limits(max_keepalive_connections=None if keep else 0)
        # Where nothing is TLS, to read all that may be believed of it takes as long as a hundred requests.
        verify = tls or False
        async with httpx.AsyncClient(base_url=base, headers=head, timeout=None, verify=verify, limits=limits) as client:
            while not self._closing:
                name = f"{port}-{next(self._ids)}"
                since = trio.current_time()
                body = random.randbytes(random.randint(0, largest))
                size = random.randint(0, largest)
                try:
                    with trio.fail_after(HUNG_SECONDS):
                        answer = await client.post(
                            f"/mirror?answer={size}", content=body, headers={"x-request-id": name}
                        )
                except httpx.TransportError as error:
                    self.enter(f"{name}: {error!r}")
                    await trio.sleep(0.01)  # nobody listens: leave the processor to who is starting
                    continue
                if answer.status_code >= 500:
                    self.enter(f"{name}: {answer.status_code} {answer.text}")
                    await trio.sleep(0.01)
                    continue
                assert answer.status_code == 200, answer.text
                assert answer.headers["x-request-id"] == name
                assert answer.headers["x-got-sha256"] == hashlib.sha256(body).hexdigest()
                assert len(answer.content) == size
                assert answer.headers["x-sent-sha256"] == hashlib.sha256(answer.content).hexdigest()
                self.seconds.append((since, trio.current_time() - since))
                self.enter(None)


@asynccontextmanager
async def load(
    port: int,
    *,
    clients: int = 6,
    largest: int = 100_000,
    endpoint: str = "web",
    tls: ssl.SSLContext | None = None,
    keep: bool = True,
) -> AsyncIterator[Ledger]:
    """Clients that ask as fast as they can while the block runs; their last requests end before it does.

    Without `keep`, each request has a connection of its own.
    """
    ledger = Ledger()
    async with trio.open_nursery() as nursery:
        for _ in range(clients):
            nursery.start_soon(ledger.run_client, port, endpoint, largest, tls, keep)
        yield ledger
        ledger._closing = True
