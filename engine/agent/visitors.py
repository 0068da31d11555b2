"""What an agent has its node do about visitors, read again when the file with their passwords changes."""

from __future__ import annotations

from collections.abc import Callable

from engine.config import ListenerConfig
from engine.loop.renewed import Renewed, watch


class SaidOfVisitors:
    """What a listener's registration says (see wire.visitors). The last that could be read stays.

    Raises ConfigError.
    """

    def __init__(self, listener: ListenerConfig) -> None:
        self._listener = listener
        self._said = listener.said_of_visitors()
        self._renewed: Callable[[], None] = lambda: None

    def __call__(self) -> bytes:
        return self._said

    def _read(self) -> None:
        said = self._listener.said_of_visitors()
        if said != self._said:
            self._said = said
            self._renewed()

    async def keep(self, renewed: Callable[[], None]) -> None:
        """Look at the file, for ever; `renewed` is called when there is something else to say."""
        self._renewed = renewed
        path = self._listener.visitors.basic_auth_file
        if path:
            await watch([Renewed("visitors.basic_auth_file", [path], self._read)])
