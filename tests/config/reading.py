"""What these tests share: configurations read from files, and what is said about those that are wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine.config import (
    AgentConfig,
    CertsConfig,
    Draft,
    ExaminationConfig,
    ForwardConfig,
    Invocation,
    ListenerConfig,
    Section,
    ServerConfig,
    StatusConfig,
    TokenConfig,
    TopConfig,
)
from engine.errors import ConfigError

Write = Callable[[str], str]
ROOTS: list[type[Section]] = [
    ServerConfig,
    AgentConfig,
    ForwardConfig,
    Invocation,
    StatusConfig,
    TopConfig,
    TokenConfig,
    CertsConfig,
    ListenerConfig,
    ExaminationConfig,
]
DURATION = "a duration such as 1m30s, 100ms or 0"
ABOVE_ZERO = "a duration above 0 such as 1m30s or 100ms"
NO_FILE = "No such file or directory"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def load(root: type[Section], path: str, environ: Mapping[str, str] | None = None) -> Section:
    draft = Draft(root)
    draft.read_file(path, expand_env=environ is not None, environ=environ or {})
    return draft.finish()


def mistake(root: type[Section], path: str) -> str:
    """What is said about a file that is wrong."""
    with pytest.raises(ConfigError) as raised:
        load(root, path)
    return str(raised.value)


def unchanged(config: Mapping[str, object], default: Mapping[str, object], prefix: str = "") -> list[str]:
    """The keys that have their default value."""
    found = []
    for key, value in config.items():
        before = default[key]
        if isinstance(value, dict) and isinstance(before, dict):
            found += unchanged(value, before, f"{prefix}{key}.")
        elif value == before:
            found.append(f"{prefix}{key}")
    return found


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
