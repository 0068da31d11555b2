"""The token that an agent shows: read anew when its file changes, and replaced in time before it expires.

A node ends a session when its token does. So a little before that the token's source (a file, a command) is asked for
another; when there is one, every uplink opens a new session with it, and only then leaves the old one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from engine.auth.token import Invalid, read_claims, read_signed, time_of
from engine.config import ConnectConfig
from engine.errors import ConfigError
from engine.log import get_logger
from engine.loop.renewed import Renewed

AHEAD_SECONDS: Final = 60.0  # of its end a token is replaced, or of a quarter of what it has left where that is less
RETRY_SECONDS: Final = 5.0  # between two questions for another, while the source has none
IDLE_SECONDS: Final = 3600.0  # a token may be in the file by then that expires, or the wall clock be another

log = get_logger("client")


class AgentToken:
    """What a dial shows; `text` is what the source of `connect` has given. The last that could be read stays."""

    @classmethod
    async def open(cls, connect: ConnectConfig) -> AgentToken:
        """Raises ConfigError if the source has none."""
        if not connect.token_command:
            return cls(connect, connect.read_token())
        try:
            return cls(connect, await trio.to_thread.run_sync(connect.read_token))
        except ConfigError as error:  # which knows the key as its section does
            raise ConfigError(f"connect.{error}") from None

    def __init__(self, connect: ConnectConfig, text: str) -> None:
        self._connect = connect
        self._text = text
        self._file = Renewed("connect.token_file", [connect.token_file], self._read)

    def __call__(self) -> str:
        if self._connect.token:
            return self._connect.token
        self._file.refresh()
        return self._text

    def _read(self) -> None:
        self._text = self._connect.read_token()

    async def keep(self, renewed: Callable[[], None]) -> None:
        """Get another token before the one that is here expires, for ever; `renewed` is called when it has come."""
        told = False
        while True:
            shown = self()
            ends_at = expiry_of(shown)
            if ends_at is None:
                await trio.sleep(IDLE_SECONDS)
                continue
            left = ends_at - time.time()
            due = left - min(AHEAD_SECONDS, max(left, 0) / 4)
            if due > 0 and not told:
                await trio.sleep(min(due, IDLE_SECONDS))
                if due > IDLE_SECONDS:
                    continue
            await self._ask()
            newer = expiry_of(self._text)
            if self._text != shown and (newer is None or newer > ends_at):
                log.info("token renewed", seconds=None if newer is None else round(newer - time.time()))
                told = False
                renewed()
                continue
            if not told:
                told = True
                log.warning("the token expires, and its source has no newer one", source=self._connect.token_source)
            await trio.sleep(RETRY_SECONDS)

    async def _ask(self) -> None:
        try:
            self._text = await trio.to_thread.run_sync(self._connect.read_token)
        except (ConfigError, OSError) as error:
            log.warning("cannot read the token: the last one stays", error=str(error))


def expiry_of(token: str) -> float | None:
    """When a token expires, in Unix seconds, by its own word; None if it says nothing that can be read."""
    try:
        _, payload = read_signed(token.encode())
        return time_of(read_claims(payload), "exp")
    except Invalid:
        return None
