"""Which carrier gets through: the best that does, found by trying, remembered, and tried again when it is time.

WebSocket is tried first, for it is Piko's wire and the fastest. What is refused by the node itself is final; what is
answered by something on the way, breaks off, or brings nothing, has the next kind tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from engine import __version__
from engine.carriers.carrier import LADDER, Carrier, Kind
from engine.carriers.opening import open_websocket
from engine.carriers.posting import Place, open_poll, open_stream
from engine.carriers.remembered import Remembered
from engine.carriers.websocket import MAX_FRAME, WebSocketCarrier
from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.loop.dial import Server
from engine.wire import agents, clients, domains, piko, posts, resumption, visitors, websocket
from engine.wire.http1 import Fields
from engine.wire.posts import Hello
from engine.wire.public_url import PublicURL, told, told_text
from engine.wire.resumption import New, Opened, Resume, Resumed
from engine.wire.workers import Seat, parse_seat, seat_in

Wish = Callable[[], New | Resume | None]
"""Asked for when the request is about to be sent: how much has come may change until then."""

YOUNG_SECONDS: Final = 2.0  # a carrier that dies sooner,
YOUNG_DEATHS: Final = 3  # so often in a row, with a node that lives, is not tried first any more
BLANK: Final = "nothing came through it"


class Answer(NamedTuple):
    """What the node has said to the opening of a carrier."""

    session: Opened | Resumed | None
    public_url: PublicURL | None
    seat: Seat | None = None  # the worker that has the session, if there are several
    visitors: bool = False  # it keeps to what was said of them
    clients: bool = False  # it tells who they are
    domains: bool = False  # the endpoint has those that were claimed


class Errand(NamedTuple):
    """What a carrier is wanted for: a registration, a way to a TCP endpoint, or to be measured."""

    place: Place
    path: str  # of the WebSocket
    fields: Fields  # in its opening, beside the credentials
    max_frame: int  # in it
    summaries: bool = True  # are understood in front of heads


def registration(
    server: Server,
    endpoint: str,
    credentials: Callable[[], Fields],
    *,
    summaries: bool = True,
    said_of_visitors: Callable[[], bytes] | None = None,
    asks_for_clients: bool = False,
    claims: Sequence[str] = (),
    agent: str = "",
    weight: int = 1,
) -> Errand:
    """An agent offers `endpoint`, and understands `summaries` or not; `said_of_visitors`, if there is something to say,
    is asked for each time (see wire.visitors); `asks_for_clients`: it wants to know who they are (see wire.clients). It
    `claims` these domains; `agent` is its name, and `weight` its share of the clients (see wire.agents).
    """

    def opening() -> Fields:
        said = [(agents.FIELD, agents.About(__version__, server.way.taken, agent, weight).encode())]
        if said_of_visitors is not None:
            said.append((visitors.FIELD, said_of_visitors()))
        if asks_for_clients:
            said.append((clients.FIELD, b"1"))
        if claims:
            said.append((domains.FIELD, domains.encode(claims)))
        return said

    place = Place(server, posts.UPSTREAM_PATH, endpoint, credentials, opening)
    fields = [(piko.SUMMARIES, b"1")] if summaries else []
    return Errand(place, piko.upstream_path(endpoint), fields, MAX_FRAME, summaries)


def probe(server: Server, credentials: Callable[[], Fields]) -> Errand:
    """A doctor wants to know what a carrier gives (see session.probe)."""
    place = Place(server, posts.PROBE_PATH, "way", credentials)
    return Errand(place, posts.path(place.base, place.endpoint), [], MAX_FRAME)


def way_to(server: Server, endpoint: str, credentials: Callable[[], Fields]) -> Errand:
    """A forward wants to reach `endpoint`."""
    place = Place(server, posts.TCP_PATH, endpoint, credentials)
    return Errand(place, piko.tcp_path(endpoint), [(piko.HALF_CLOSE, b"1")], websocket.UNLIMITED)


class Ladder:
    """Opens carriers for an errand; `kinds` are those that may be used, the best first. What is `remembered` of an
    earlier run is tried before them.
    """

    def __init__(self, errand: Errand, kinds: Sequence[Kind] = LADDER, remembered: Remembered | None = None) -> None:
        self.failures: dict[Kind, str] = {}  # why one that would be better is not used
        self._errand = errand
        self._kinds = list(kinds)
        self._remembered = remembered
        self._first = 0  # index of the one to begin with
        if remembered is not None and remembered.kind in self._kinds:
            self._first = self._kinds.index(remembered.kind)
            self.failures = dict.fromkeys(self._kinds[: self._first], f"{remembered.kind} got through before")
        self._died_young = False  # and no other was opened since
        self._deaths = 0  # of young ones in a row, behind each of which the node was there for another

    async def open(self, wish: Wish) -> tuple[Carrier, Answer]:
        """Open the best carrier that gets through. Raises Unreachable and Refused, of the one that was tried first."""
        try:
            found = await self._open_best(wish)
        except (Unreachable, Refused):  # by the node's own words, or because nobody is there: it was no middlebox's cut
            self._died_young, self._deaths = False, 0
            raise
        if self._died_young:
            self._died_young, self._deaths = False, self._deaths + 1
        return found

    async def _open_best(self, wish: Wish) -> tuple[Carrier, Answer]:
        errors: list[Unreachable | Refused] = []
        kinds = self._kinds[self._first :] + self._kinds[: self._first]
        for kind in kinds:
            try:
                carrier, answer = await self._open(kind, wish)
            except (Unreachable, Refused) as error:
                if not error.blocked:
                    raise
                errors.append(error)
                self.failures[kind] = str(error)
            else:
                self._got_through(kind)
                return carrier, answer
        if len(errors) == 1:
            raise errors[0]
        words = "; ".join(f"as {kind}: {error}" for kind, error in zip(kinds, errors, strict=True))
        refused = all(isinstance(error, Refused) for error in errors)
        raise (Refused if refused else Unreachable)(f"no carrier gets through: {words}")

    async def _open(self, kind: Kind, wish: Wish) -> tuple[Carrier, Answer]:
        if kind is Kind.WEBSOCKET:
            return await self._open_websocket(wish)

        def hello() -> Hello:
            wished = wish()
            return Hello(wished.encode().decode() if wished is not None else "", summaries=self._errand.summaries)

        carrier: Carrier
        carrier, welcome = await (open_stream if kind is Kind.STREAM else open_poll)(self._errand.place, hello)
        try:
            session = resumption.parse_answer(welcome.session.encode()) if welcome.session else None
        except RemoteProtocolError as error:
            carrier.abort()
            raise Refused(str(error)) from error
        seat = parse_seat(welcome.workers)
        return carrier, Answer(
            session, told_text(welcome.public_url), seat, welcome.visitors, welcome.clients, welcome.domains
        )

    async def _open_websocket(self, wish: Wish) -> tuple[Carrier, Answer]:
        errand = self._errand

        def fields() -> Fields:
            wished = wish()
            more = [(resumption.FIELD, wished.encode())] if wished is not None else []
            return [*errand.place.credentials(), *errand.place.opening(), *errand.fields, *more]

        connection, answer = await open_websocket(errand.place.server, errand.path, fields)
        try:
            session = resumption.answer_in(answer.fields)
            kept, tells = visitors.are_kept(answer.fields), clients.are_told(answer.fields)
            said = Answer(
                session, told(answer.fields), seat_in(answer.fields), kept, tells, domains.are_kept(answer.fields)
            )
        except RemoteProtocolError as error:
            connection.abort()
            raise Refused(str(error)) from error
        half_close = any(name.lower() == piko.HALF_CLOSE for name, _ in answer.fields)
        return WebSocketCarrier(connection, client=True, half_close=half_close, max_frame=errand.max_frame), said

    @property
    def may_improve(self) -> bool:
        """A better carrier than the one that gets through may do so one day."""
        return any(self.failures.get(kind) != BLANK for kind in self._kinds[: self._first])

    async def open_better(self, wish: Wish) -> tuple[Carrier, Answer] | None:
        """Try those that are better than the one that gets through; None if none of them does either."""
        for kind in self._kinds[: self._first]:
            if self.failures.get(kind) == BLANK:  # it would look as if it were open
                continue
            try:
                found = await self._open(kind, wish)
            except (Unreachable, Refused) as error:
                self.failures[kind] = str(error)
            else:
                self._got_through(kind)
                return found
        return None

    def _got_through(self, kind: Kind) -> None:
        self._first = self._kinds.index(kind)
        self.failures.pop(kind, None)
        if self._remembered is not None:
            self._remembered.keep(kind)

    def lost(self, kind: Kind, seconds: float, *, blank: bool) -> None:
        """A carrier was lost after so long; `blank`: nothing had come through it.

        Who cuts a young one may be a middlebox that does not like it, or a node that has died. The next attempt tells:
        a node that has died is not there, or does not know the session.
        """
        if kind is not self._kinds[self._first]:
            return
        if not blank and seconds >= YOUNG_SECONDS:
            self._died_young, self._deaths = False, 0
        elif not blank and self._deaths + 1 < YOUNG_DEATHS:
            self._died_young = True
        else:
            self._died_young, self._deaths = False, 0
            self._first = (self._first + 1) % len(self._kinds)
            self.failures[kind] = BLANK if blank else f"it was cut within {YOUNG_SECONDS:g} s, again and again"
