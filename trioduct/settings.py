"""How a program says which node, and what way leads there: the keys of a configuration file, as arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, TypeVar

from engine.carriers.carrier import Kind
from engine.config import AgentConfig, ConnectConfig, ForwardConfig
from engine.config.draft import Draft
from engine.config.knob import knobs
from engine.errors import ConfigError
from engine.loop.certificates import Certificates
from engine.loop.dial import Server

C = TypeVar("C", AgentConfig, ForwardConfig)
NONE: Final[Mapping[str, str]] = MappingProxyType({})


def agent_way(url: str, token: str, settings: Mapping[str, str]) -> ConnectConfig:
    """The way to a node's upstream port. Raises ConfigError."""
    return _read(Draft(AgentConfig), url, token, settings).connect


def client_way(url: str, token: str, settings: Mapping[str, str]) -> ConnectConfig:
    """The way to a node's proxy port. Raises ConfigError."""
    return _read(Draft(ForwardConfig), url, token, settings).connect


def _read(draft: Draft[C], url: str, token: str, settings: Mapping[str, str]) -> C:
    flags = {knob.key: knob.flag for knob in knobs(type(draft.config))}
    given = {**{f"connect.{key}": value for key, value in settings.items()}}
    given |= {key: value for key, value in (("connect.url", url), ("connect.token", token)) if value}
    for key in given:
        if key not in flags:
            known = ", ".join(name.removeprefix("connect.") for name in flags if name.startswith("connect."))
            raise ConfigError(f"settings: {key.removeprefix('connect.')!r} is no key; expected one of {known}")
    draft.read_environment(os.environ)
    draft.read_flags({flags[key]: [value] for key, value in given.items()})
    return draft.finish()


def server_of(connect: ConnectConfig) -> Server:
    """The node, as it is dialled."""
    files = connect.tls
    tls = Certificates("connect.tls", (files.cert, files.key, files.root_cas), connect.client_context)
    return Server(connect.url, tls, files.server_name or None, connect.router())


def kinds_of(connect: ConnectConfig) -> tuple[Kind, ...]:
    """What may carry its sessions."""
    return tuple(map(Kind, connect.carriers))
