"""Tokens, and the keys to verify them with."""

from __future__ import annotations

import pytest
import yaml

from engine.config import Section, ServerConfig
from engine.errors import ConfigError
from tests.config.reading import EC_KEY, NO_FILE, RSA_KEY, Write, load, mistake, pem

WRONG = [
    (
        ServerConfig,
        "admin: {auth: {hmac_secret_key: 5ecret, jwks: {endpoint: 'http://a/b'}}}",
        "1: admin.auth.hmac_secret_key: '***': set as well as jwks.endpoint; expected one of the two",
    ),
    (
        ServerConfig,
        "proxy: {auth: {jwks: {endpoint: a.json}}}",
        "1: proxy.auth.jwks.endpoint: 'a.json': expected an https://, http:// or file:/// URL",
    ),
    (
        ServerConfig,
        "proxy: {auth: {jwks: {endpoint: 'file:///no/where'}}}",
        f"1: proxy.auth.jwks.endpoint: '/no/where': {NO_FILE}; expected a file with a JSON Web Key Set",
    ),
    (
        ServerConfig,
        "proxy: {auth: {rsa_public_key: rsa.pem}}",
        "1: proxy.auth.rsa_public_key: 'rsa.pem': expected a public key in PEM",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_key_that_cannot_verify_is_told(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


def test_a_public_key_of_the_wrong_kind_is_refused(write: Write) -> None:
    for name, key in (("rsa_public_key", EC_KEY), ("ecdsa_public_key", RSA_KEY)):
        with pytest.raises(ConfigError, match=f"^file.yaml:1: proxy.auth.{name}: '-----BEGIN PUBLIC KEY"):
            load(ServerConfig, write(yaml.safe_dump({"proxy": {"auth": {name: pem(key)}}}, default_flow_style=True)))
