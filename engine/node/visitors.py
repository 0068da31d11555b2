"""Who may use which endpoint, by the node's own configuration; and what was refused, by that and by the agents'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Final

import trio

from engine.auth.passwords import Passwords
from engine.auth.visitors import Guard, Guards, Users, Verdict
from engine.config import VisitorsConfig
from engine.gateway.role import Refuse
from engine.loop.renewed import SOON_SECONDS, Renewed, watch
from engine.routing import tenants

CHECK_SECONDS: Final = 10.0  # for a password to be checked
BUSY: Final = Refuse(503, "too many passwords are being checked", 1)
REFUSALS: Final = {
    Verdict.ADDRESS: Refuse(403, "this client may not use the endpoint"),
    # One realm: browsers keep passwords for each host, and endpoints have different ones.
    Verdict.CREDENTIALS: Refuse(
        401, "a name and a password are needed", challenge=b'Basic realm="restricted", charset="UTF-8"'
    ),
}
"""What is answered."""


class Visitors:
    """The guards of `proxy.endpoints`, whose files are read again when they change, and the checks of passwords.

    `guards` is None if there are none. Raises ConfigError for a file that does not fit.
    """

    def __init__(self, endpoints: Mapping[str, VisitorsConfig]) -> None:
        self.passwords = Passwords()
        self.refused = Counter({"address": 0, "credentials": 0, "busy": 0})
        self._files: list[Renewed] = []
        users: dict[str, Users] = {}  # by file
        for config in endpoints.values():
            path = config.basic_auth_file
            if path and path not in users:
                users[path] = Users(config.users())
                self._files.append(Renewed("basic_auth_file", [path], partial(_read_again, users[path], config)))
        guards = {
            name: Guard(config.allow, config.deny, users.get(config.basic_auth_file))
            for name, config in endpoints.items()
        }
        self.guards = Guards(guards) if guards else None

    async def run(self) -> None:
        """Check passwords, and look at the files, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.passwords.run)
            nursery.start_soon(watch, self._files, SOON_SECONDS)

    def refuse(self, verdict: Verdict) -> Refuse:
        """Count a visitor of whom that was said; what is answered."""
        self.refused[verdict.name.lower()] += 1
        return REFUSALS[verdict]

    def not_let_in(self) -> None:
        """Count a TCP client that an agent does not let in, by its address or for want of a password."""
        self.refused["address"] += 1

    def refuse_bytes(self, key: str, client: str) -> bool:
        """Does the node not let in a TCP client, which comes from that address and can show no password? If so, it is
        counted.
        """
        guard = self.guards.of(*tenants.split(key)) if self.guards is not None else None
        verdict = guard.judge(client, ()) if guard is not None else Verdict.WELCOME
        if verdict is Verdict.WELCOME:
            return False
        self.refuse(verdict)
        return True


def _read_again(users: Users, config: VisitorsConfig) -> None:
    users.replace(config.users())
