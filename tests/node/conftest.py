"""The fixtures that start roles, and that read their log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Protocol

import pytest

from engine import log
from tests.roles import roles

__all__ = ["roles"]


class Written(Protocol):
    """The lines that these subsystems have written to the log, of level info and above."""

    def __call__(self, *subsystems: str) -> list[dict[str, object]]: ...


@pytest.fixture
def written() -> Iterator[Written]:
    stream = io.StringIO()
    log.configure("info", (), stream)

    def lines(*subsystems: str) -> list[dict[str, object]]:
        assert log.flush()
        return [line for line in map(json.loads, stream.getvalue().splitlines()) if line["subsystem"] in subsystems]

    yield lines
    log.configure("warn")
