"""Tokens, and the keys to verify them with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from engine.config import Section, ServerConfig
from engine.config.auth import NAMES
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


def test_a_key_in_a_file_is_checked_like_any_other(write: Write, tmp_path: Path) -> None:
    secret = tmp_path / "secret"

    def said(content: str, mode: int = 0o600, more: str = "") -> str:
        secret.write_text(content)
        secret.chmod(mode)
        return mistake(ServerConfig, write(f"proxy: {{auth: {{hmac_secret_key_file: '{secret}'{more}}}}}"))

    place = f"file.yaml:1: proxy.auth.hmac_secret_key_file: '{secret}': "
    assert said("5ecret").startswith(f"{place}a secret of 6 bytes; expected 32 or more")
    assert said("") == f"{place}is empty; expected a key"
    assert said("5ecret" * 6, 0o644).startswith(f"{place}{secret} can be read by others than its owner")
    assert said("5ecret" * 6, more=f", hmac_secret_key: {'5ecret' * 6}").startswith(
        f"{place}set as well as hmac_secret_key"
    )
    assert "5ecret" not in said("5ecret" * 2)
    secret.unlink()
    for name in NAMES:
        path = write(f"proxy: {{auth: {{{name}_file: '{secret}'}}}}")
        assert f"proxy.auth.{name}_file: '{secret}': {NO_FILE}" in mistake(ServerConfig, path)


def test_a_key_in_a_file_makes_a_port_ask_for_tokens(write: Write, tmp_path: Path) -> None:
    (tmp_path / "rsa.pem").write_text(pem(RSA_KEY))
    config = load(ServerConfig, write(f"proxy: {{auth: {{rsa_public_key_file: '{tmp_path}/rsa.pem'}}}}"))
    assert isinstance(config, ServerConfig)
    assert config.proxy.auth.enabled
    assert not config.upstream.auth.enabled


def test_a_credential_of_systemd_may_look_as_if_a_group_could_read_it(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("5ecret" * 6 + "\n")
    secret.chmod(0o440)
    path = write("upstream: {auth: {hmac_secret_key_file: '${CREDENTIALS_DIRECTORY}/secret'}}")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    with pytest.raises(ConfigError, match="can be read by others"):
        load(ServerConfig, path, environ)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    config = load(ServerConfig, path, environ)
    assert isinstance(config, ServerConfig)
    assert config.upstream.auth.keys()["hmac_secret_key"] == "5ecret" * 6
