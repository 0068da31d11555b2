"""What is a secret, by its name or by its form: one rule, for everything that is written for people to read.

Logs are read by more people, and kept for longer, than what goes through a tunnel. So a value is masked

* if the name of its field or key says so (`Authorization`, `X-Api-Key`, `password`);
* if its form says so, wherever it stands: a URL's `user:password@`, `Bearer …`, a JWT, a query's `token=…`;

and of a URL only what stands before its query is shown: links that let somebody in have their secret there, or behind
the `#`. Names err on the side of masking: who needs to see a field that is no secret can have it by another name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Final

MASK: Final = "***"

# By words, however they are joined: `X-Api-Key`, `x_api_key`, `apiKey`.
_secret_name: Final = re.compile(
    r"authorization|cookie|passw(?:or)?d|passphrase|secret|credential|token|assertion|signature|jwt|csrf|xsrf"
    r"|(?:api|access|private|shared|license)[-_]?key"
    r"|(?:^|[-_.])(?:key|auth|session|sessionid|sid|otp|pin|pw|pwd|sig|sso)$"
    r"|(?:^|[-_])(?:auth|session)[-_]"
).search
_MORE: Final = frozenset({"sec-websocket-protocol"})  # where a page in a browser can put a token
_PUBLIC: Final = frozenset({"sec-websocket-key", "idempotency-key", "x-idempotency-key", "surrogate-key"})
_url_name: Final = re.compile(
    r"(?:^|[-_.])(?:referr?er|location|ur[il]|destination|link|refresh|path|target|redirect|next|callback)$"
).search
_before_query: Final = re.compile(r"[^?#]*[?#](?=.)", re.DOTALL).match


def _replaces(pattern: str, shown: Callable[[re.Match[str]], str] | str) -> Callable[[str], str]:
    return partial(re.compile(pattern, re.IGNORECASE).sub, shown)


_SCHEMES: Final = ("bearer ", "basic ", "ntlm ", "negotiate ", "digest ")
_SCHEME: Final = "|".join(rf"(?<=\b{scheme})" for scheme in _SCHEMES)
_NAMED: Final = "|".join(
    rf"(?<={name}=)"
    for name in ("token", "password", "passwd", "secret", "api_key", "apikey", "access_key", "signature", "jwt")
)
_VALUE: Final = rf"(?:{_NAMED})[^\s&]++"  # of what is named before it

# Credentials that travel inside other text: what of it has to be there, in lower case, and what masks it. To look for
# that costs a hundredth of what a pattern does. None goes on in the next line, and none is looked for again in what was
# read in vain: a text can be a stranger's, and long. What is masked may end with a name: then its value is, too.
_FORMS: Final = (
    (
        ("://", "=", *_SCHEMES),
        _replaces(
            rf"(://|[= ])(?:(?<=://)[^/@\s]++(?=@)(?:{_VALUE})?+|{_VALUE}"
            rf"|(?:{_SCHEME})(?!auth)[\w+/=.~-]{{8,}}+(?:{_VALUE})?+)",
            rf"\1{MASK}",
        ),
    ),
    (("eyj",), _replaces(r"\beyJ[\w-]++(\.[\w-]*+\.[\w-]*+)?", lambda found: MASK if found[1] else found[0])),
    (("://",), _replaces(r"://[^\s\"'<>]++", lambda found: without_query(found[0]))),
)


def is_secret(name: str) -> bool:
    """Does this name of a field or key say that its value is a secret?"""
    low = name.lower()
    return low in _MORE or (low not in _PUBLIC and _secret_name(low) is not None)


def is_url(name: str) -> bool:
    """Does this name of a field or key say that its value is a URL, or a part of one?"""
    return _url_name(name.lower()) is not None


def without_query(url: str) -> str:
    """A URL or a path, through the `?` or `#` behind which nobody is to read."""
    shown = _before_query(url)
    return url if shown is None else shown[0] + MASK


def without_secrets(text: str) -> str:
    """Text in which what is a secret by its form is masked."""
    everywhere = not text.isascii()  # it may have letters that count as ours: "ſ" is "s"
    low = text.lower()
    for hints, masked in _FORMS:
        if everywhere or any(hint in low for hint in hints):
            text = masked(text)
    return text
