"""Checks of a service: one that is not well is withdrawn from clients, and offered again when it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import trio

from engine.agent.service import Service
from engine.carriers.opening import read_head
from engine.config import HealthConfig
from engine.errors import RemoteProtocolError
from engine.log import get_logger
from engine.loop.connection import Connection
from engine.wire import http1

FAREWELL_SECONDS = 1.0  # for a connection that was only made to look whether it can be

log = get_logger("health")


class Ill(Exception):
    """What a check has found."""


class Health:
    """Looks after `service`, which `endpoint` is offered by. The first check decides alone whether it is `well`."""

    def __init__(self, config: HealthConfig, service: Service, endpoint: str) -> None:
        self.endpoint = endpoint
        self.service = service
        self.well = False
        self.why = "not checked yet"  # it is not well; empty if the last check has passed
        self.checks = Counter({"passed": 0, "failed": 0})
        self._config = config
        self._in_a_row = 0  # checks that say otherwise than `well`
        self._needed = {True: config.healthy_after, False: config.unhealthy_after}  # of those, by what they say

    async def run(
        self, on_change: Callable[[bool], None], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Check for ever, started behind the first check. `on_change` is told whether it is well, behind the first and
        whenever that is news.
        """
        async with trio.open_nursery() as partings:
            self.why = await self._check(partings)
            self.well = not self.why
            if self.why:
                log.warning("service unhealthy, not offered", **self._named, error=self.why)
            on_change(self.well)
            task_status.started()
            while True:
                await trio.sleep(self._config.interval)
                self.why = await self._check(partings)
                if self._judge(passed=not self.why):
                    if self.well:
                        log.info("service healthy, offered again", **self._named)
                    else:
                        log.warning("service unhealthy, withdrawn", **self._named, error=self.why)
                    on_change(self.well)

    @property
    def _named(self) -> dict[str, str]:
        return {"endpoint_id": self.endpoint, "service": str(self.service)}

    def _judge(self, *, passed: bool) -> bool:
        """Is it otherwise than it was, by this check and those before?"""
        if passed is self.well:
            self._in_a_row = 0
            return False
        self._in_a_row += 1
        if self._in_a_row < self._needed[passed]:
            return False
        self.well, self._in_a_row = passed, 0
        return True

    async def _check(self, partings: trio.Nursery) -> str:
        """What is wrong with the service; empty for nothing. Its connection is closed in `partings`."""
        why, connection = "", None
        try:
            with trio.fail_after(self._config.timeout):
                connection = await self.service.dial()
                if self._config.check == "http":
                    await self._ask(connection)
            partings.start_soon(_part_from, connection)
            connection = None
        except trio.TooSlowError:
            why = f"no answer within {self._config.timeout:g} s"
        except (OSError, RemoteProtocolError, Ill) as error:
            why = str(error) or type(error).__name__
        finally:
            if connection is not None:
                connection.abort()
        self.checks["failed" if why else "passed"] += 1
        return why

    async def _ask(self, connection: Connection) -> None:
        """Raises Ill for an answer that is none of 2xx and 3xx."""
        path = self.service.path.rstrip("/") + self._config.path
        fields = [(b"Host", self.service.authority), (b"User-Agent", b"trioduct"), (b"Connection", b"close")]
        connection.put(http1.encode_request(b"GET", path.encode(), fields))
        status = 0
        while status < 200:
            status = http1.parse_response(await read_head(connection), b"GET").status
        if status >= 400:
            raise Ill(f"status {status} for {self._config.path}")


async def _part_from(connection: Connection) -> None:
    """Close it, and wait for a moment for the other end to do so."""
    try:
        connection.close()
        with trio.move_on_after(FAREWELL_SECONDS):
            await connection.run()
    finally:
        connection.abort()


def figures(healths: list[Health]) -> list[tuple[str, str, bool, dict[str, int]]]:
    """Endpoint, service, whether it is well, and how many checks have had which result."""
    return [(one.endpoint, str(one.service), one.well, dict(one.checks)) for one in healths]
