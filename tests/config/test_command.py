"""What a command line says beside the configuration of a role."""

from __future__ import annotations

import pytest

from engine.config import Section, ServerConfig
from tests.config.reading import Write, mistake

WRONG = [
    (
        ServerConfig,
        "config: {path: x}",
        "1: config: unknown key; expected one of proxy, upstream, admin, cluster, log, tracing, workers, grace_period",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_the_file_does_not_say_which_file_to_read(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"
