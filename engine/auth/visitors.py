"""Who may use an endpoint: by the address that a client comes from, and by a name and a password (Basic, RFC 7617).

Nothing here waits, and nothing but `Users.check` takes long: bcrypt is slow on purpose, so that is called in a thread
(see passwords). Whoever was found to know a password is remembered, by a digest under a key that only this process has.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeVar

from engine.auth.networks import Networks

MAX_USERS: Final = 10_000
MAX_GOOD: Final = 4096  # visitors who are remembered, of one file
MAX_VALUE: Final = 1024  # bytes of an Authorization field that is looked at
MAX_COST: Final = 14  # of a hash: about a second of a core, and twice as long with each step
MAX_PASSWORD: Final = 72  # bytes: bcrypt, and so htpasswd, look at no more

_LINE: Final = re.compile(rb"([^:\x00-\x1f\x7f]{1,255}):(\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53})", re.ASCII)
_OTHER: Final = re.compile(rb"[^:\x00-\x1f\x7f]+:(?:\{SHA\}|\$(?!2[aby]\$)[0-9a-z]+\$)")

T = TypeVar("T")


class Verdict(Enum):
    """What is said of a visitor."""

    WELCOME = auto()
    ADDRESS = auto()  # may not come from there
    CREDENTIALS = auto()  # shows none, or wrong ones
    UNCHECKED = auto()  # what is shown has to be checked, which takes long


def parse_users(document: bytes) -> dict[bytes, bytes]:
    """The users of a file that `htpasswd -B` writes, `NAME:HASH` on each line, with their hashes. Empty lines are none,
    nor are those that begin with `#`. Raises ValueError with the number of a line, and never quotes one.
    """
    users: dict[bytes, bytes] = {}
    for number, line in enumerate(document.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            other = "a hash that is not bcrypt's" if _OTHER.match(line) else "no NAME:HASH"
            raise ValueError(f"line {number}: {other}; expected what `htpasswd -B` writes")
        name, hash_, cost = found.groups()
        if not 4 <= int(cost) <= MAX_COST:
            raise ValueError(f"line {number}: a hash of cost {int(cost)}; expected 4 to {MAX_COST} (`htpasswd -B -C`)")
        if name in users:
            raise ValueError(f"line {number}: a user that stands above already; expected each once")
        if len(users) >= MAX_USERS:
            raise ValueError(f"line {number}: too many users; expected at most {MAX_USERS}")
        users[name] = hash_
    if not users:
        raise ValueError("no user; expected what `htpasswd -B` writes")
    return users


class Users:
    """Names and the hashes of their passwords, and who has shown a right one."""

    def __init__(self, hashes: Mapping[bytes, bytes]) -> None:
        self._hashes = dict(hashes)
        self._good: dict[bytes, None] = {}
        self._key = secrets.token_bytes(32)

    def __repr__(self) -> str:
        return f"<{len(self._hashes)} users>"

    def replace(self, hashes: Mapping[bytes, bytes]) -> None:
        """Know these, and no others, from now on."""
        self._hashes = dict(hashes)
        self._good = {}

    def judge(self, credentials: Sequence[bytes]) -> Verdict:
        """What is known of who shows these values of Authorization, without checking anything."""
        if len(credentials) != 1 or _basic(credentials[0]) is None:
            return Verdict.CREDENTIALS
        return Verdict.WELCOME if self.digest(credentials[0]) in self._good else Verdict.UNCHECKED

    def check(self, value: bytes) -> bool:
        """Is the password in this value of Authorization the user's? Takes long, and may be called in a thread.

        It takes as long for a user who is not known, so that nobody learns which are.
        """
        import bcrypt  # which only those need who have users

        hashes, good = self._hashes, self._good
        shown = _basic(value)
        if shown is None:
            return False
        name, password = shown
        known = hashes.get(name)
        hash_ = known if known is not None else next(iter(hashes.values()))
        right = bcrypt.checkpw(password[:MAX_PASSWORD], hash_) and known is not None
        if right:
            if len(good) >= MAX_GOOD:
                good.pop(next(iter(good), b""), None)
            good[self.digest(value)] = None  # of no effect if the users were replaced meanwhile
        return right

    def digest(self, value: bytes) -> bytes:
        """What stands for this value of Authorization."""
        return blake2b(value, key=self._key, digest_size=32).digest()


def _basic(value: bytes) -> tuple[bytes, bytes] | None:
    """The name and the password in a value of Authorization; None if they are not in there."""
    scheme, _, said = value.partition(b" ")
    if scheme.lower() != b"basic" or len(value) > MAX_VALUE:
        return None
    try:
        name, colon, password = base64.b64decode(said.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (name, password) if colon and b"\0" not in password else None


class Guard:
    """Who may use an endpoint: who comes from `allow` (if there is any), not from `deny`, and is one of `users`."""

    def __init__(self, allow: Sequence[str] = (), deny: Sequence[str] = (), users: Users | None = None) -> None:
        self._allow = Networks(allow)
        self._deny = Networks(deny)
        self.users = users

    def judge(self, address: str, credentials: Sequence[bytes]) -> Verdict:
        """What is said of a client that comes from `address` and shows these values of Authorization.

        What is no address is in no network of `allow`, and may be in one of `deny`.
        """
        if self._deny and self._deny.find(address) is not False:
            return Verdict.ADDRESS
        if self._allow and not self._allow.find(address):
            return Verdict.ADDRESS
        return Verdict.WELCOME if self.users is None else self.users.judge(credentials)


class Guards:
    """The guards of a node's endpoints, by their names or by patterns such as `admin-*`; of a tenant's endpoints by
    `TENANT/ENDPOINT`.
    """

    def __init__(self, guards: Mapping[str, Guard]) -> None:
        self._guards = guards
        self.of = lru_cache(MAX_GOOD)(self._of)  # strangers choose the names, but few are asked for

    def _of(self, endpoint: str, tenant: str = "") -> Guard | None:
        """That of an endpoint; None if there is none."""
        return entry_for(f"{tenant}/{endpoint}" if tenant else endpoint, self._guards)


def entry_for(name: str, entries: Mapping[str, T]) -> T | None:
    """That of `name` itself, or else the first whose pattern fits it; None if none does."""
    if name in entries:
        return entries[name]
    return next((entry for pattern, entry in entries.items() if fnmatchcase(name, pattern)), None)
