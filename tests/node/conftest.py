"""The fixtures that start roles, and that read their log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Protocol

import pytest
import trio

from engine import log
from engine.config import ServerConfig
from engine.loop.reactor import Reactor
from engine.node.node import Node, open_node
from tests.roles import roles

__all__ = ["roles"]


class Written(Protocol):
    """The lines that these subsystems have written to the log, of level info and above."""

    def __call__(self, *subsystems: str) -> list[dict[str, object]]: ...


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[Node]:
    """Those that are opened from now on."""
    opened: list[Node] = []

    async def open_and_keep(config: ServerConfig, reactor: Reactor, nursery: trio.Nursery) -> Node:
        opened.append(await open_node(config, reactor, nursery))
        return opened[-1]

    monkeypatch.setattr("engine.node.node.open_node", open_and_keep)
    return opened


@pytest.fixture
def written() -> Iterator[Written]:
    stream = io.StringIO()
    log.configure("info", (), stream)

    def lines(*subsystems: str) -> list[dict[str, object]]:
        assert log.flush()
        return [line for line in map(json.loads, stream.getvalue().splitlines()) if line["subsystem"] in subsystems]

    yield lines
    log.configure("warn")
