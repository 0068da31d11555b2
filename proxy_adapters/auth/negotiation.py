"""From a 407 to the next thing to say: the strongest scheme first, and down the list when one fails.

Theory. A *negotiation* lasts for one tunnel and spans its connections. It is always in one of three states:
nothing said yet; a conversation of one scheme under way (one leg for Basic, three for NTLM); or out of
ideas. Every answer of the proxy is either the next leg of the conversation, or the end of it, which is a
refusal. What was refused is written down (for the error, and in `Memory` so that it is never sent again),
and the next scheme starts on a *fresh* connection, because proxies bind NTLM and Negotiate to the
connection (RFC 4559) and some get stuck half-way.

curl picks one scheme and stays with it; where a proxy offers Negotiate and there is no ticket, that is the
end of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proxy_adapters.auth.basic import basic
from proxy_adapters.auth.challenge import Challenge
from proxy_adapters.auth.digest import digest, is_strong, is_weak
from proxy_adapters.auth.login import Asked, CannotStart, Conversation, Login, Memory
from proxy_adapters.auth.negotiate import negotiate
from proxy_adapters.auth.ntlm import negotiate_ntlm, ntlm
from proxy_adapters.auth.token import bearer, command
from proxy_adapters.errors import PROXY_ADMIN, AuthenticationFailed
from proxy_adapters.handshake import Leg, Script, Work
from proxy_adapters.url import ProxyURL

#: No scheme needs more; a proxy that keeps asking is broken or hostile (curl once looped for ever over NTLM).
MAXIMUM_LEGS = 5


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row of the table: which challenge it answers, and how."""

    start: Callable[[Asked], Conversation]
    answers: Callable[[Challenge], bool]
    bound: bool = False  # to its connection: a close between two legs ends the attempt


def _is(word: str) -> Callable[[Challenge], bool]:
    return lambda challenge: challenge.scheme == word


SCHEMES: dict[str, Scheme] = {
    "command": Scheme(command, lambda challenge: True),
    "negotiate": Scheme(negotiate, _is("negotiate"), bound=True),
    "digest-sha-256": Scheme(digest, is_strong),
    "ntlm": Scheme(ntlm, _is("ntlm"), bound=True),
    "negotiate-ntlm": Scheme(negotiate_ntlm, _is("negotiate"), bound=True),
    "bearer": Scheme(bearer, _is("bearer")),
    "digest-md5": Scheme(digest, is_weak),
    "basic": Scheme(basic, _is("basic")),
}


