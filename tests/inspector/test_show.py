"""Heads and bodies as text: masked, decompressed, formatted, within bounds."""

from __future__ import annotations

import gzip
import json
import zlib

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inspector import show
from engine.inspector.kept import BODY_BYTES, Kept
from engine.inspector.show import DECODED_BYTES
from engine.wire.http1 import CHUNKED, Fields


def kept(data: bytes) -> Kept:
    found = Kept()
    found.add(data)
    return found


def body(
    data: bytes, media: str = "", *, coding: str = "", framing: int | None = None, secrets: bool = False
) -> show.Shown:
    fields: Fields = [(b"Content-Type", media.encode())] * bool(media)
    fields += [(b"Content-Encoding", coding.encode())] * bool(coding)
    return show.body(kept(data), len(data) if framing is None else framing, fields, secrets=secrets)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (b"Authorization", b"Bearer canary", "***"),
        (b"Cookie", b"a=canary", "***"),
        (b"X-Api-Key", b"canary", "***"),
        (b"Accept", b"text/html", "text/html"),
        (b"Referer", b"https://a.test/b?page=2&token=canary#canary", "https://a.test/b?page=2&token=***#***"),
        (b"X-Note", b"see https://user:canary@a.test", "see https://***@a.test"),
        (b"X-Name", "Zoë".encode(), "Zoë"),
        (b"X-Name", b"Zo\xeb", "Zoë"),
    ],
)
def test_a_field_is_shown_without_its_secret(name: bytes, value: bytes, shown: str) -> None:
    field = show.field(name, value, secrets=False)
    assert field.value == shown
    assert field.masked == ("***" in shown)
    assert show.field(name, value, secrets=True).value.encode() in (value, "Zoë".encode())


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/a?page=2&q=x", "/a?page=2&q=x"),
        ("/a?page=2&api_key=canary&b", "/a?page=2&api_key=***&b"),
        ("/a?x=eyJhbGciOiJub25lIn0.canary.", "/a?x=***"),
        ("/reset/eyJhbGciOiJub25lIn0.canary.", "/reset/***"),
        ("/a?access%5Ftoken=canary", "/a?access%5Ftoken=***"),
        ("/a?token=", "/a?token="),
        ("*", "*"),
    ],
)
def test_a_target_is_shown_without_its_secrets(target: str, shown: str) -> None:
    assert show.url(target) == shown


def test_json_is_formatted_and_what_its_secret_keys_have_is_masked() -> None:
    data = (
        b'{"name":"Ann","n":1.10,"password":"canary","keys":[1],"tokens":{"a":["canary",{"b":"canary"}]},'
        b'"t":"eyJhbGci.canary."}'
    )
    assert body(data, "application/json").text.splitlines() == [
        "{",
        '  "name": "Ann",',
        '  "n": 1.10,',
        '  "password": "***",',
        '  "keys": [',
        "    1",
        "  ],",
        '  "tokens": "***",',
        '  "t": "***"',
        "}",
    ]
    assert body(data, "application/json", secrets=True).text.count("canary") == 4
    assert body(data, "application/json").masked
    assert not body(data, "application/json", secrets=True).masked


TEXT = st.text(max_size=5)


@given(
    st.recursive(TEXT | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=6),
)
def test_no_json_leaves_what_is_behind_a_secret_key(value: object) -> None:
    data = json.dumps({"a": value, "password": {"deep": ["canary", value]}, "z": [{"secret": "canary"}, value]})
    shown = body(data.encode(), "application/json")
    assert shown.kind == "json"
    assert "canary" not in shown.text
    assert "***" in shown.text


def test_json_that_is_too_deep_or_broken_is_text() -> None:
    for data in (b"[" * 100_000, b'{"a": ', b"[1,]"):
        assert body(data, "application/json").kind == "text"


