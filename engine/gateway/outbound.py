"""The side requests are sent to: reads the answer to the one that is under way, and passes it back."""

from __future__ import annotations

from typing import Final, Protocol

from engine.errors import HTTPError
from engine.gateway.exchange import Exchange
from engine.gateway.partial import Partial
from engine.gateway.states import Answer
from engine.log import get_logger
from engine.loop.duplex import FIRST_READ, Bytes, Duplex
from engine.loop.reactor import Reactor
from engine.wire import http1, piko
from engine.wire.http1 import Response
from engine.wire.http1.body import Body

_BEGUN: Final[Answer] = Answer.BEGUN
LEAST_STATUS: Final = 502  # that another may be asked for instead
MAX_INTERIM: Final = 64  # 1xx answers to one request
MAX_INTERIM_BYTES: Final = 64 * 1024

log = get_logger("proxy.http")


class Asker(Protocol):
    """Whose request is under way: what an outbound asks of it, and tells it."""

    inlet: Duplex
    reactor: Reactor

    @property
    def request_is_whole(self) -> bool:
        """The request has come to its last byte."""

    def interim(self, exchange: Exchange, response: Response) -> None:
        """A 1xx answer has come."""

    def passes_over(self, exchange: Exchange, status: int) -> bool:
        """A final answer of this status has come. Whether another is asked instead, which `ask_another` then does."""

    def ask_another(self, exchange: Exchange, outbound: Outbound) -> None: ...

    def begin_answer(self, exchange: Exchange, response: Response) -> bytes:
        """The final answer's head has come; as it goes on."""

    def answer_done(self, exchange: Exchange) -> None:
        """The answer has been passed on to its last byte."""

    def switch(self, exchange: Exchange, response: Response) -> None:
        """101 has come: both sides go on as bytes."""

    def fail(self, status: int, message: str) -> None:
        """There is no answer, for what came is none."""

    def outbound_lost(self, exchange: Exchange, outbound: Outbound, error: Exception) -> None:
        """The way is gone, and the answer was not complete."""

    def break_off(self, error: Exception) -> None: ...