class Negotiation:
    """`first()` before the first request, `next(…)` at each refusal for want of authentication, `accepted(…)`.

    `scheme` is the one under way, "" if none. Each scheme that is tried is a leg of its own.
    """

    def __init__(
        self, proxy: ProxyURL, login: Login, memory: Memory, uri: str, *, binding: bytes | None = None
    ) -> None:
        self._proxy, self._login, self._memory, self._uri, self._binding = proxy, login, memory, uri, binding
        self._offers: list[Challenge] = []
        self._tried: set[str] = set()
        self._attempts: list[str] = []
        self.scheme = ""
        self._before = ""  # how the leg before ended, for whoever looks on
        self._asked: Asked | None = None
        self._conversation: Conversation | None = None
        self._legs = 0

    def first(self) -> Script[str | None]:
        """The value to send unasked: with what worked last time, else none."""
        worked = self._memory.what_worked(self._proxy, self._login.user or "")
        if worked is not None and worked[0] in self._login.usable:
            value = yield from self._start(worked[0], None, worked[1], leg="proxy-request")
            if value is not None:
                return value
        yield Leg("proxy-request", before=self._before)
        return None

    @property
    def may_repeat(self) -> bool:
        """Whether the last value may be said once more, on a fresh connection."""
        return self._legs <= 1 or not SCHEMES[self.scheme].bound

    def accepted(self, proofs: Sequence[Challenge]) -> Script[None]:
        """The proxy let us through; "" stands for the scheme of a proxy that asked for none.

        `proofs` is what it says of itself. Raises AuthenticationFailed if that is demanded and does not convince.
        """
        if self._login.mutual and (why := (yield from self._doubt(proofs))):
            raise AuthenticationFailed(
                f"it accepted us, but did not authenticate itself: {why}",
                attempts=(f"{self.scheme or 'no login'}: {why}",),
                advice="ask who answers there, or do not require it (mutual)",
                who=PROXY_ADMIN,
            )
        state = self._asked.state if self._asked is not None else None
        self._memory.worked(self._proxy, self._login.user or "", self.scheme, state)

    def _doubt(self, proofs: Sequence[Challenge]) -> Script[str]:
        """Why the proxy's proof does not convince, "" if it does."""
        if self._conversation is None:
            return "it did not even ask for authentication"
        word = self.scheme.partition("-")[0]
        proof = next((proof for proof in proofs if proof.scheme == word), Challenge(word))
        try:
            yield from self._tell(replace(proof, final=True))
        except CannotStart as error:
            return str(error)
        except _Ended as end:
            return end.why
        return "it wants to go on with it"

    def next(self, offers: Sequence[Challenge], *, connection_lives: bool, status: int) -> Script[tuple[str, bool]]:
        """What to answer, and whether only a fresh connection will do. Raises AuthenticationFailed."""
        scheme = SCHEMES.get(self.scheme)
        self._before = f"{status}, offers {_words(offers)}"
        if self._conversation is not None and scheme is not None and self._asked is not None:
            mine = next((offer for offer in offers if scheme.answers(offer)), Challenge(""))
            value = None
            if scheme.bound and mine.token and not connection_lives:
                self._give_up("the proxy closed the connection in the middle of it")
            elif self._legs >= MAXIMUM_LEGS:
                self._give_up(f"still asked after {MAXIMUM_LEGS} legs")
            else:
                value = yield from self._resume(mine)
            if value is not None:
                return value, not connection_lives
            connection_lives = False
        # squid answers a failed Digest with a Digest challenge only; what was offered before still holds.
        words = {offer.scheme for offer in offers}
        self._offers = [*offers, *(offer for offer in self._offers if offer.scheme not in words)]
        for name in self._login.usable:
            if name in self._tried or (name == "command" and self._login.command is None):
                continue
            offer = next((offer for offer in self._offers if SCHEMES[name].answers(offer)), None)
            if offer is not None and (value := (yield from self._start(name, offer))) is not None:
                return value, not connection_lives
        yield Leg("proxy-auth", before=self._before)
        raise self._failure(self._offers, status)

    def _start(
        self, name: str, offer: Challenge | None, state: object = None, *, leg: str = "proxy-auth"
    ) -> Script[str | None]:
        yield Leg(leg, name, before=self._before)
        self.scheme, self._legs = name, 0
        self._asked = Asked(
            self._login, self._proxy, self._uri, self._memory, name, challenge=offer, binding=self._binding, state=state
        )
        self._conversation = SCHEMES[name].start(self._asked)
        return (yield from self._resume(None))

    def _resume(self, answer: Challenge | None) -> Script[str | None]:
        """Let the conversation go on to its next value; None when it has ended, which is noted."""
        assert self._asked is not None
        try:
            value = yield from self._tell(answer)
        except CannotStart as error:
            self._give_up(str(error))
            return None
        except _Ended as end:
            account = f" for {self._asked.account}" if self._asked.account else ""
            self._give_up(end.why or f"refused{account}")
            return None
        self._legs += 1
        return value

    def _tell(self, answer: Challenge | None) -> Script[str]:
        """What the scheme says to that. Raises CannotStart, and _Ended when it has no more to say."""
        assert self._conversation is not None
        try:
            step = self._conversation.send(answer)
            while isinstance(step, Work):
                try:
                    result: Any = yield step
                except Exception as error:  # whatever the library under it raises is the scheme's to explain
                    step = self._conversation.throw(error)
                else:
                    step = self._conversation.send(result)
        except StopIteration as end:
            raise _Ended(end.value or "") from None
        return step

    def _give_up(self, why: str) -> None:
        assert self._asked is not None
        if self._asked.spent and self._asked.fingerprint:
            self._memory.refuse(self._proxy, self.scheme, self._asked.fingerprint)
        if self._asked.challenge is None:
            self._memory.forget(self._proxy, self._login.user or "")
        if self._asked.spent or self._asked.challenge is not None:
            self._tried.add(self.scheme)
            self._attempts.append(f"{self.scheme}: {why}")
        self._before = f"{self.scheme}: {why}"
        self._conversation, self._asked, self.scheme = None, None, ""

    def _failure(self, offers: Sequence[Challenge], status: int) -> AuthenticationFailed:
        login = self._login
        mine = [name for name in SCHEMES if name != "command" or login.command is not None]
        offered = [name for name in mine if any(map(SCHEMES[name].answers, offers))]
        forbidden = [name for name in offered if name not in login.schemes]
        if login.withheld:
            advice = f"it is not told who we are, for {login.withheld}"
        elif not offers:
            advice = "it names no scheme, so nothing may be sent"
            if self._attempts:
                advice = "check user and password; the same ones are not sent again"
        elif self._attempts:
            advice = "check user, password or ticket; what was refused is not sent again until it changes"
        elif forbidden:
            advice = f"allow one of: {', '.join(forbidden)}"
        elif offered and login.mutual:
            advice = "none of which allows mutual authentication, which is demanded (mutual)"
        else:
            advice = "none of these schemes is known here"
        tried = "; ".join(self._attempts)
        return AuthenticationFailed(
            f"{status}, offers {_words(offers)}" + (f"; {tried}" if tried else ""),
            attempts=tuple(self._attempts),
            advice=advice,
            status=status,
        )


class _Ended(Exception):
    """A conversation is over; `why` is empty where there is no more to say than that it was refused."""

    def __init__(self, why: str) -> None:
        self.why = why


def _words(offers: Sequence[Challenge]) -> str:
    return ", ".join(dict.fromkeys(offer.scheme for offer in offers)) or "nothing"
