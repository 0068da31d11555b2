"""What is made of files is made anew when they have become others, and stays while they are of no use."""

from __future__ import annotations

from pathlib import Path

import trio
from trio.testing import MockClock

from engine.errors import ConfigError
from engine.loop.renewed import WATCH_SECONDS, Renewed, watch


async def test_a_file_is_read_again_when_it_is_another_and_not_before(
    tmp_path: Path, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    path = tmp_path / "page"
    path.write_text("one")
    made: list[str] = []

    def make() -> None:
        if not path.exists():
            raise ConfigError("there is none")
        made.append(path.read_text())

    nursery.start_soon(watch, [Renewed("a page", [str(path), ""], make)])
    await trio.sleep(2.5 * WATCH_SECONDS)
    assert made == []
    for text in ("two!", "three"):
        path.write_text(text)
        await trio.sleep(2 * WATCH_SECONDS)
    path.unlink()
    await trio.sleep(2 * WATCH_SECONDS)
    path.write_text("four")
    await trio.sleep(2 * WATCH_SECONDS)
    assert made == ["two!", "three", "four"]
    nursery.cancel_scope.cancel()
