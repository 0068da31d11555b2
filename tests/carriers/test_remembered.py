"""The file that remembers which carrier got through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.carriers import remembered
from engine.carriers.carrier import Kind
from engine.carriers.remembered import MAX_BYTES, Remembered
from tests.roles import Roles, agent_config


def test_what_got_through_is_known_the_next_time(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    first = Remembered(str(file), "http://node:8001")
    assert first.kind is None
    first.keep(Kind.POLL)
    Remembered(str(file), "http://node:8001 by http://proxy:3128").keep(Kind.STREAM)
    assert Remembered(str(file), "http://node:8001").kind is Kind.POLL
    assert Remembered(str(file), "http://node:8001 by http://proxy:3128").kind is Kind.STREAM
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b'{"a": 1}', b'{"a": "pigeon"}', b"[" * 60_000, b" " * (MAX_BYTES + 1)]
)
def test_garbage_is_nothing_and_is_written_over(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "memory.json"
    file.write_bytes(content)
    known = Remembered(str(file), "a")
    assert known.kind is None
    known.keep(Kind.POLL)
    assert Remembered(str(file), "a").kind is Kind.POLL


def test_where_nothing_can_be_written_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = Remembered(str(tmp_path / "none" / "memory.json"), "a")
    known.keep(Kind.POLL)
    assert known.kind is Kind.POLL
    Remembered(str(tmp_path), "a").keep(Kind.POLL)


def test_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "MAX_WAYS", 3)
    file = tmp_path / "memory.json"
    for way in "abcde":
        Remembered(str(file), way).keep(Kind.POLL)
    assert list(json.loads(file.read_text())) == ["c", "d", "e"]


async def test_an_agent_tries_first_what_got_through_before(roles: Roles, tmp_path: Path) -> None:
    node = await roles.node()
    config = agent_config(node.upstream, 1)
    config.connect.memory = str(tmp_path / "memory.json")
    Remembered(config.connect.memory, config.connect.way()).keep(Kind.POLL)
    await roles.agent_with(config)
    shown = await (await roles.dial(node.admin)).ask(
        b"GET /status/upstream/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    )
    assert [one["carrier"] for one in json.loads(shown.body)] == ["poll"]
