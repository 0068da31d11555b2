"""A TCP listener: one connection to the service per stream, relayed."""

from __future__ import annotations

import trio

from engine.admin.metrics import AgentMetrics
from engine.agent.service import Service
from engine.errors import RemoteProtocolError
from engine.log import get_logger
from engine.loop.reactor import Reactor
from engine.session.stream import Stream
from engine.tunnel.relay import Relay
from engine.wire import clients, proxy_protocol

HEADER_SECONDS = 10.0

log = get_logger("proxy.tcp")
access_log = get_logger("proxy.tcp.access")


class TcpUpstream:
    """Joins each stream to a connection of its own, which runs in `nursery`.

    `access_level` is that of the lines which say that a connection was opened, and closed.
    """

    def __init__(
        self,
        service: Service,
        endpoint: str,
        reactor: Reactor,
        metrics: AgentMetrics,
        nursery: trio.Nursery,
        access_level: str = "debug",
    ) -> None:
        self.endpoint = endpoint
        self.service = service
        self._reactor = reactor
        self._nursery = nursery
        self._metrics = metrics
        self._access_level = access_level

    def close(self) -> None:
        """Nothing is kept here."""

    def on_stream(self, stream: Stream) -> None:
        waiting = _Told(stream) if self.service.proxy_protocol else Waiting(stream)
        self._nursery.start_soon(self._reactor.supervise, "tcp stream", self._serve, stream, waiting, name="tcp stream")
        self._reactor.hand_over()

    async def _serve(self, stream: Stream, waiting: Waiting) -> None:
        client = None
        if isinstance(waiting, _Told):
            with trio.move_on_after(HEADER_SECONDS):
                await waiting.over.wait()
            if not waiting.header:
                error = str(waiting.error or "it says nothing")
                log.warning("the node has not told who the client is", endpoint_id=self.endpoint, error=error)
                stream.abort()
                return
            client = waiting.client
        try:
            connection = await self.service.connect(self._metrics, log, self.endpoint, client)
        except (OSError, trio.TooSlowError):
            stream.abort()
            return
        if waiting.is_lost or stream.gone:
            connection.abort()
            return
        relay = Relay(stream, connection)
        if waiting.has_ended:
            stream.receiver.ended()
        stream.resume()
        access_log.log(self._access_level, "connection opened", endpoint_id=self.endpoint)
        begun = trio.current_time()
        try:
            await connection.run()
        finally:
            if not stream.gone:
                stream.abort()
            bytes_in, bytes_out = relay.passed
            self._metrics.tcp_done(self.endpoint, bytes_in, bytes_out)
            access_log.log(
                self._access_level,
                "connection closed",
                endpoint_id=self.endpoint,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                seconds=round(trio.current_time() - begun, 3),
            )


class Waiting:
    """The receiver of a stream whose connection to the service is being made: the stream keeps what it brings."""

    idle = False

    def __init__(self, stream: Stream) -> None:
        self.has_ended = False
        self.is_lost = False
        self._stream = stream
        stream.receiver = self
        stream.pause()

    def received(self, data: memoryview) -> int:
        return 0

    def ended(self) -> None:
        self.has_ended = True

    def lost(self, error: Exception) -> None:
        self.is_lost = True

    def drained(self) -> None: ...

    def break_off(self, error: Exception) -> None:
        self.is_lost = True


class _Told(Waiting):
    """The receiver of a stream that begins with who its client is (see wire.clients); what is behind that waits."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.over = trio.Event()  # the header has come, or will not
        self.header = b""
        self.client: clients.Client | None = None
        self.error: RemoteProtocolError | None = None
        self._begun = b""
        stream.resume()

    def received(self, data: memoryview) -> int:
        if self.over.is_set():
            return 0
        known = len(self._begun)
        self._begun += data[: proxy_protocol.MOST - known]
        try:
            end = proxy_protocol.header_end(self._begun)
            if end < 0:
                return len(data)
            self.header = self._begun[:end]
            self.client = proxy_protocol.source(self.header)
        except RemoteProtocolError as error:
            self.error, self.header, end = error, b"", known
        self._stream.pause()
        self._tell()
        return end - known

    def ended(self) -> None:
        super().ended()
        self._tell()

    def lost(self, error: Exception) -> None:
        super().lost(error)
        self._tell()

    def break_off(self, error: Exception) -> None:
        super().break_off(error)
        self._tell()

    def _tell(self) -> None:
        self.over.set()
        self._stream.session.reactor.hand_over()
