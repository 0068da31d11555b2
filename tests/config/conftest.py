"""What these tests are given: a file to read, and roles to start."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.config.reading import Write
from tests.roles import roles

__all__ = ["roles", "write"]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes `file.yaml` in the current folder, so that errors begin with that short name."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str) -> str:
        Path("file.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return "file.yaml"

    return write_file
