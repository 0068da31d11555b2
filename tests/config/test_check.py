"""What is wrong with values together."""

from __future__ import annotations

import pytest

from engine.config import Section, ServerConfig
from engine.errors import ConfigError
from tests.config.reading import Write, load, mistake

WRONG = [
    (
        ServerConfig,
        "proxy: {bind_addr: '10.0.0.1:8001'}",
        "1: proxy.bind_addr: '10.0.0.1:8001': upstream.bind_addr is the same port; expected another one",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_two_ports_on_one_address_are_told(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


def test_a_long_value_is_cut_and_stays_on_one_line(write: Write) -> None:
    with pytest.raises(ConfigError) as raised:
        load(ServerConfig, write("proxy:\n  timeout: |\n    " + "long\n    " * 100))
    assert str(raised.value).endswith(r"long\nlong…': expected a duration such as 1m30s, 100ms or 0")
    assert len(str(raised.value)) < 250
