"""How pages for errors are configured."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.config import AgentConfig, ServerConfig
from engine.config.pages import MAX_PAGE, open_pages, read_pages
from engine.errors import ConfigError
from tests.config.reading import Write, load, mistake

HTML = b"<!doctype html><title>Sorry</title>"
STATUSES = "expected a status from 400 to 599, or 4xx or 5xx, and a file: 502=/srv/502.html, or in a file"
EXPECTED = "expected an HTML document of at most 64 KiB"


def test_pages_are_read_from_their_files(write: Write, tmp_path: Path) -> None:
    page = tmp_path / "sorry=1.html"
    page.write_bytes(HTML)
    config = load(ServerConfig, write(f"proxy: {{error_pages: {{502: {page}, 4xx: {page}}}}}"))
    assert isinstance(config, ServerConfig)
    assert read_pages(config.proxy.error_pages) == {"502": HTML, "4xx": HTML}


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (b"", f"empty; {EXPECTED}"),
        (b" " * (MAX_PAGE + 1), f"too long; {EXPECTED}"),
        (b"\xff\xfeh\0", "not UTF-8; expected an HTML document in UTF-8"),
    ],
)
def test_a_page_that_is_none_is_told_of(
    document: bytes, line: str, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a value is shown up to a length, and its folder's name may be longer
    Path("page").write_bytes(document)
    file = write("proxy: {error_pages: {5xx: page}}")
    assert mistake(ServerConfig, file) == f"file.yaml:1: proxy.error_pages: '5xx=page': {line}"


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/no/such/page", f"'/no/such/page': No such file or directory; {EXPECTED}"),
        ("/etc", f"'502=/etc': is no file; {EXPECTED}"),
        ("/dev/zero", f"'502=/dev/zero': is no file; {EXPECTED}"),
    ],
)
def test_a_file_that_is_none_is_told_of(path: str, line: str, write: Write) -> None:
    listener = f"listeners: [{{endpoint_id: a, addr: 1, error_pages: {{502: {path}}}}}]"
    assert mistake(AgentConfig, write(listener)) == f"file.yaml:1: listeners[0].error_pages: {line}"


@pytest.mark.parametrize("pages", ["200: /a", "6xx: /a", "50: /a", "502", "{502: }", "'5x2': /a"])
def test_a_status_that_is_none_is_told_of(pages: str, write: Write) -> None:
    value = pages if pages[0] == "{" or ":" not in pages else f"{{{pages}}}"
    assert STATUSES in mistake(ServerConfig, write(f"proxy: {{error_pages: {value}}}"))


def test_a_status_has_one_page_and_tcp_none(write: Write, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_bytes(HTML)
    said = mistake(ServerConfig, write(f"proxy: {{error_pages: [502={page}, 502=/b]}}"))
    assert said.endswith("'502=/b': is the second page of that status; expected one for each")
    listener = f"{{endpoint_id: a, addr: 1, protocol: tcp, error_pages: {{502: {page}}}}}"
    assert "the protocol is tcp" in mistake(AgentConfig, write(f"listeners: [{listener}]"))


def test_what_a_file_has_become_is_shown_if_it_is_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_bytes(HTML)
    pages, read = open_pages("proxy", [("502", str(page))])
    for document, shown in ((b"<p>new", b"<p>new"), (b"", b"<p>new"), (b"<p>newer", b"<p>newer")):
        page.write_bytes(document)
        read.refresh()
        assert pages.documents == {"502": shown}
    os.unlink(page)
    read.refresh()
    assert pages.documents == {"502": b"<p>newer"}
    with pytest.raises(ConfigError, match="No such file"):
        open_pages("proxy", [("502", str(page))])
