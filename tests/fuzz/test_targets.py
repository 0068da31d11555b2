"""The seeds and everything that was found once, through their targets; and the command, which finds what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.targets import HERE, TARGETS, corpus, found, target

INPUTS = [(name, path) for name in TARGETS for folder in (corpus, found) for path in sorted(folder(name).glob("*"))]


@pytest.mark.parametrize(("name", "path"), INPUTS, ids=[f"{name}-{path.name}" for name, path in INPUTS])
def test_what_was_found_once_holds(name: str, path: Path) -> None:
    target(name)(path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_seeds_and_takes_nothing_and_noise(name: str) -> None:
    assert [*corpus(name).glob("*")]
    for data in (b"", b"\0", b"\xff" * 40, bytes(range(256))):
        target(name)(data)


def test_every_folder_is_a_targets() -> None:
    for kind in ("corpus", "found"):
        assert {path.name for path in (HERE / kind).glob("*")} <= {*TARGETS}
    assert {path.stem for path in (HERE / "dictionaries").glob("*")} <= {*TARGETS}