def test_a_form_is_a_table() -> None:
    shown = body(b"name=Ann+Bee&password=canary&empty=", "application/x-www-form-urlencoded")
    assert [(one.name, one.value, one.masked) for one in shown.pairs] == [
        ("name", "Ann Bee", False),
        ("password", "***", True),
        ("empty", "", False),
    ]
    assert shown.masked


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(b"hello", mtime=0)),
        ("x-gzip", gzip.compress(b"hello", mtime=0)),
        ("deflate", zlib.compress(b"hello")),
        ("deflate", zlib.compress(b"hello")[2:-4]),
        ("br", brotli.compress(b"hello")),
        ("identity", b"hello"),
        ("gzip, br", brotli.compress(gzip.compress(b"hello", mtime=0))),
    ],
)
def test_compressed_bodies_are_read(coding: str, data: bytes) -> None:
    assert body(data, "text/plain", coding=coding).text == "hello"


def test_a_bomb_is_cut() -> None:
    for coding, data in (("gzip", gzip.compress(bytes(5_000_000))), ("br", brotli.compress(b"a" * 5_000_000))):
        fields = [(b"Content-Encoding", coding.encode())]
        found = show.content(kept(data), len(data), fields)
        assert len(found.data) == DECODED_BYTES
        assert found.notes[-1] == "the first 1.0 MiB were decompressed"


@pytest.mark.parametrize(
    ("coding", "note"), [("gzip", "is not gzip: "), ("br", "is not br: "), ("lzma", "compressed by lzma, which cannot")]
)
def test_what_cannot_be_decompressed_is_said(coding: str, note: str) -> None:
    shown = body(b"\x01not at all", "application/x-unknown", coding=coding)
    assert shown.notes[0].startswith(note)


def test_chunks_are_taken_off() -> None:
    assert body(b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\n", "text/plain", framing=CHUNKED).text == "hello world"
    assert body(b"5\r\nhello\r\n6\r\n wo", "text/plain", framing=CHUNKED).text == "hello wo"  # what is kept of it


def test_of_a_long_body_it_is_said_what_is_missing() -> None:
    shown = body(b"x" * (3 * BODY_BYTES), "text/plain")
    assert shown.notes == ("the first 256 KiB of 768 KiB are kept",)
    assert len(shown.text) == BODY_BYTES
    cut = "é".encode() * BODY_BYTES
    assert body(b"x" + cut, "text/plain").text.endswith("é")


def test_what_is_no_text_is_dumped() -> None:
    shown = body(b"\x00\x01abc" + bytes(1000), "application/octet-stream")
    assert shown.kind == "binary"
    assert shown.text.startswith("00000000  00 01 61 62 63 00")
    assert shown.notes == ("the first 512 bytes are shown",)


def test_an_image_is_one_and_a_page_is_only_text() -> None:
    assert body(b"\x89PNG", "image/png").kind == "image"
    assert body(b"<script>", "text/html").kind == "text"
    assert body(b"").kind == "nothing"


def test_a_charset_is_heeded() -> None:
    assert body(b"Zo\xeb", "text/plain; charset=ISO-8859-1").text == "Zoë"
    assert body(b"Zo\xeb", "text/plain").text == "Zoë"
    assert body(b"Zo\xeb!", "application/json").kind == "binary"
    assert body(b"Zoe", "text/plain; charset=none-such").kind == "binary"


@given(st.binary(max_size=300), st.sampled_from(["text/plain", "application/json", "", show.FORM, "image/png"]))
def test_nothing_that_comes_raises(data: bytes, media: str) -> None:
    for coding in ("", "gzip", "br", "deflate"):
        for framing in (len(data), CHUNKED):
            body(data, media, coding=coding, framing=framing)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (262144, "256 KiB"), (2**30, "1.0 GiB"), (1_020_000, "996 KiB")],
)
def test_sizes_read_well(size: int, text: str) -> None:
    assert show.size_text(size) == text


def test_seconds_read_well() -> None:
    assert [show.seconds_text(s) for s in (0.00012, 0.5, 2, 150)] == ["120 µs", "500.0 ms", "2.00 s", "2.5 min"]
