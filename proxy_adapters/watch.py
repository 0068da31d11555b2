"""What is told of a way while it is gone, leg by leg, to whoever wants to look on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import trio

from proxy_adapters.errors import TunnelError
from proxy_adapters.route import Route
from proxy_adapters.tls import TLSLayer

Outcome = Literal["begun", "ok", "next", "failed", "warning"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One leg of the way, as it begins and as it ends.

    `leg` `route`, or as in `TunnelError.leg` · `outcome` "next": it came to nothing, and something else is tried
    (another scheme, another route); "failed": with `error`, the end of this route; "warning": no end, but something
    that a person should know, told once per proxy · `text` what there is to say of it, in words, without secrets ·
    `addresses` what a name was resolved to, or both ends of a connection, ours last
    · `tls` the layer that stands now (version, certificate) · `route` the one that this is a part of: of several,
    one may begin to connect before another has given up.
    """

    leg: str
    outcome: Outcome
    position: int = 0
    hop: str = ""
    text: str = ""
    seconds: float = 0.0
    addresses: tuple[str, ...] = ()
    tls: TLSLayer | None = None
    error: TunnelError | None = None
    route: Route | None = None


#: Called by `open_tunnel` for each; it must not raise.
Watch = Callable[[Seen], None]


class Trail:
    """The way that one attempt goes: `lines` of what went well, for errors and logs, and all of it for `watch`."""

    def __init__(self, route: Route, watch: Watch | None) -> None:
        self.lines = [f"route: {route} (chosen by {route.source})"]
        self.route, self._watch = route, watch

    def begin(self, leg: str, position: int, hop: str, scheme: str = "") -> OpenLeg:
        begun = OpenLeg(self, leg, position, hop, scheme)
        self.tell(Seen(leg, "begun", position, hop, scheme, route=self.route))
        return begun

    @contextmanager
    def leg(self, leg: str, position: int, hop: str) -> Iterator[OpenLeg]:
        """A leg that lasts as long as the block, which may say how well it went; an error is given its place."""
        begun = self.begin(leg, position, hop)
        try:
            yield begun
        except BaseException as error:
            begun.died(error)
            raise
        begun.went_well()

    def note(self, position: int, hop: str, what: str, since: float) -> None:
        self.lines.append(f"[{position}] {hop}: {what} ok, {(trio.current_time() - since) * 1000:.0f} ms")

    def warn(self, position: int, hop: str, text: str, is_news: Callable[[], bool]) -> None:
        """Somebody has to look on, or it is kept for the next time."""
        if self._watch is not None and is_news():
            self.tell(Seen("proxy-auth", "warning", position, hop, text, route=self.route))

    def tell(self, seen: Seen) -> None:
        if self._watch is not None:
            self._watch(seen)


class OpenLeg:
    """One leg under way. What is assigned to it is told when it ends."""

    def __init__(self, trail: Trail, leg: str, position: int, hop: str, scheme: str) -> None:
        self.name, self.scheme = leg, scheme
        self.text = ""
        self.note = ""  # its line in the trail
        self.addresses: tuple[str, ...] = ()
        self.tls: TLSLayer | None = None
        self._trail, self._position, self._hop = trail, position, hop
        self._since = trio.current_time()

    def went_well(self) -> None:
        if self.note:
            self._trail.note(self._position, self._hop, self.note, self._since)
        self._end("ok", self.text)

    def came_to_nothing(self, why: str) -> None:
        self._end("next", why)

    def died(self, error: BaseException) -> None:
        if isinstance(error, TunnelError):
            if not error.hop:
                error.position, error.hop, error.leg = self._position, self._hop, error.leg or self.name
            self._end("failed", error.fact, error)
        else:
            self._end("next", "given up")

    def _end(self, outcome: Outcome, text: str, error: TunnelError | None = None) -> None:
        self._trail.tell(
            Seen(
                self.name,
                outcome,
                self._position,
                self._hop,
                text,
                trio.current_time() - self._since,
                self.addresses,
                self.tls,
                error,
                self._trail.route,
            )
        )
