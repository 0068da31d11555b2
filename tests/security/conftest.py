"""What these tests share: roles to attack, and the log of what they refuse."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from engine import log
from tests.roles import roles

__all__ = ["logged", "roles"]


class Logged:
    """The lines that were logged since the test began, at level debug."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def text(self) -> str:
        assert log.flush()
        return self.stream.getvalue()

    def lines(self, message: str) -> list[dict[str, Any]]:
        """The lines with this message."""
        return [line for line in map(json.loads, self.text().splitlines()) if line["msg"] == message]


@pytest.fixture
def logged() -> Iterator[Logged]:
    logged = Logged()
    log.configure("debug", (), logged.stream)
    yield logged
    log.configure("warn")
