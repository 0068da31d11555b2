"""A record for other programs: curl runs what it is given, and HAR has its schema."""

from __future__ import annotations

import gzip
import json
import shlex
from typing import Any

import jsonschema
import pytest

from engine.inspector import export
from engine.inspector.record import Record, Source
from engine.inspector.recorder import Recorder
from tests.inspector import har
from tests.inspector.records import answered, asked, get, post
from tests.programs import Programs, needs
from tests.roles import Roles, Talk, answer, values_of

SECRET = "Authorization: Bearer canary"


def archive(*records: Record, secrets: bool = False) -> list[Any]:
    """The entries of a HAR file, which has its schema."""
    entries = [export.har_entry(record, secrets=secrets) for record in records]
    return har.check(json.loads(json.dumps({"log": {**export.har_head(), "entries": entries}})))


# curl ---------------------------------------------------------------------------------------------------------

GZIPPED = gzip.compress(b"squeezed", mtime=0)


@needs("curl")
@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"GET /a?b=c&token=canary HTTP/1.1\r\nHost: shop.test\r\nAccept: */*\r\nUser-Agent: it's\r\n", b""),
        (b"GET /a/../c(*);$x HTTP/1.1\r\nHost: shop.test\r\n", b""),
        (b"DELETE /a HTTP/1.1\r\nHost: shop.test\r\nX-Empty: \r\nX-Zoe: Zo\xc3\xab\r\n", b""),
        (b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 0\r\n", b""),
        (b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 18\r\n", b"@file 'quoted'\r\n$x"),
        (b"PUT /a HTTP/1.1\r\nHost: shop.test\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n", b"\x00\xff\n\n"),
        (
            b"POST /a HTTP/1.1\r\nHost: shop.test\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n" % len(GZIPPED),
            GZIPPED,
        ),
    ],
)
async def test_a_command_asks_the_service_the_same(roles: Roles, programs: Programs, head: bytes, body: bytes) -> None:
    heard: list[tuple[bytes, bytes]] = []

    async def serve(talk: Talk) -> None:
        said = await talk.until(b"\r\n\r\n")
        heard.append((said, await talk.exactly(sum(map(int, values_of(said, b"content-length"))))))
        await talk.say(answer(b"ok"))

    port = await roles.service(serve)
    record = asked(Recorder(), head + b"\r\n", body)
    record.source = Source("shop", f"http://127.0.0.1:{port}", record.source.role)
    command = export.curl(record, secrets=True)
    curl = await programs.start("sh", "-c", command)
    assert await curl.wait_end() == 0, (command, curl.text)
    ((said, sent),) = heard
    assert sent == body
    assert said.split(b"\r\n")[0] == head.split(b"\r\n")[0]
    names = [line.partition(b":")[0].lower() for line in said.split(b"\r\n")[1:-2]]
    assert sorted(names) == sorted(line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:-1])
    for line in head.split(b"\r\n")[1:-1]:
        name, _, value = line.partition(b": ")
        assert values_of(said, name) == [value.strip()]


@needs("curl")
async def test_chunks_are_sent_as_a_length(roles: Roles, programs: Programs) -> None:
    record = asked(
        Recorder(),
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
    )
    assert "--data-raw hello" in export.curl(record, secrets=True)
    assert "ransfer" not in export.curl(record, secrets=True)


def test_a_command_has_no_secrets_unless_they_are_asked_for() -> None:
    record = post(
        Recorder(), b'{"password": "canary"}', SECRET, "Content-Type: application/json", target="/?key=canary"
    )
    assert "canary" not in export.curl(record, secrets=False)
    assert export.curl(record, secrets=True).count("canary") == 3


def test_a_command_says_that_its_body_is_cut() -> None:
    assert export.curl(post(Recorder(), b"x" * 500_000), secrets=True).startswith("# the body is not whole")


def test_a_command_is_words_whatever_it_holds() -> None:
    words = shlex.split(export.curl(get(Recorder(), "/$(reboot);!*", 'X-Quote: it\'s "x"'), secrets=True))
    assert words[-1] == "http://localhost:3000/$(reboot);!*"
    assert 'X-Quote: it\'s "x"' in words


# HAR ----------------------------------------------------------------------------------------------------------


def test_an_entry_tells_what_passed() -> None:
    record = post(
        recorder := Recorder(),
        b"a=1&password=canary",
        "Content-Type: application/x-www-form-urlencoded",
        "Cookie: sid=canary; b=2",
    )
    page = get(recorder, "/page?x=1&y=", answer=b"hello")
    image = get(recorder, "/image", answer=b"\x89PNG\x00", type="image/png")
    first, second, third = archive(record, page, image)
    assert "canary" not in json.dumps([first, second, third])
    assert "canary" in json.dumps(archive(record, secrets=True))
    assert first["request"]["postData"]["text"] == "a=1&password=***"
    assert [cookie["name"] for cookie in first["request"]["cookies"]] == ["sid", "b"]
    assert first["response"]["status"] == 204
    assert second["request"]["url"] == "http://shop.test/page?x=1&y="
    assert second["request"]["queryString"] == [{"name": "x", "value": "1"}, {"name": "y", "value": ""}]
    assert second["response"]["content"] == {"size": 5, "mimeType": "text/plain", "text": "hello"}
    assert third["response"]["content"]["encoding"] == "base64"


def test_what_is_not_over_and_what_has_failed_are_entries_as_well() -> None:
    recorder = Recorder()
    open_ = asked(recorder, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    failed = asked(recorder, b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    failed.failed("the service is away")
    failed._exchange.status = 502
    failed.finished()
    moved = asked(recorder, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
    answered(
        moved, b"HTTP/1.1 302 Found\r\nLocation: /b?token=canary\r\nContent-Length: 0\r\nSet-Cookie: a=canary\r\n\r\n"
    )
    first, second, third = archive(open_, failed, moved)
    assert first["response"]["status"] == 0
    assert (second["response"]["status"], second["comment"]) == (502, "the service is away")
    assert third["response"]["redirectURL"] == "/b?token=***"


def test_a_compressed_body_is_told_as_it_is_read_and_a_long_one_as_cut() -> None:
    recorder = Recorder()
    data = gzip.compress(b'{"a": 1}')
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
    ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    first, second = archive(
        answered(asked(recorder, ask), head % len(data), data), get(recorder, answer=b"x" * 1_000_000)
    )
    assert first["response"]["content"]["text"] == '{"a": 1}'
    assert second["response"]["content"]["size"] == 1_000_000
    assert second["response"]["content"]["comment"] == "the first 256 KiB of 977 KiB are kept"


def test_the_schema_refuses_what_is_no_archive() -> None:
    entry = archive(get(Recorder()))[0]
    wrong: dict[str, Any]
    for wrong in ({"time": "1"}, {"request": {}}, {"timings": {}}, {"other": 1}, {"startedDateTime": "today"}):
        with pytest.raises(jsonschema.ValidationError):
            har.check({"log": {**export.har_head(), "entries": [entry | wrong]}})
