"""An endpoint of a node as a listener of Trio: an agent whose service is this program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import trio

from engine.agent.uplink import HINT, Uplink
from engine.errors import Unreachable
from engine.session.stream import Stream
from trioduct.host import Host, open_host
from trioduct.settings import NONE, agent_way, kinds_of, server_of
from trioduct.stream import TunnelStream

WAITING_STREAMS: Final = 1024  # that nobody has accepted; more are reset
FAREWELL_SECONDS: Final = 1.0  # for what was said last to leave


class EndpointListener(trio.abc.Listener[TunnelStream]):
    """The streams that a node opens for one endpoint. `refused` counts those that were reset, for too many waited."""

    def __init__(self, host: Host) -> None:
        self.refused = 0
        self.public_url = ""  # how clients reach the endpoint, if the node has told it
        self._host = host
        self._send, self._receive = trio.open_memory_channel[TunnelStream](WAITING_STREAMS)
        self._error: Exception | None = None

    async def accept(self) -> TunnelStream:
        """The next stream.

        Raises trio.ClosedResourceError once this is closed, and trio.BrokenResourceError, caused by Refused, when the
        node will not have us any more. Every other loss is made up for by connecting again.
        """
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            if self._error is not None:
                raise trio.BrokenResourceError(str(self._error)) from self._error
            raise trio.ClosedResourceError("this listener was closed") from None

    async def aclose(self) -> None:
        """Take no more streams. Those that were accepted go on."""
        self._close()
        await trio.lowlevel.checkpoint()

    def _close(self) -> None:
        self._send.close()
        while True:
            try:
                self._receive.receive_nowait().abort()
            except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
                return

    def _failed(self, error: Exception) -> None:
        self._error = error
        self._close()

    def _on_stream(self, stream: Stream) -> None:
        one = TunnelStream(stream, self._host.reactor)
        try:
            self._send.send_nowait(one)
        except (trio.WouldBlock, trio.ClosedResourceError, trio.BrokenResourceError):
            self.refused += 1
            one.abort()
        self._host.reactor.hand_over()


@asynccontextmanager
async def listen(
    endpoint: str, *, url: str = "", token: str = "", settings: Mapping[str, str] = NONE
) -> AsyncIterator[EndpointListener]:
    """Offer `endpoint` at the node whose upstream port is at `url`; in the block it is registered.

    `settings` are further keys of `connect` in an agent's configuration, as {"proxy_url": "http://proxy:3128"}. What is
    not given is taken from the environment, as by an agent. Streams carry what clients say: HTTP from the proxy port,
    or bytes from a TCP client.

    Raises ConfigError, Refused if the node says no, and Unreachable if there is no node in time (`timeout`).
    Streams that are open when the block is left are lost.
    """
    connect = agent_way(url, token, settings)
    if not endpoint or "/" in endpoint or not endpoint.isprintable():
        raise ValueError(f"endpoint is {endpoint!r}; expected a name without /")
    host = await open_host()
    listener = EndpointListener(host)
    scope = trio.CancelScope()
    with host.entered():
        uplink = Uplink(
            endpoint,
            server_of(connect),
            listener._on_stream,
            token=connect.read_token,
            tenant=connect.tenant_id,
            resume_seconds=connect.resume,
            kinds=kinds_of(connect),
            summaries=False,  # streams are plain HTTP, for anybody who reads that
        )
    registered = trio.Event()
    failure: list[Exception] = []

    class Started(trio.TaskStatus[None]):
        def started(self, value: None = None) -> None:
            registered.set()

    async def run() -> None:
        try:
            with scope:
                await uplink.run(Started())
        except* Exception as errors:
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            assert isinstance(error, Exception)
            failure.append(error)
            listener._failed(error)
        registered.set()

    host.start(f"endpoint {endpoint}", run)
    try:
        with trio.move_on_after(connect.timeout) as waiting:
            await registered.wait()
        if failure:
            raise failure[0]
        if waiting.cancelled_caught:
            why = uplink.error or "no answer"
            raise Unreachable(f"not connected within {connect.timeout:g} s: {why}; {HINT}")
        if uplink.reach is not None:
            listener.public_url = uplink.reach.url
        yield listener
    finally:
        listener._close()
        with trio.move_on_after(0, shield=True):  # says so, and does not wait for what is under way
            await uplink.leave()
        uplink.close()
        with trio.move_on_after(FAREWELL_SECONDS, shield=True):
            await uplink.wait_closed()
        scope.cancel()
