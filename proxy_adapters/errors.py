"""What can go wrong on the way out, as one family, each member saying who must act.

A hop is whatever we talk to on the way: proxy 1, proxy 2 …, and last the destination itself. Scripts
(`handshake.py`) raise these with the fact and the advice; the player adds what a script cannot know: which
hop, its position in the chain, the leg, and what was said and heard (bounded, secrets cut out before they
get here).
"""

from __future__ import annotations

#: Who must act. The words are meant for a person's eyes, so they are whole.
YOU = "you"
PROXY_ADMIN = "the administrator of the proxy"
TARGET_ADMIN = "the administrator of the destination"
NOBODY = "nobody: try again later"
YOU_OR_PROXY_ADMIN = f"{YOU}, or {PROXY_ADMIN}"
YOU_OR_TARGET_ADMIN = f"{YOU}, or {TARGET_ADMIN}"


class TunnelError(Exception):
    """A tunnel could not be opened. Nothing is left open; `str()` is one line, `report()` the whole way.

    `fact` what happened · `advice` what to try · `who` must act · `retryable` whether the same attempt may
    succeed later · `tries_next` whether the next proxy of a list should be tried now (Chromium's rule) ·
    `hop` and `position` (1 = first hop, 0 = before any) · `leg` what we were doing (`open.Deadlines` lists
    them) · `status` the HTTP status or SOCKS code, if there was one · `said` and `heard` the last words of
    both sides · `trail` what went well before, one line each.
    """

    who: str = NOBODY
    retryable: bool = True
    tries_next: bool = False

    def __init__(
        self,
        fact: str,
        *,
        advice: str = "",
        who: str | None = None,
        retryable: bool | None = None,
        tries_next: bool | None = None,
        status: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(fact)
        self.fact = fact
        self.advice = advice
        self.who = type(self).who if who is None else who
        self.retryable = type(self).retryable if retryable is None else retryable
        self.tries_next = type(self).tries_next if tries_next is None else tries_next
        self.status = status
        self.retry_after_seconds = retry_after_seconds
        self.hop = ""
        self.position = 0
        self.leg = ""
        self.said = ""
        self.heard = ""
        self.trail: list[str] = []

    def __str__(self) -> str:
        place = f"hop {self.position}, {self.hop}" if self.position else self.hop
        where = ", ".join(part for part in (place, self.leg) if part)
        if self.position == 1 and self.leg.startswith("target-"):  # there is no proxy, and so nothing to count
            where = self.hop
        text = f"{where}: {self.fact}" if where else self.fact
        return f"{text} - {self.advice}" if self.advice else text

    def report(self) -> str:
        """The way as far as it went, line by line, then the failure, its evidence and the next step."""
        lines = [*self.trail, str(self)]
        lines += [f"we said: {self.said}"] if self.said else []
        lines += [f"we heard: {self.heard}"] if self.heard else []
        return "\n".join([*lines, f"who can act: {self.who}"])


class HopUnreachable(TunnelError):
    """A hop could not be resolved or connected to, stayed silent past its deadline, or hung up on us."""

    who = PROXY_ADMIN
    tries_next = True


class HopTLSError(TunnelError):
    """TLS with a hop failed: its certificate, ours, the version, or no TLS there at all."""

    who = YOU
    retryable = False
    tries_next = True


class NotAProxy(TunnelError):
    """What answered does not speak the protocol that the proxy URL promises; the text names what it seems
    to be.
    """

    who = YOU
    retryable = False
    tries_next = True


class TunnelRefused(TunnelError):
    """The proxy understood and said no: a policy, a limit, or it could not reach the next hop itself."""

    who = PROXY_ADMIN
    retryable = False


class AuthenticationFailed(TunnelRefused):
    """The proxy wants to know who we are, and every scheme we may use was refused or could not start.

    `attempts` has one sentence per scheme, in the order tried.
    """

    who = YOU
    retryable = False

    def __init__(
        self,
        fact: str,
        *,
        attempts: tuple[str, ...] = (),
        advice: str = "",
        who: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(fact, advice=advice, who=who, status=status)
        self.attempts = attempts


class NoRoute(TunnelError):
    """No way could be chosen: a PAC file could not be had or failed, or every listed route failed.

    `errors` holds what each route died of, in the order tried.
    """

    def __init__(
        self,
        fact: str,
        *,
        advice: str = "",
        errors: tuple[TunnelError, ...] = (),
        retryable: bool = True,
        who: str | None = None,
    ) -> None:
        # Who asked for a pause gets it, whatever the others died of.
        pauses = [error.retry_after_seconds for error in errors if error.retry_after_seconds is not None]
        pause = max(pauses, default=None)
        super().__init__(fact, advice=advice, retryable=retryable, who=who, retry_after_seconds=pause)
        self.errors = errors