class Outbound:
    """A way for requests, one after the other; makes itself the receiver of `outlet`.

    The subclass says what becomes of it between requests (`released`) and after the last (`gone`).
    """

    __slots__ = (
        "_body",
        "_exchange",
        "_inbound",
        "_interim",
        "_interim_bytes",
        "_max_head",
        "_partial",
        "_reusable",
        "outlet",
    )

    def __init__(self, outlet: Duplex, max_head: int = http1.MAX_HEAD) -> None:
        """Heads of answers have at most `max_head` bytes: http1.PEER_HEAD where an agent passes them on."""
        self.outlet = outlet
        self._max_head = max_head
        self._inbound: Asker | None = None  # whose request is under way
        self._exchange: Exchange | None = None
        self._body = Body()
        self._partial = Partial(outlet.account)
        self._interim = 0
        self._interim_bytes = 0
        self._reusable = True
        outlet.receiver = self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'idle' if self._exchange is None else 'asked'} on {self.outlet!r}>"

    @property
    def idle(self) -> bool:
        return self._exchange is None

    def released(self, exchange: Exchange) -> None:
        """`exchange` is over, whole, and another may follow: into the pool."""
        raise NotImplementedError

    def gone(self) -> None:
        """This outbound will serve no more; its outlet is closed by whoever calls this, or lost."""

    def start(self, inbound: Asker, exchange: Exchange) -> None:
        """The next request goes this way."""
        self._inbound = inbound
        self._exchange = exchange
        self._interim = self._interim_bytes = 0

    def leave(self) -> None:
        """Have nothing to do with the outlet any more."""
        self._inbound = self._exchange = None
        self._partial.drop()
        self.gone()

    def discard(self) -> None:
        """End the outlet, in the way that tells the other side that nobody wants the rest."""
        try:
            self.leave()
        finally:
            self.outlet.abort()

    # -- what the other side says

    def received(self, data: memoryview) -> int:
        inbound, exchange = self._inbound, self._exchange
        if inbound is None or exchange is None:
            # Bytes behind a complete answer belong to nobody, least of all to the next request (RFC 9112, 6.3).
            self.discard()
            return len(data)
        if exchange.answer is _BEGUN:
            return self._go_on(inbound, exchange, data)
        known = len(self._partial.data)
        if known:
            data = self._partial.join(data)
        try:
            return max(self._answer(inbound, exchange, data) - known, 0)
        except HTTPError as error:
            log.warning("invalid response", error=str(error))
            if exchange.watch is not None:
                exchange.watch.failed(f"the service's answer is not HTTP: {error}")
            inbound.reactor.call("refused answer", inbound, inbound.fail, 502, piko.UPSTREAM_UNREACHABLE)
            return len(data) - known

    def _answer(self, inbound: Asker, exchange: Exchange, data: memoryview) -> int:
        """Read heads, until the final one; how much was taken."""
        request = exchange.request
        assert request is not None
        position = 0
        while True:
            found = http1.next_response(data, position, request.method, self._max_head)
            if found is None:
                self._partial.keep(data[position:])
                return len(data)
            response, end = found
            begin, position = position, end
            if response.status >= LEAST_STATUS and inbound.passes_over(exchange, response.status):
                self.discard()
                inbound.reactor.call("another attempt", inbound, inbound.ask_another, exchange, self)
                return len(data)
            if response.status >= 200:
                self._reusable = response.keep_alive
                size = response.body
                if not 0 <= size <= len(data) - position:
                    return position + self._begin(inbound, exchange, response, data[position:])
                # The whole answer is here, as most are.
                exchange.bytes_out += size
                if exchange.watch is not None:
                    exchange.watch.answer_body(data[position : position + size])
                head = inbound.begin_answer(exchange, response)
                end = position + size
                inbound.inlet.put(head, data[position:end])
                if end != len(data):
                    self._reusable = False
                self._complete(inbound, exchange)
                return end
            if response.status == 101:
                if not request.upgrade:
                    raise HTTPError(502, "101 without having been asked to switch")
                try:
                    inbound.switch(exchange, response)
                except Exception as error:  # half of it is done: neither side may be left with the other
                    self.outlet.abort()
                    inbound.reactor.failed("switch", inbound, error)
                    return len(data)
                return position
            self._interim += 1
            self._interim_bytes += end - begin
            if self._interim > MAX_INTERIM or self._interim_bytes > MAX_INTERIM_BYTES:
                raise HTTPError(502, f"more than {MAX_INTERIM} interim answers, or {MAX_INTERIM_BYTES} bytes of them")
            inbound.interim(exchange, response)
            if position == len(data):
                return position

    def _begin(self, inbound: Asker, exchange: Exchange, response: Response, rest: memoryview) -> int:
        """The final answer's head has come; how much of `rest` belongs to it."""
        request = exchange.request
        assert request is not None
        body = self._body
        body.begin(response.body, chunks=request.version == 11)
        # The beginning of the body is read before the head is passed on: as long as it is not, an error can be told.
        parts: list[Bytes] = []
        taken = 0
        if rest and not body.done:
            parts = body.receive(rest)
            taken = body.taken
        exchange.bytes_out += taken
        if exchange.watch is not None:
            exchange.watch.answer_body(rest[:taken])
        self._pass_on(inbound, exchange, [inbound.begin_answer(exchange, response), *parts], len(rest) - taken)
        return taken

    def _go_on(self, inbound: Asker, exchange: Exchange, data: memoryview) -> int:
        """More of the answer's body has come; how much of `data` belongs to it."""
        body = self._body
        try:
            parts = body.receive(data)
        except HTTPError as error:
            self._lose(inbound, exchange, error)
            return len(data)
        exchange.bytes_out += body.taken
        if exchange.watch is not None:
            exchange.watch.answer_body(data[: body.taken])
        self._pass_on(inbound, exchange, parts, len(data) - body.taken)
        return body.taken

    def _pass_on(self, inbound: Asker, exchange: Exchange, parts: list[Bytes], left: int) -> None:
        """Send `parts` of the answer to the client; `left` bytes have come behind them."""
        more = inbound.inlet.put(*parts)
        if not self._body.done:
            self.outlet.read_at_most(inbound.inlet.room)
            if not more:
                self.outlet.pause()
        else:
            if left:
                self._reusable = False
            self._complete(inbound, exchange)

    def _complete(self, inbound: Asker, exchange: Exchange) -> None:
        self._inbound = self._exchange = None
        whole = inbound.request_is_whole
        try:
            if self._reusable and whole:
                # It may be held back still for this answer's client, and the next request is somebody else's.
                self.outlet.resume()
                self.outlet.read_at_most(FIRST_READ)
                self.released(exchange)
            else:
                self.gone()
                if whole:
                    self.outlet.close()
                else:
                    self.outlet.abort()
        finally:
            # From here on the two have nothing to do with each other: what raises there does not end this way, and what
            # has raised here does not leave the other without an end.
            try:
                inbound.answer_done(exchange)
            except Exception as error:
                inbound.reactor.failed("answer", inbound, error)

    def _lose(self, inbound: Asker, exchange: Exchange, error: Exception) -> None:
        """The answer will not become whole."""
        try:
            self.discard()
        finally:
            self._tell_lost(inbound, exchange, error)

    def _tell_lost(self, inbound: Asker, exchange: Exchange, error: Exception) -> None:
        """Nothing more comes this way."""
        inbound.reactor.call("outbound lost", inbound, inbound.outbound_lost, exchange, self, error)

    def ended(self) -> None:
        inbound, exchange = self._inbound, self._exchange
        if inbound is None or exchange is None:
            self.gone()
            self.outlet.close()
        elif exchange.answer is _BEGUN and self._body.until_close:
            inbound.inlet.put(self._body.end())
            self._reusable = False
            self._complete(inbound, exchange)
        else:
            self._lose(inbound, exchange, ConnectionError("closed before the answer was complete"))

    def lost(self, error: Exception) -> None:
        inbound, exchange = self._inbound, self._exchange
        try:
            self.leave()
        finally:
            if inbound is not None and exchange is not None:
                self._tell_lost(inbound, exchange, error)

    def drained(self) -> None:
        if self._inbound is not None:
            self._inbound.inlet.read_at_most(self.outlet.room)
            self._inbound.inlet.resume()

    def break_off(self, error: Exception) -> None:
        inbound = self._inbound
        try:
            self.discard()
        finally:
            if inbound is not None:
                inbound.break_off(error)
