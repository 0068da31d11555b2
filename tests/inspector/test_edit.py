"""A request as a form, and the request that the form means."""

from __future__ import annotations

import gzip

import pytest

from engine.inspector import edit
from engine.inspector.kept import BODY_BYTES
from engine.inspector.record import Record
from engine.inspector.recorder import Recorder
from engine.inspector.replay import CannotReplay
from tests.inspector.records import asked, get, post

SECRET = "Authorization: Bearer canary"


def filled(record: Record, *, secrets: bool = False, **changes: str) -> dict[str, str]:
    """What a browser sends of a form: each line's end as CR LF."""
    form = edit.form(record, secrets=secrets)
    answers = {name: text for name, text in form._asdict().items() if text is not None and name != "why"} | changes
    return {name: text.replace("\r\n", "\n").replace("\n", "\r\n") for name, text in answers.items()}


def test_a_request_that_is_not_edited_is_the_same() -> None:
    for record in (
        get(Recorder(), "/a?token=canary&b=c", SECRET, "X-Name: Zoë", "Cookie: a=canary"),
        post(Recorder(), b'{"a": 1,\n "b": 2}\n', SECRET),
        post(Recorder(), b"a\r\nb\r\n"),
        post(Recorder(), b"\x00\xff"),
        post(Recorder(), b'{"password": "canary"}', "Content-Type: application/json"),
        post(Recorder(), gzip.compress(b"x", mtime=0), "Content-Encoding: gzip"),
    ):
        head, body = edit.edited(record, filled(record))
        came, same = edit.as_it_came(record)
        assert body == same
        assert sorted(head.split(b"\r\n")) == sorted(came.split(b"\r\n"))
        assert "canary" not in str(filled(record))


def test_what_is_edited_is_sent_with_the_length_that_it_has() -> None:
    record = post(Recorder(), b"one", SECRET, "X-Old: 1")
    fields = filled(record)["fields"].replace("X-Old: 1", "X-New: Zoë")
    head, body = edit.edited(record, filled(record, method="PUT", target="/other?x=1", fields=fields, body="four"))
    assert body == b"four"
    assert head.split(b"\r\n") == [
        b"PUT /other?x=1 HTTP/1.1",
        b"Host: shop.test",
        b"Authorization: Bearer canary",
        "X-New: Zoë".encode(),
        b"Content-Length: 4",
        b"",
        b"",
    ]


def test_a_body_may_be_added_and_taken_away() -> None:
    assert b"Content-Length: 3" in edit.edited(record := get(Recorder()), filled(record, body="new"))[0]
    assert b"Content-Length" not in edit.edited(record, filled(record))[0]
    assert b"Content-Length: 0" in edit.edited(record := post(Recorder(), b"old"), filled(record, body=""))[0]


def test_chunks_go_as_they_came_or_become_a_length() -> None:
    head = b"POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n"
    record = asked(Recorder(), head, b"5\r\nhello\r\n0\r\n\r\n")
    assert edit.as_it_came(record) == (head, b"5\r\nhello\r\n0\r\n\r\n")
    head, body = edit.edited(record, filled(record))
    assert (body, b"Content-Length: 5" in head, b"chunked" in head) == (b"hello", True, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "/b?token=***"}, "the target has a masked part"),
        ({"fields": "Host: shop.test\nAuthorization: Basic ***"}, "Authorization has a masked part"),
        ({"fields": "Host: shop.test\nX-Other: ***"}, "X-Other has a masked part"),
        ({"fields": "no field"}, "'no field' is no field; expected `Name: value`"),
        ({"target": "/a\x00b"}, "control characters in"),
    ],
)
def test_what_is_not_meant_is_not_sent(changes: dict[str, str], said: str) -> None:
    record = get(Recorder(), "/a?token=canary", SECRET)
    with pytest.raises(CannotReplay) as caught:
        edit.edited(record, filled(record) | changes)
    assert said in str(caught.value)


def test_a_body_that_is_not_whole_is_not_sent_unless_another_is_given() -> None:
    long = post(Recorder(), b"x" * (BODY_BYTES + 1))
    half = asked(Recorder(), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", b"half")
    chunks = asked(Recorder(), b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")
    for record, said in (
        (long, "only the first 256 KiB of its body"),
        (half, "not come whole"),
        (chunks, "not come whole"),
    ):
        with pytest.raises(CannotReplay, match=said):
            edit.as_it_came(record)
        assert edit.edited(record, filled(record, body="new"))[1] == b"new"


@pytest.mark.parametrize(
    ("body", "field", "why"),
    [
        (b"\x00\x01", "X: y", "it is not text"),
        (gzip.compress(b"a", mtime=0), "Content-Encoding: gzip", "it is compressed"),
        (b"x" * (BODY_BYTES + 1), "X: y", "only its first bytes are kept"),
        (b"password=canary", "Content-Type: application/x-www-form-urlencoded", "it has secrets in it"),
    ],
)
def test_why_a_body_cannot_be_edited_is_said(body: bytes, field: str, why: str) -> None:
    form = edit.form(post(Recorder(), body, field), secrets=False)
    assert form.body is None
    assert form.why.startswith(why)


def test_a_masked_body_can_be_edited_once_it_is_shown() -> None:
    record = post(Recorder(), b"password=canary", "Content-Type: application/x-www-form-urlencoded")
    assert edit.form(record, secrets=True).body == "password=canary"
