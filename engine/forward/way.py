"""The way to an endpoint: what carries a connection of the forward's there, and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from engine.carriers.carrier import Carrier, Kind
from engine.carriers.ladder import Answer, Ladder
from engine.errors import Unreachable
from engine.loop.duplex import Duplex
from engine.session.dialled import Dialled, open_carrier
from engine.session.session import Session

Done = Callable[[Exception | None], None]
"""Called once, when nothing more is to pass."""


@dataclass(frozen=True, slots=True)
class Way:
    """To an endpoint."""

    endpoint: str
    ladder: Ladder
    seconds: float  # in which the node has to answer
    resume_seconds: int  # for which a connection outlives its carrier
    dials: trio.CapacityLimiter

    async def open(self) -> tuple[Carrier, Answer]:
        """A carrier to the endpoint. Raises Refused and Unreachable."""
        try:
            with trio.fail_after(self.seconds):
                return await open_carrier(self.ladder, self.resume_seconds)
        except trio.TooSlowError:
            raise Unreachable(f"no answer within {self.seconds:g} s") from None

    async def carry(
        self,
        carrier: Carrier,
        answer: Answer,
        join: Callable[[Duplex, Done], object],
        run: Callable[[], Awaitable[None]],
    ) -> None:
        """Give the duplex that leads to the endpoint to `join`, and let it carry, beside `run`, until both are done."""
        if carrier.kind is Kind.WEBSOCKET and answer.session is None:
            join(carrier, lambda error: None)
            # Each side ends by itself when both its directions have; if one task is cancelled, both sides break.
            async with trio.open_nursery() as nursery:
                nursery.start_soon(carrier.run)
                nursery.start_soon(run)
        else:
            await self._carry_in_session(carrier, join, run)

    async def _carry_in_session(
        self, carrier: Carrier, join: Callable[[Duplex, Done], object], run: Callable[[], Awaitable[None]]
    ) -> None:
        """The same in a stream, the only one of a session."""
        session = Session(carrier, accepts=False)
        over = trio.Event()

        def done(error: Exception | None) -> None:
            over.set()
            session.reactor.hand_over()

        async def finish() -> None:
            await over.wait()
            await session.wait_quiet()
            session.close()

        join(session.open(), done)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            nursery.start_soon(finish)
            await Dialled(session, self.ladder, self.dials, self.endpoint).run()
