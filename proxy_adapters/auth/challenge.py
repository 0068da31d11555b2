"""`Proxy-Authenticate` as proxies write it (RFC 9110, 11.3-11.6): challenges from several fields, several
in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

MAXIMUM_CHALLENGES = 32

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*+)"?|([^\s,"]*+))\s*')
_TOKEN68 = re.compile(r"\s*(?:token=)?([A-Za-z0-9._~+/-]+=*)\s*(?=,|$)")
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s|,|$)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One scheme on offer, its name in lower case: with a token68 (Negotiate, NTLM), parameters, or
    nothing. `final`: it came with a yes, and has what the proxy says to prove itself.
    """

    scheme: str
    token: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    final: bool = False


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """All challenges of all fields, in order. What cannot be read is skipped: a proxy's slip is no reason
    to fail.

    Negotiate's token may come as `token=…`: squid's negotiate_kerberos_auth does that.
    """
    challenges: list[Challenge] = []
    for value in values:
        position = 0
        while len(challenges) < MAXIMUM_CHALLENGES and (match := _SCHEME.match(value, position)):
            position = match.end()
            scheme = match[1].lower()
            token, parameters = "", dict[str, str]()
            lone = _TOKEN68.match(value, position) if scheme in ("negotiate", "ntlm") else None
            if lone:
                token, position = lone[1], lone.end()
            while parameter := _PARAMETER.match(value, position):
                name, quoted, bare = parameter.groups()
                text = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
                parameters.setdefault(name.lower(), text)
                position = parameter.end()
                comma = re.compile(r"[\s,]*").match(value, position)
                if comma is None or not _PARAMETER.match(value, comma.end()):
                    break
                position = comma.end()
            challenges.append(Challenge(scheme, token, parameters))
            if position < len(value) and not value[position:].lstrip().startswith(","):
                rest = value.find(",", position)  # something unreadable: go on behind the next comma
                if rest < 0:
                    break
                position = rest
    return challenges
