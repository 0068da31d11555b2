"""What is printed in place of a secret."""

from __future__ import annotations

import pytest

from engine.config import AgentConfig, ConnectConfig, Section, ServerConfig, shown
from engine.errors import ConfigError
from tests.config.reading import EC_KEY, Write, load, pem


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("http://user@proxy:3128", "http://user@proxy:3128"),
        ("http://user:a@b/c:d@proxy:3128", "http://user:***@proxy:3128"),
        ("http://user:a://b@proxy:3128", "http://user:***@proxy:3128"),
        ("user:secret@proxy:3128", "user:***@proxy:3128"),
        ("", ""),
    ],
)
def test_the_password_of_a_proxy_is_masked_however_raw_it_is(url: str, expected: str) -> None:
    assert shown(ConnectConfig(proxy_url=url))["proxy_url"] == expected


SECRETS = [
    (AgentConfig, "connect: {token: 5ecret and more}"),
    (AgentConfig, "connect: {token: [5ecret]}"),
    (AgentConfig, "connect: {token: 5ecret"),
    (AgentConfig, "connect:\n\ttoken: 5ecret"),
    (AgentConfig, "connect: {proxy_url: 'http://user:5ecret@proxy'}"),
    (AgentConfig, "connect: {proxy_url: 'http://user:5e->cret5ecret@proxy:1'}"),
    (AgentConfig, "connect: {url: 'ftp://user:5ecret@node'}"),
    (AgentConfig, "listeners: [{endpoint_id: a, addr: 'http://user:5ecret@host:x'}]"),
    (ServerConfig, "proxy: {auth: {hmac_secret_key: {a: 5ecret}}}"),
    (ServerConfig, f"proxy: {{auth: {{hmac_secret_key: {pem(EC_KEY)!r}}}}}".replace("'", '"')),
    (ServerConfig, "proxy: {auth: {rsa_public_key: '-----BEGIN PRIVATE KEY-----5ecret'}}"),
]


@pytest.mark.parametrize(("root", "text"), SECRETS)
def test_no_mistake_makes_a_secret_known(root: type[Section], text: str, write: Write) -> None:
    with pytest.raises(ConfigError) as raised:
        load(root, write(text))
    assert "cret" not in str(raised.value).replace("hmac_secret_key", "").replace("expected a secret", "")
    assert "BEGIN" not in str(raised.value)
    assert "\n" not in str(raised.value)
