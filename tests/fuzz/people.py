"""What people write: configuration files, durations, addresses, URLs."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

from engine.config import (
    MASK,
    AgentConfig,
    Draft,
    ForwardConfig,
    Section,
    ServerConfig,
    format_duration,
    parse_duration,
    parse_lifetime,
    split_address,
    split_url,
    to_yaml,
)
from engine.config.address import split_store
from engine.errors import ConfigError
from engine.wire.public_url import PublicURL

_FILE: Final = os.memfd_create("configuration")  # on a disk, it would take most of the time
_ENVIRONMENT: Final = {"NAME": "value", "SECRET": "not-to-be-seen-7f1c"}


def configuration(data: bytes) -> None:
    """A configuration of each role, or one line about what it is not; printed, it is what it was."""
    for root in (ServerConfig, AgentConfig, ForwardConfig):
        config = _read(root, data)
        if config is None:
            continue
        printed = to_yaml(config)
        assert _ENVIRONMENT["SECRET"] not in printed or b"SECRET" in data
        if MASK in printed:
            continue  # what is masked cannot be read back
        again = _read(root, printed.encode())
        assert again is not None
        assert to_yaml(again) == printed


def _read(root: type[Section], data: bytes) -> Section | None:
    os.truncate(_FILE, 0)
    os.pwrite(_FILE, data, 0)
    draft = Draft(root)
    try:
        draft.read_file(f"/proc/self/fd/{_FILE}", expand_env=True, environ=_ENVIRONMENT)
        return draft.finish()
    except ConfigError as error:
        assert str(error).isprintable()
        return None


def texts(data: bytes) -> None:
    """Durations, addresses and URLs: a value, or a ValueError; written anew, they are the same."""
    text = data.decode("utf-8", "replace")
    with suppress(ValueError):
        seconds = parse_duration(text)
        assert abs(parse_duration(format_duration(seconds)) - seconds) <= 1e-6 * abs(seconds)
    with suppress(ValueError):
        assert parse_lifetime(text) == parse_duration(text) or "d" in text
    with suppress(ValueError):
        host, port = split_address(text)
        assert 0 <= port < 65536
        assert not re.search(r"\s", host)
    with suppress(ValueError):
        target = split_url(text)
        assert 0 < target.port < 65536
        assert target.host
    with suppress(ValueError):
        url = PublicURL.parse(text)
        assert PublicURL.parse(str(url)) == url
    with suppress(ValueError):
        split_store(text)
