"""Where the service is, and how to connect to it."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass
from functools import partial

import trio

from engine.admin.metrics import AgentMetrics
from engine.log import Logger
from engine.loop import certificates
from engine.loop.certificates import Certificates
from engine.loop.connection import Address, Connection
from engine.loop.dial import dial_tcp, dial_unix
from engine.loop.listen import join_address
from engine.wire import proxy_protocol


@dataclass(frozen=True, slots=True)
class Service:
    """Where the service is and how to speak to it. `timeout`: seconds to connect, and for an answer to begin.

    With `unix`, the path of a socket, `host` is only what it is called.
    """

    host: str
    port: int
    unix: str = ""
    path: str = ""  # put before every request's target
    timeout: float = 10.0
    tls: ssl.SSLContext | Certificates | None = None
    server_name: str | None = None
    max_idle: int = 100  # kept-alive connections; -1 for no limit
    idle_seconds: float = 90.0
    proxy_protocol: int = 0  # the version by which it is told first who a connection is for; 0: it is not
    keep_alive_seconds: float = 30.0  # between TCP's own questions whether the other end lives

    def __str__(self) -> str:
        if self.unix:
            return self.host
        return f"{'http' if self.tls is None else 'https'}://{join_address(self.host, self.port)}{self.path}"

    @property
    def authority(self) -> bytes:
        """What a request of the agent's own names as its host."""
        return (self.host if self.unix else join_address(self.host, self.port)).encode()

    async def dial(self, client: Address | None = None) -> Connection:
        """A connection for `client`; None: the agent's own. Raises OSError; the deadline is the caller's."""
        if self.unix:
            return await dial_unix(self.unix)
        version, tls = self.proxy_protocol, certificates.now(self.tls)
        first = partial(proxy_protocol.encode, version, client) if version else None
        return await dial_tcp(self.host, self.port, tls=tls, server_name=self.server_name, first=first)

    async def connect(
        self, metrics: AgentMetrics, log: Logger, endpoint: str, client: Address | None = None
    ) -> Connection:
        """`dial`. Raises OSError, or TooSlowError after `timeout`, behind a line in the log."""
        since = trio.current_time()
        try:
            with trio.fail_after(self.timeout or math.inf):
                connection = await self.dial(client)
        except (OSError, trio.TooSlowError) as error:
            text = "timeout" if isinstance(error, trio.TooSlowError) else str(error)
            log.warning("upstream unreachable", endpoint_id=endpoint, host=self.host, port=self.port, error=text)
            raise
        connection.keep_alive(self.keep_alive_seconds)
        metrics.connected("service", trio.current_time() - since)
        return connection
