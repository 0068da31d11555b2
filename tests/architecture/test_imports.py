"""The order of imports is the map of the project; pyproject.toml holds it as contracts."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter.cli import lint_imports

PROJECT = Path(__file__).parents[2]


def test_every_import_goes_down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(PROJECT)
    status = lint_imports(no_cache=True)
    assert status == 0, capsys.readouterr().out
