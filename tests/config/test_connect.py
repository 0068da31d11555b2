"""The connection of an agent or a forward to its node."""

from __future__ import annotations

import pytest

from engine.config import AgentConfig, ConnectConfig, Draft, Section
from engine.errors import ConfigError
from tests.config.reading import Write, mistake
from tests.config.ways import ways

WRONG = [
    *(
        (
            AgentConfig,
            f"connect: {{url: '{url}'}}",
            f"1: connect.url: '{url}': expected a URL such as https://host or http://host:port, port from 1 to 65535",
        )
        for url in ("node:8001", "http://node:99999")
    ),
    (
        AgentConfig,
        "connect: {url: ''}",
        "1: connect.url: '': expected a URL such as https://host or http://host:port, port from 1 to 65535",
    ),
    (
        AgentConfig,
        "connect: {proxy_url: 'proxy:'}",
        "1: connect.proxy_url: 'proxy:': proxy URL with host 'proxy:': expected scheme://user:password@host:port",
    ),
    (
        AgentConfig,
        "connect: {proxy_url: 'ftp://proxy:1'}",
        "1: connect.proxy_url: 'ftp://proxy:1': proxy scheme 'ftp': "
        "it must be one of http, https, socks4, socks4a, socks5, socks5h",
    ),
]


@pytest.mark.parametrize(("root", "text", "line"), WRONG, ids=[line[:60] for _, _, line in WRONG])
def test_a_mistake_about_the_node_is_told_in_one_line(root: type[Section], text: str, line: str, write: Write) -> None:
    assert mistake(root, write(text)) == f"file.yaml:{line}"


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def test_pikos_key_and_ours_mean_the_same_way_out() -> None:
    theirs = ConnectConfig(url="http://node", proxy_url="socks5h://a:1080 -> http://user:secret@b:3128").router()
    (route,) = await theirs.routes_to("node", 80)
    (ours,) = await ways(url=["socks5h://a:1080 -> http://user:secret@b:3128"])
    assert str(route) == str(ours) == "socks5h://a:1080 -> http://b:3128"
    assert (route.source, ours.source) == ("connect.proxy_url", "connect.proxy.url")


async def test_the_environment_decides_where_nothing_is_configured(
    no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [str(route) for route in await ways()] == ["direct"]
    monkeypatch.setenv("https_proxy", "http://e:1")
    assert [str(route) for route in await ways()] == ["http://e:1"]
    assert [str(route) for route in await ways(no_proxy=[".test"])] == ["direct"]
    assert [str(route) for route in await ways(url=["http://a:1"])] == ["http://a:1"]


def test_a_proxy_of_the_environment_that_is_none_is_found_before_anything_starts(
    no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://alice:5ecret@proxy")
    with pytest.raises(ConfigError, match=r"^environment variable https_proxy: name the port of the proxy") as raised:
        ConnectConfig(url="https://node").verify()
    assert "5ecret" not in str(raised.value)
    ConnectConfig(url="http://node").verify()  # which is not asked about
    ConnectConfig(url="https://node", proxy_url="direct").verify()


def test_a_placeholder_in_a_proxy_of_the_environment_is_no_password(
    no_proxies: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://alice:***@proxy:1")
    with pytest.raises(
        ConfigError, match=r"^environment variable HTTPS_PROXY: \*\*\* is what is printed instead of a secret"
    ):
        ConnectConfig(url="https://node").verify()


def test_the_variable_of_both_keys_is_that_of_the_list() -> None:
    draft = Draft(AgentConfig)
    draft.read_environment({"TRIODUCT_CONNECT_PROXY_URL": 'http://a:1,"http://u:p,q@b:1"'})
    assert draft.finish().connect.proxy.url == ["http://a:1", "http://u:p,q@b:1"]
    assert draft.config.connect.proxy_url == ""
