"""Roles that export their spans at once, and a collector that takes them."""

from __future__ import annotations

import pytest

from tests.node.conftest import written
from tests.roles import Roles, roles
from tests.tracing.collector import Collector

__all__ = ["roles", "written"]


@pytest.fixture
async def collector(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> Collector:
    monkeypatch.setattr("engine.tracing.export.INTERVAL_SECONDS", 0.01)
    return await Collector().start(roles)
