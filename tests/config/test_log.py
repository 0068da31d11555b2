"""Logs and access logs."""

from __future__ import annotations

import pytest

from engine.config import Section, ServerConfig
from tests.config.reading import Write, mistake

WRONG = [
    (
        ServerConfig,
        "proxy: {access_log: {request_headers: {allow_list: [a], block_list: [b]}}}",
        "1: proxy.access_log.request_headers.block_list: 'b': set as well as allow_list; expected one of the two",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_values_that_exclude_each_other_are_told(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"
