"""The session of who dials, an agent or a forward: it is given another carrier when it loses its own.

A session that is not resumable runs on its one carrier to its end. A resumable one has a task that looks for the next
carrier as soon as one is lost, and one that looks now and then whether a better one gets through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from engine.carriers.carrier import Carrier
from engine.carriers.ladder import Answer, Ladder
from engine.carriers.resumable import Resumable, State
from engine.errors import Refused, Unreachable
from engine.log import get_logger
from engine.loop.backoff import Backoff
from engine.session.session import Session
from engine.wire.resumption import New, Opened, Resumed

BLANK_SECONDS: Final = 5.0  # in which a carrier that is open brings something: there is always a ping
IMPROVE_SECONDS: Final = 300.0  # between two looks whether a better carrier gets through
FAREWELL_SECONDS: Final = 3.0  # for what a session has said last to leave
AGAIN_CEILING_SECONDS: Final = 1.0  # between two attempts to resume

log = get_logger("client")


async def open_carrier(ladder: Ladder, resume_seconds: int) -> tuple[Carrier, Answer]:
    """A carrier for a new session, resumable if the node agrees. Raises Unreachable and Refused."""
    wish = New(resume_seconds) if resume_seconds else None
    carrier, answer = await ladder.open(lambda: wish)
    if isinstance(answer.session, Opened):
        carrier = Resumable(carrier, answer.session.id, answer.session.seconds)
    return carrier, answer


class Dialled:
    """Runs `session`, whose carrier came from `ladder`; `dials` bounds how many dial at once."""

    def __init__(self, session: Session, ladder: Ladder, dials: trio.CapacityLimiter, endpoint: str) -> None:
        self._session = session
        self._ladder = ladder
        self._dials = dials
        self._endpoint = endpoint

    async def run(self) -> None:
        """Serve until the session ends."""
        carrier = self._session.carrier
        if not isinstance(carrier, Resumable):
            await self._watch(carrier, self._session.run)
            return
        async with trio.open_nursery() as carriers:
            carriers.start_soon(self._watch, carrier.carrier, carrier.carrier.run)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._resume, carrier, carriers)
                nursery.start_soon(self._improve, carrier, carriers)
                await self._session.run()
                nursery.cancel_scope.cancel()
            carriers.cancel_scope.deadline = trio.current_time() + FAREWELL_SECONDS

    async def _watch(self, carrier: Carrier, run: Callable[[], Awaitable[None]]) -> None:
        """Run what `carrier` needs, see whether anything comes through it, and tell the ladder how it went."""
        session = self._session
        since, before = trio.current_time(), session.bytes_in
        blank = False

        async def look() -> None:
            nonlocal blank
            await trio.sleep(BLANK_SECONDS)
            if session.bytes_in == before:
                blank = True
                carrier.fail(TimeoutError(f"nothing came through for {BLANK_SECONDS:g} s"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await run()
            nursery.cancel_scope.cancel()
        by_us = isinstance(session.error, ConnectionAbortedError)  # see Session.close
        if not carrier.farewell and not by_us:
            self._ladder.lost(carrier.kind, trio.current_time() - since, blank=blank)

    async def _resume(self, resumable: Resumable, carriers: trio.Nursery) -> None:
        """Look for the next carrier whenever one is lost."""
        backoff = Backoff()
        while True:
            while resumable.state is not State.SUSPENDED:
                await resumable.wait_change()
            log.info("connection lost, resuming the session", endpoint_id=self._endpoint, error=str(resumable.error))
            since, told = trio.current_time(), ""
            while resumable.state is State.SUSPENDED:
                try:
                    async with self._dials:
                        carrier, answer = await self._ladder.open(resumable.wish)
                except Unreachable as error:
                    delay = backoff.next(error.retry_after_seconds, ceiling=AGAIN_CEILING_SECONDS)
                    tell = log.debug if str(error) == told else log.warning
                    told = str(error)
                    tell("cannot connect", endpoint_id=self._endpoint, error=told, retry_seconds=round(delay, 2))
                    await trio.sleep(delay)
                except Refused as error:
                    self._session.lose(ConnectionResetError(f"the session cannot be resumed: {error}"))
                else:
                    if self._attach(resumable, carrier, answer, carriers):
                        backoff.settled()
                        seconds = round(trio.current_time() - since, 3)
                        log.info("session resumed", endpoint_id=self._endpoint, carrier=carrier.kind, seconds=seconds)

    def _attach(self, resumable: Resumable, carrier: Carrier, answer: Answer, carriers: trio.Nursery) -> bool:
        """Go on with `carrier`; False if the session cannot."""
        problem = "the node does not know what a resumption is"
        if resumable.state is State.CLOSED:
            problem = "it is over"
        elif isinstance(answer.session, Resumed):
            try:
                resumable.attach(carrier, answer.session.received)
            except ValueError as error:
                problem = str(error)
            else:
                carriers.start_soon(self._watch, carrier, carrier.run)
                return True
        carrier.abort()
        self._session.lose(ConnectionResetError(f"the session cannot be resumed: {problem}"))
        return False

    async def _improve(self, resumable: Resumable, carriers: trio.Nursery) -> None:
        """Now and then, see whether a better carrier gets through, and go on with that."""
        while True:
            await trio.sleep(IMPROVE_SECONDS)
            if resumable.state is not State.CARRIED or not self._ladder.may_improve:
                continue
            before = resumable.carrier
            async with self._dials:
                found = await self._ladder.open_better(resumable.wish)
            if found is None:
                resumable.resume()
            elif resumable.carrier is not before or resumable.state is not State.CARRIED:  # it was lost meanwhile
                found[0].abort()
            elif self._attach(resumable, *found, carriers):
                log.info("a better carrier gets through", endpoint_id=self._endpoint, carrier=found[0].kind)
