"""Whoever runs the tests has no say in them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.programs import clean_environment
from tests.roles import roles

__all__ = ["no_settings", "roles"]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of whoever runs the tests has a say, and no file but those that a test writes."""
    for name in os.environ.keys() - clean_environment().keys() - {"PIKO"}:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
