"""The side requests come from: reads them one after the other, has each routed, and sends its answer back."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Final

from engine.errors import HTTPError
from engine.gateway import retry
from engine.gateway.clocks import LEAVING_SECONDS, SCARCE_SECONDS, Pace, Verdict, verdict
from engine.gateway.exchange import Exchange
from engine.gateway.head import answer_head
from engine.gateway.outbound import Outbound
from engine.gateway.partial import Partial
from engine.gateway.role import Decision, Refuse, Role, Route, TakeOver, Wait
from engine.gateway.states import Answer, Request
from engine.log import get_logger
from engine.loop.connection import Connection
from engine.loop.duplex import NOBODY, Bytes, Duplex
from engine.loop.reactor import Reactor
from engine.tunnel.paced import paced
from engine.tunnel.relay import Relay
from engine.wire import http1, piko
from engine.wire.http1 import Response
from engine.wire.http1.body import Body

UNREAD_BYTES: Final = 256 * 1024  # of answers: who has left more unread gets no further one

_FRESH, _IDLE, _HEAD, _EXPECTING, _BODY, _WHOLE, _OVER = Request
_ROUTING, _AWAITED, _BEGUN, _DONE = Answer

log = get_logger("proxy.http")


class Inbound:
    """A connection or stream of requests. Owns nothing: who made the inlet closes it, but for what HTTP says."""

    __slots__ = (
        "_body",
        "_carries",
        "_ended",
        "_outbound",
        "_pace",
        "_partial",
        "_stays",
        "_wait",
        "deadline",
        "exchange",
        "inlet",
        "last",
        "leaving",
        "reactor",
        "role",
        "state",
    )

    def __init__(self, inlet: Duplex, role: Role, reactor: Reactor) -> None:
        self.inlet = inlet
        self.role = role
        self.reactor = reactor
        self.state = Request.FRESH
        self.exchange: Exchange | None = None
        self.last = False  # no request after this one
        self.leaving = False
        self._carries = False  # it was taken over, and may have been given back
        self._stays = False  # for the next request of who had taken it over
        self._ended = False  # the other end has said its last byte, behind a whole request
        self._partial = Partial(inlet.account)
        self._outbound: Outbound | None = None  # the way of the request that is under way
        self._body = Body()
        self._pace = Pace()
        self._wait: Wait | None = None  # in ROUTING
        self.deadline = reactor.now + role.timeouts.head
        inlet.receiver = self
        reactor.clock(self)

    def __repr__(self) -> str:
        answer = "" if self.exchange is None else f" {self.exchange.answer.name}"
        return f"<Inbound {self.state.name}{answer} on {self.inlet!r}>"

    @property
    def idle(self) -> bool:
        return self.exchange is None

    @property
    def trickles(self) -> bool:
        """Does a request's body come so slowly that its place may be given to others?"""
        exchange = self.exchange
        return (
            self.state is _BODY
            and exchange is not None
            and self._pace.trickles(self.reactor.now, exchange.bytes_in, SCARCE_SECONDS)
            and not self._holds_back
        )

    @property
    def _holds_back(self) -> bool:
        """Does a body not go on because of us?"""
        return self._outbound is not None and self._outbound.outlet.backlog > 0

    @property
    def request_is_whole(self) -> bool:
        return self.state is _WHOLE

    # -- requests

    def received(self, data: memoryview) -> int:
        known = len(self._partial.data)
        if known:
            data = self._partial.join(data)
        position, size = 0, len(data)
        try:
            while position < size:
                state = self.state
                if state <= _HEAD:
                    if not known and self.inlet.backlog > UNREAD_BYTES:
                        # An answer is done when it is queued; who asks and asks, and reads nothing, has to wait.
                        self.inlet.pause()
                        break
                    found = self.role.next_request(data, position)
                    if found is None:
                        self._keep_partial(data[position:])
                        return size - known
                    request, end = found
                    position = end + self._begin(request, data[end:])
                elif state <= _BODY:
                    taken = self._go_on(data[position:])
                    if not taken:
                        break
                    position += taken
                elif state is _WHOLE:
                    # The next request, ahead of its turn; or the first words of a protocol that is being switched to.
                    self.inlet.pause()
                    break
                else:
                    break
                if position < size and self.reactor.over():
                    break
        except HTTPError as error:
            self._refuse(error)
            return size - known
        if position < size and self.inlet.receiver is NOBODY:
            return size - known
        return position - known

    def _keep_partial(self, data: memoryview) -> None:
        if self.state is not _HEAD:
            self.state = _HEAD
            self.deadline = self.reactor.now + self.role.timeouts.head
        self._partial.keep(data)

    def _begin(self, request: http1.Request, rest: memoryview) -> int:
        """Start an exchange; how much of `rest` belongs to it."""
        self.exchange = exchange = Exchange(request)
        if not request.keep_alive or self.leaving:
            self.last = True
        if request.body:
            self.role.retries.begin(exchange)
            self._body.begin(request.body)
            self.state = _EXPECTING if request.expect_continue and not rest else _BODY
            if self.state is _BODY:
                self._await_body(exchange)
            else:
                self.deadline = self.reactor.now + self.role.timeouts.answer
        else:
            self.state = _WHOLE
            self.deadline = self.reactor.now + self.role.timeouts.answer
        decision = self.role.begin(self, exchange, None)
        if type(decision) is Route:
            self._outbound = decision.outbound  # ours from here on: what is wrong with the body ends it
        parts: list[Bytes] = []
        taken = 0
        if rest and self.state is _BODY and not isinstance(decision, Wait | TakeOver):
            parts = self._receive_body(exchange, rest)
            taken = self._body.taken
            self._pace.begin(self.reactor.now, exchange.bytes_in)
        if type(decision) is Route:
            self._send(exchange, decision, parts)
        else:
            self.decide(exchange, decision)
        return taken

    def decide(self, exchange: Exchange, decision: Decision) -> None:
        """Carry out what the role has decided about `exchange`, now or (after Wait) later."""
        if self.exchange is not exchange or exchange.answer is not _ROUTING:
            return
        waited, self._wait = self._wait is not None, None
        if isinstance(decision, Route):
            if self.state is _BODY:
                self._await_body(exchange)
            else:
                self.deadline = self.reactor.now + self.role.timeouts.answer
            self._send(exchange, decision, list(exchange.kept or ()))
            if self.state is not _WHOLE:
                self.inlet.resume()
        elif isinstance(decision, Refuse):
            self.fail(decision.status, decision.text, decision.retry_after, decision.challenge)
        elif isinstance(decision, Wait):
            self._wait = decision
            self.deadline = decision.deadline
            self.inlet.pause()
        else:
            self._take_over(exchange, decision)
            if waited:
                self.inlet.resume()

    def _send(self, exchange: Exchange, route: Route, parts: list[Bytes]) -> None:
        outbound = route.outbound
        self._outbound = outbound
        exchange.attempts += 1
        exchange.answer = _AWAITED
        outbound.start(self, exchange)
        if not outbound.outlet.put(route.head, *parts):
            self.inlet.pause()

    def _go_on(self, data: memoryview) -> int:
        """More of the body has come; how much of `data` belongs to it."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.answer is _ROUTING:
            self.inlet.pause()
            return 0
        if self.state is _EXPECTING:  # it has not waited
            self.state = _BODY
            self._await_body(exchange)
        parts = self._receive_body(exchange, data)
        if self._outbound is not None:
            outlet = self._outbound.outlet
            if not outlet.put(*parts):
                self.inlet.pause()
            self.inlet.read_at_most(outlet.room)
        return self._body.taken

    def _receive_body(self, exchange: Exchange, data: memoryview) -> list[Bytes]:
        body = self._body
        parts = body.receive(data)
        exchange.bytes_in += body.taken
        if exchange.watch is not None:
            exchange.watch.request_body(data[: body.taken])
        if exchange.kept is not None:
            retry.keep(exchange, parts, self.inlet.account)
        if body.done:
            self.state = _WHOLE
            self.deadline = math.inf if exchange.answer is _BEGUN else self.reactor.now + self.role.timeouts.answer
        return parts

    def _await_body(self, exchange: Exchange) -> None:
        self._pace.begin(self.reactor.now, exchange.bytes_in)
        self.deadline = self.reactor.now + self.role.timeouts.pause

    def ended(self) -> None:
        if self.state <= _HEAD:
            self._close()
        elif self.state is not _WHOLE:
            # The request can't become whole any more; what has come of it must not look as if it were.
            self._give_up(400)
        else:
            self.last = self._ended = True

    def lost(self, error: Exception) -> None:
        self.reactor.unclock(self)
        self.state = _OVER
        self._partial.drop()
        exchange = self.exchange
        if exchange is not None:
            if exchange.watch is not None:
                exchange.watch.failed(f"the client's side is gone: {error}")
            self._drop_outbound()
            self._finish(exchange, exchange.status or 499)

    def drained(self) -> None:
        exchange = self.exchange
        if exchange is None:
            self.inlet.resume()
        elif self._outbound is not None:
            self._outbound.outlet.read_at_most(self.inlet.room)
            self._outbound.outlet.resume()

    def break_off(self, error: Exception) -> None:
        self.reactor.unclock(self)
        self.state = _OVER
        self._partial.drop()
        self.inlet.abort()
        exchange = self.exchange
        if exchange is not None:
            self._drop_outbound()
            self._finish(exchange, exchange.status or 500)

    # -- answers

    def interim(self, exchange: Exchange, response: Response) -> None:
        """Pass a 1xx answer on at once. HTTP/1.0 knows none (RFC 9110, 15.2)."""
        request = exchange.request
        if request is not None and request.version == 11:
            self.inlet.put(http1.encode_lines(response.lines))
        if response.status == 100 and self.state is _EXPECTING:
            self.state = _BODY
            self._await_body(exchange)

    def begin_answer(self, exchange: Exchange, response: Response) -> bytes:
        """The final answer's head, as it goes to the client."""
        request = exchange.request
        assert request is not None
        if exchange.amend is not None:
            response = exchange.amend(request, response)
        exchange.answer = _BEGUN
        exchange.response = response
        exchange.status = response.status
        exchange.first_byte_at = perf_counter()
        if exchange.kept:
            retry.forget(exchange, self.inlet.account)
        if self.state is _WHOLE:
            self.deadline = math.inf
        else:
            self.last = True
        # Without a length, the end of the connection has to say where the answer ends.
        if self.leaving or (response.body < 0 and request.version == 10):
            self.last = True
        return answer_head(response, request.version, self.last)

    def answer_done(self, exchange: Exchange) -> None:
        """The answer has been passed on to its last byte."""
        self._outbound = None
        if self.state is not _WHOLE:
            self.last = True
        self._finish(exchange, exchange.status)
        self._next()

    def outbound_lost(self, exchange: Exchange, outbound: Outbound, error: Exception) -> None:
        """The way the request went is gone, and the answer was not complete."""
        self._outbound = None
        request = exchange.request
        assert request is not None
        if exchange.watch is not None:
            exchange.watch.failed(f"the connection to the service was lost: {error}")
        if exchange.answer is _BEGUN:
            log.warning("response aborted", endpoint_error=str(error), path=request.target)
            self._give_up(exchange.status)
        elif self._may_repeat(exchange, retry.LOST):
            self.ask_another(exchange, outbound)
        else:
            log.warning("upstream unreachable", error=str(error), path=request.target)
            self.fail(502, piko.UPSTREAM_UNREACHABLE)

    def passes_over(self, exchange: Exchange, status: int) -> bool:
        """Whether another is asked, and an answer of this status not passed on."""
        outbound = self._outbound
        return outbound is not None and self._may_repeat(exchange, str(status), outbound)

    def _may_repeat(self, exchange: Exchange, cause: str, outbound: Outbound | None = None) -> bool:
        """Whether it is sent once more; if that makes sense only elsewhere, `outbound` is where it was sent."""
        role = self.role
        if not role.retries.cover(exchange, cause, whole=self.state is _WHOLE):
            return False
        if outbound is not None and not role.has_another(exchange, outbound):
            return False
        return role.retries.spend(exchange, cause)

    def ask_another(self, exchange: Exchange, outbound: Outbound) -> None:
        """It is sent once more; `outbound` is done with it."""
        self._outbound = None
        exchange.answer = _ROUTING
        self.decide(exchange, self.role.begin(self, exchange, outbound))

    def fail(self, status: int, message: str, retry_after: int = 0, challenge: bytes = b"") -> None:
        """Answer with an error of our own (JSON, as Piko's, or a page) if there is no other yet; else break off."""
        exchange = self.exchange
        if exchange is None:
            self.exchange = exchange = Exchange(None)
        if exchange.answer is _BEGUN:
            self._give_up(status)
            return
        self._drop_outbound()
        if self.state is not _WHOLE:
            self.last = True
        page = self.role.pages.of(exchange.request, status)
        answer = http1.error_response(
            status, message, close=self.last, retry_after=retry_after, challenge=challenge, page=page
        )
        head, end, body = answer.partition(b"\r\n\r\n")
        if exchange.request is not None and exchange.request.method == b"HEAD":
            answer, body = head + end, b""
        exchange.bytes_out = len(body)
        self.inlet.put(answer)
        self._finish(exchange, status)
        self._next()

    def _refuse(self, error: HTTPError) -> None:
        """What came is not HTTP, or not HTTP as it has to be: one answer, and nothing more is read (9112, 9.6)."""
        log.info("request refused", error=str(error), status=error.status)
        if self.state is _WHOLE:  # an error in what follows it
            self._give_up(error.status)
        else:
            self.fail(error.status, error.public)

    def _give_up(self, status: int) -> None:
        """Break off, visibly."""
        self.state = _OVER
        self.reactor.unclock(self)
        self._partial.drop()
        exchange = self.exchange
        if exchange is not None:
            self._drop_outbound()
            self._finish(exchange, status)
        self.inlet.abort()

    def _drop_outbound(self) -> None:
        outbound, self._outbound = self._outbound, None
        if outbound is not None:
            outbound.discard()

    def _finish(self, exchange: Exchange, status: int) -> None:
        wait, self._wait = self._wait, None
        if wait is not None:
            wait.forget()
        if exchange.kept:
            retry.forget(exchange, self.inlet.account)
        self.exchange = None
        exchange.answer = _DONE
        exchange.status = status
        try:
            self.role.finished(self, exchange)
        except Exception as error:  # what is told of an exchange does not change how it went
            self.reactor.count("finished", error, self)

    def _next(self) -> None:
        """After an answer: the next request, or the end."""
        if self.last:
            self._close()
            return
        self.state = _IDLE
        self.deadline = self.reactor.now + (LEAVING_SECONDS if self.leaving else self.role.timeouts.idle)
        self.inlet.resume()

    def _close(self) -> None:
        self.state = _OVER
        self.reactor.unclock(self)
        self._partial.drop()
        self.inlet.close()

    def leave(self, *, carriers: bool = True) -> None:
        """The role is leaving: no request after the one under way. An idle connection gets the second in which one
        may be on its way to us; if `carriers` do not leave, one that was taken over before stays for its next request.
        """
        self.leaving = True
        self._stays = self._carries and not carriers
        if self.state <= _IDLE and not self._stays:
            self.deadline = self.reactor.now + LEAVING_SECONDS

    # -- protocols that are not HTTP any more

    def _take_over(self, exchange: Exchange, decision: TakeOver) -> None:
        self.state = _OVER
        self._carries = True
        self.reactor.unclock(self)
        self.exchange = None
        exchange.status = 101
        exchange.answer = _BEGUN
        exchange.first_byte_at = perf_counter()
        decision.start()

    def take_back(self) -> None:
        """What had taken over is done, and the next request is HTTP again."""
        self.state = _IDLE
        leaving = self.leaving and not self._stays
        self.deadline = self.reactor.now + (LEAVING_SECONDS if leaving else self.role.timeouts.idle)
        self.inlet.receiver = self
        self.reactor.clock(self)
        self.inlet.resume()

    def switch(self, exchange: Exchange, response: Response) -> None:
        """101: from here on the two sides are relayed, whatever they speak (RFC 9110, 7.8).

        What either has said already and was not taken, it will say to the relay.
        """
        outbound, request = self._outbound, exchange.request
        assert outbound is not None
        assert request is not None
        upgrade = [b"Connection: Upgrade", b"Upgrade: " + (response.upgrade or request.upgrade)]
        outlet = outbound.outlet
        if exchange.watch is not None:
            outlet = exchange.watch.switched(response, outlet)
        self._outbound = None
        outbound.leave()

        def done(error: Exception | None) -> None:
            exchange.bytes_in, exchange.bytes_out = relay.passed
            self._finish(exchange, 101)

        def start() -> None:
            self.inlet.put(http1.encode_lines(response.lines + upgrade))

        relay = Relay(paced(self.inlet, exchange.pace, self.reactor), outlet, done)
        if exchange.expires_at < math.inf:
            relay.end_at(exchange.expires_at, self.reactor)
        self._take_over(exchange, TakeOver(start))
        if self._ended:  # which the relay has not heard
            self.inlet.receiver.ended()
        self.inlet.resume()

    # -- clocks

    def expired(self) -> None:
        exchange = self.exchange
        found = verdict(self.state, None if exchange is None else exchange.answer)
        if found is Verdict.CLOSE or exchange is None:
            if found is Verdict.REFUSE_HEAD:
                self._refuse(HTTPError(408, "the head took too long"))
            else:
                self._close()
        elif found is Verdict.LOOK_AT_BODY:
            if self._pace.moves(self.reactor.now, exchange.bytes_in) or self._holds_back:
                self.deadline = self.reactor.now + self.role.timeouts.pause
            else:
                self.fail(408, "request body took too long")
        elif found is Verdict.TIMEOUT:
            log.warning("upstream timeout", path=exchange.request.target if exchange.request else b"")
            if exchange.watch is not None:
                exchange.watch.failed(f"the service did not answer within {self.role.timeouts.answer:g} s")
            outbound = self._outbound
            if outbound is not None and self._may_repeat(exchange, retry.TIMEOUT, outbound):
                outbound.discard()
                self.ask_another(exchange, outbound)
            else:
                self.fail(504, piko.UPSTREAM_TIMEOUT)
        elif found is Verdict.REFUSE_WAIT and self._wait is not None:
            self.fail(*self._wait.otherwise)


def dawdles(connection: Connection) -> bool:
    """Does its client send a body, or take an answer, so slowly that its place may be given to others?"""
    inbound = connection.receiver
    return isinstance(inbound, Inbound) and (inbound.trickles or connection.stalled_seconds >= SCARCE_SECONDS)
