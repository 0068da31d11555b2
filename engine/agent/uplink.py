"""One endpoint's way to its node: dial, register, serve, and dial again after every kind of loss.

When the node says go-away (it is draining), the next session is opened *before* the old one ends: requests go on
arriving on the old one until the node closes it, and on the new one as soon as it is registered.

Where the service is not well, there is no session: those that there are say go-away and end behind what is under way on
them, and the next is dialled when it is well again.

A node may consist of several workers, and says so. Then there is to be a session on each: which worker a connection
comes to is chance, so it is dialled until all have one, and what comes to one that has is ended again. What is lacking
in the end the node makes up for itself: a worker that has no session asks the others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import trio

from engine.agent.rhythm import Rhythm
from engine.carriers.carrier import LADDER, Carrier, Kind
from engine.carriers.ladder import Ladder, registration
from engine.carriers.remembered import Remembered
from engine.errors import Refused, Unreachable
from engine.log import get_logger
from engine.loop.backoff import LONGEST_SECONDS, SETTLED_SECONDS, Backoff
from engine.loop.dial import Server
from engine.session.dialled import Dialled, open_carrier
from engine.session.session import Session
from engine.session.stream import Stream
from engine.wire import agents, piko
from engine.wire.public_url import Reach
from engine.wire.workers import Seat

REPEAT_SECONDS = 60.0  # between lines that say the same
HINT = "run `trioduct doctor` with the same configuration: it checks each hop and says who can change what"
STRANGER = "it is Piko's or an older version, or something on the way has removed what the agent says of them"
HASTY_SECONDS = 1.0  # who sends us away sooner may do so for ever
RETURN_SECONDS = 30.0  # after a node has ended, it or another in its place is expected back
RETURN_CEILING_SECONDS = 1.0  # between two dials while it is expected
DIALS_PER_WORKER = 4  # until it is let be for a while
DIAL_AGAIN_SECONDS = 0.05  # behind one that came to the wrong worker; twice as long behind the next, and so on
DIAL_AGAIN_CEILING_SECONDS = 1.0
LACKING_SECONDS = 60.0  # a while, in the end; it begins with LACKING_FIRST_SECONDS
LACKING_FIRST_SECONDS = 4.0
RETIRE_SECONDS = 10.0  # for what has come by a session that is one too many

_OFFERED = trio.Event()  # for all whose service was never withdrawn
_OFFERED.set()

log = get_logger("client")


class Uplink:
    """Keeps `endpoint` registered. `on_stream` gets every stream a node opens.

    `token` is asked at each dial, so that a rotated one is picked up; a session waits for `resume_seconds` for the next
    carrier when its own is lost; `summaries`: who reads the streams understands them (see wire.http1.summary);
    `said_of_visitors` is asked at each dial whom the node may let in (see wire.visitors), None lets in anybody;
    `asks_for_clients`: who reads the streams wants to know whose they are (see wire.clients); it `claims` domains;
    `agent` is the name by which its node knows its sessions for one's, and `weight` its share of the clients (see
    wire.agents);
    `dials` bounds how many uplinks dial at once; `on_connect` is told how many seconds each registration took,
    `on_reconnect` the reason of every loss.
    """

    def __init__(
        self,
        endpoint: str,
        server: Server,
        on_stream: Callable[[Stream], None],
        *,
        token: Callable[[], str] = str,
        tenant: str = "",
        resume_seconds: float = 0,
        kinds: tuple[Kind, ...] = LADDER,
        remembered: Remembered | None = None,
        summaries: bool = True,
        said_of_visitors: Callable[[], bytes] | None = None,
        asks_for_clients: bool = False,
        claims: Sequence[str] = (),
        agent: str = "",
        weight: int = 1,
        dials: trio.CapacityLimiter | None = None,
        backoff: Backoff | None = None,
        on_connect: Callable[[float], None] | None = None,
        on_reconnect: Callable[[str], None] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.sessions: set[Session] = set()
        self.error: Exception | None = None  # why the last attempt to connect failed
        self.reach: Reach | None = None  # how clients reach the endpoint, if the node has told it
        self._server = server
        self._is_guarded = said_of_visitors is not None
        self._asks_for_clients = asks_for_clients
        errand = registration(
            server,
            endpoint,
            lambda: piko.credentials(token(), tenant),
            summaries=summaries,
            said_of_visitors=said_of_visitors,
            asks_for_clients=asks_for_clients,
            claims=claims,
            agent=agent or agents.new_name(),
            weight=weight,
        )
        self._claims = claims
        self._ladder = Ladder(errand, kinds, remembered)
        self._on_stream = on_stream
        self._resume_seconds = round(resume_seconds)
        self._dials = dials or trio.CapacityLimiter(1)
        self._backoff = backoff or Backoff()
        self._on_connect = on_connect
        self._on_reconnect = on_reconnect
        self._gone = trio.Event()  # a session is
        self._leaving = False
        self._offered = _OFFERED
        self._rhythm = Rhythm()
        self._complained = ("", 0.0)  # of what, and when
        self._over = trio.Event()  # the session is no more, or is to be replaced
        self._renewing = False  # with another token
        self._left: Session | None = None  # whose node has asked us to go away
        self._expected_until = -math.inf  # the node that we had, or another in its place
        self._seats: dict[Session, Seat] = {}  # the workers that sessions are with, if the node has several
        self._workers = 0  # how many it has
        self._lacking = trio.Event()  # there may be a worker without a session
        self._replaced: list[Session] = []  # beside the first: their workers have asked us to go away

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve for ever; started once the first registration stands, or if nothing is offered.

        Raises Refused when the node will not have us.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._spread, nursery)
            registered = False
            while True:
                if not self._offered.is_set():
                    self._withdraw(nursery)
                    if not registered:
                        registered = True
                        task_status.started()
                    await self._offered.wait()
                try:
                    async with self._dials:
                        replaces = self._renewing
                        since = trio.current_time()
                        carrier, seat = await self._register()
                except (Unreachable, Refused) as error:
                    # A new token that is refused costs nothing while the session of the old one lasts.
                    if isinstance(error, Refused) and not (self._renewing and self._left and self._left.alive):
                        raise
                    self.error = error
                    ceiling = RETURN_CEILING_SECONDS if self._node_is_expected() else LONGEST_SECONDS
                    asked = error.retry_after_seconds if isinstance(error, Unreachable) else None
                    delay = self._backoff.next(asked, ceiling=ceiling)
                    self._complain(str(error), delay)
                    await trio.sleep(delay)
                    continue
                if self._on_connect is not None:
                    self._on_connect(trio.current_time() - since)
                self._complained = ("", 0.0)
                self.error = None  # whose traceback would keep the connection that failed
                log.info(
                    "connected",
                    endpoint_id=self.endpoint,
                    url=self._server.url,
                    carrier=carrier.kind,
                    **_shown_seat(seat),
                    **self._shown_reach(),
                    **self._shown_failures(),
                )
                self._over = over = trio.Event()
                session = self._begin(carrier, over)
                self._take_seat(session, seat, nursery)
                if not self._offered.is_set():
                    over.set()
                if self._left is not None:
                    if replaces:
                        nursery.start_soon(_close_when_quiet, self._left)
                    self._left.go_away()  # tells the node that we have arrived elsewhere; what it still sends is served
                if replaces:
                    self._renewing = False
                elif self._renewing:  # the new token has come while the old one was under way
                    over.set()
                since = trio.current_time()
                self._start(session, nursery)
                if not registered:
                    registered = True
                    task_status.started()
                await over.wait()
                if self._leaving:
                    return
                if not session.alive:
                    self._learn_from(session)
                if not self._offered.is_set():
                    continue
                if self._renewing and session.alive and not session.away:
                    self._left = session
                    continue
                lasted = trio.current_time() - since
                hasty = lasted < HASTY_SECONDS
                if lasted >= SETTLED_SECONDS or (session.alive and not hasty):
                    self._backoff.settled()
                    self._expected_until = trio.current_time() + RETURN_SECONDS
                self._left = session if session.alive else None
                reason = "going away" if session.alive else _reason(session)
                log.warning(
                    "session ended, connecting again",
                    endpoint_id=self.endpoint,
                    reason=reason,
                    error=str(session.error or ""),
                    **({"hint": f"{HINT}: give it the endpoint as well"} if hasty and not session.alive else {}),
                )
                if self._on_reconnect is not None:
                    self._on_reconnect(reason)
                if hasty or not session.alive:
                    await trio.sleep(self._backoff.next())

    def offer(self, well: bool) -> None:
        """Have sessions, or none: whether the service is well."""
        if well:
            self._offered.set()
        elif self._offered.is_set():
            self._offered = trio.Event()
            self._over.set()

    def _withdraw(self, nursery: trio.Nursery) -> None:
        """End the sessions behind what is under way on them."""
        self._renewing, self._left = False, None  # the next is dialled with the token that there is then
        self._seats.clear()
        self._replaced.clear()
        for session in self.sessions:
            session.go_away()
            nursery.start_soon(_close_when_quiet, session, "the service is unhealthy")

    def renew(self) -> None:
        """Open another session, with the token that there is now, and then leave the one that is here."""
        self._renewing = True
        self._over.set()

    def _begin(self, carrier: Carrier, over: trio.Event) -> Session:
        """A session on `carrier`; `over` is set when it has ended, or its node has asked us to go away."""
        session = Session(
            carrier,
            accepts=True,
            on_stream=self._on_stream,
            on_away=over.set,
            on_change=self._changed,
            ping_seconds=self._rhythm.seconds,
        )
        self.sessions.add(session)
        return session

    def _changed(self, session: Session) -> None:
        if session.suspended:
            self._learn_from(session)

    def _learn_from(self, session: Session) -> None:
        """It was cut: if what is silent is, ping sooner, on its next carrier and by the next session."""
        if self._rhythm.cut_after(session.silence):
            session.ping_seconds = self._rhythm.seconds
            seconds = round(self._rhythm.seconds, 1)
            log.warning("silent sessions are cut, pinging sooner", endpoint_id=self.endpoint, ping_seconds=seconds)

    def _start(self, session: Session, nursery: trio.Nursery) -> None:
        nursery.start_soon(
            session.reactor.supervise, "session", self._run_session, session, name=f"session {self.endpoint}"
        )

    # -- the other workers of a node

    def _held(self) -> dict[int, Session]:
        """The workers that have a session which is to stay."""
        return {seat.number: one for one, seat in self._seats.items() if one.alive and not one.away}

    @property
    def _is_lacking(self) -> bool:
        return not self._leaving and self._offered.is_set() and 0 < len(self._held()) < self._workers

    def _take_seat(self, session: Session, seat: Seat | None, nursery: trio.Nursery) -> None:
        """The session is with this worker, in place of another that is there already."""
        if seat is None:
            self._workers = 0
            return
        before = self._held().get(seat.number)
        self._seats[session] = seat
        self._workers = seat.of
        if before is not None:
            nursery.start_soon(self._retire, before)
        replaced, self._replaced = self._replaced, []
        for one in replaced:
            one.go_away()  # we have arrived elsewhere
        self._lacking.set()

    async def _spread(self, nursery: trio.Nursery) -> None:
        """Dial until each worker has a session."""
        pause = LACKING_FIRST_SECONDS
        while True:
            with trio.move_on_after(pause * random.uniform(0.5, 1) if self._is_lacking else math.inf) as paused:
                await self._lacking.wait()
            self._lacking = trio.Event()
            pause = min(2 * pause, LACKING_SECONDS) if paused.cancelled_caught else LACKING_FIRST_SECONDS
            dials, wait = 0, DIAL_AGAIN_SECONDS
            while self._is_lacking and dials < DIALS_PER_WORKER * self._workers:
                dials += 1
                try:
                    async with self._dials:
                        carrier, seat = await self._register()
                except (Unreachable, Refused) as error:  # the first session is there, and says so if there is none
                    log.debug("no session on another worker", endpoint_id=self.endpoint, error=str(error))
                    break
                over = trio.Event()
                session = self._begin(carrier, over)
                self._start(session, nursery)
                if seat is None or seat.number in self._held() or not self._offered.is_set():
                    nursery.start_soon(self._retire, session)
                    await trio.sleep(wait * random.uniform(0.5, 1))
                    wait = min(2 * wait, DIAL_AGAIN_CEILING_SECONDS)
                else:
                    wait = DIAL_AGAIN_SECONDS
                    log.info("connected", endpoint_id=self.endpoint, carrier=carrier.kind, **_shown_seat(seat))
                    self._take_seat(session, seat, nursery)
                    nursery.start_soon(self._follow, session, over)

    async def _follow(self, session: Session, over: trio.Event) -> None:
        """Have another in place of a session beside the first when its worker is leaving, or gone."""
        await over.wait()
        if self._leaving or not self._offered.is_set():
            return
        seat = self._seats.pop(session, None)
        if session.alive and self._held():
            session.go_away()  # the others do what is to be done
        elif session.alive:
            self._replaced.append(session)
        log.info(
            "session with a worker ended",
            endpoint_id=self.endpoint,
            **_shown_seat(seat),
            reason="going away" if session.alive else _reason(session),
        )
        self._lacking.set()

    async def _retire(self, session: Session) -> None:
        """End a session that is one too many, behind what has come by it."""
        self._seats.pop(session, None)
        session.go_away()
        with trio.move_on_after(RETIRE_SECONDS):
            if session.alive and not session.suspended:
                await session.round_trip_done()
            await session.wait_quiet()
        session.close(reason="another session is with this worker")

    def _node_is_expected(self) -> bool:
        """Has the node that we had ended a moment ago, or does it still end? It is a restart, most likely."""
        now = trio.current_time()
        if self._left is not None:
            self._expected_until = now + RETURN_SECONDS
            if not self._left.alive:
                self._left = None
                self._backoff.settled()
        return now < self._expected_until

    def _complain(self, error: str, delay: float) -> None:
        """Log why there is no session: at once if that is news, else now and then."""
        before, since = self._complained
        now = trio.current_time()
        if error == before and now - since < REPEAT_SECONDS:
            log.debug("cannot connect", endpoint_id=self.endpoint, error=error, retry_seconds=round(delay, 2))
            return
        self._complained = error, now
        log.warning("cannot connect", endpoint_id=self.endpoint, error=error, retry_seconds=round(delay, 2), hint=HINT)

    async def _register(self) -> tuple[Carrier, Seat | None]:
        carrier, answer = await open_carrier(self._ladder, self._resume_seconds)
        if self._is_guarded and not answer.visitors:
            carrier.abort()  # before anybody's request is served
            raise Refused(f"{self._server.url} lets everybody in, not only the agent's `visitors`: {STRANGER}")
        if self._asks_for_clients and not answer.clients:
            carrier.abort()  # the service would take the agent for every client
            raise Refused(f"{self._server.url} does not tell who clients are, as proxy_protocol needs it: {STRANGER}")
        if self._claims and not answer.domains:
            carrier.abort()
            raise Refused(f"{self._server.url} gives the endpoint no domains: {STRANGER}")
        self.reach = answer.public_url.reach(self.endpoint) if answer.public_url else None
        return carrier, answer.seat

    def _shown_reach(self) -> dict[str, str]:
        """`reach` as fields of a log line."""
        if self.reach is None:
            return {}
        named = {"named_by": piko.ENDPOINT.decode()} if self.reach.by_field else {}
        return {"public_url": self.reach.url, **named}

    def _shown_failures(self) -> dict[str, str]:
        """Why no better carrier is used, as fields of a log line."""
        return {f"no_{kind}": why for kind, why in self._ladder.failures.items()}

    async def _run_session(self, session: Session) -> None:
        try:
            await Dialled(session, self._ladder, self._dials, self.endpoint).run()
        finally:
            self.sessions.discard(session)
            self._seats.pop(session, None)
            self._gone.set()

    async def leave(self) -> None:
        """No new streams, and return when none is left on any session (deadline: the caller's).

        A stream the node had opened before it heard our go-away is still served: it arrives before the answer to
        the ping that follows. Where the session is suspended nobody can do so, nor close the streams that are idle.
        """
        self._leaving = True
        for session in self.sessions:
            session.go_away()
        for session in tuple(self.sessions):
            if session.alive and not session.suspended:
                await session.round_trip_done()
        for session in tuple(self.sessions):
            if session.busy or not session.suspended:
                await session.wait_quiet()

    async def wait_closed(self) -> None:
        """Return when no session is left."""
        while self.sessions:
            self._gone = trio.Event()
            await self._gone.wait()

    def close(self) -> None:
        """End the sessions."""
        for session in tuple(self.sessions):
            session.close(reason="agent is stopping")


def _shown_seat(seat: Seat | None) -> dict[str, str]:
    """As fields of a log line."""
    return {"worker": str(seat)} if seat is not None else {}


async def _close_when_quiet(session: Session, reason: str = "another session stands for this one") -> None:
    """Close a session when nothing is under way on it any more."""
    if session.alive and not session.suspended:
        await session.round_trip_done()
    await session.wait_quiet()
    session.close(reason=reason)


def _reason(session: Session) -> str:
    """A label, of few values, for why a session ended."""
    error = session.error
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ConnectionResetError):
        return "reset"
    if isinstance(error, ConnectionError):
        return "closed"
    return "error"
