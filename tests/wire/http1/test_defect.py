"""What is said of a message that is refused: in the log, and to a stranger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import HTTPError
from engine.wire import http1
from tests.wire.http1.heads import head, soup

SECRET = b"s3cr3t"

# Each is refused in a request, and holds the secret where a value may stand.
HEADS = [
    head(b"Cookie: \x00" + SECRET),
    head(b"Authorization: Bearer " + SECRET + b"\x1b"),
    head(b"Cookie: a=b;\r\n " + SECRET),
    head(b"Cookie: a\r" + SECRET),
    head(b"Cookie: a\n" + SECRET + b": c"),
    head(b"Cookie: a\r\n" + SECRET),
    head(b"Cookie : " + SECRET),
    head(b": " + SECRET),
    head(b"Coo kie: " + SECRET),
    head(b"Host: " + SECRET),
    head(b"Host: a b" + SECRET, host=False),
    head(b"Content-Length: " + SECRET),
    head(b"Transfer-Encoding: " + SECRET),
    head(b"Transfer-Encoding: gzip, " + SECRET),
    head(b"Connection: a " + SECRET),
    head(b"Connection: upgrade", b"Upgrade: a " + SECRET),
    head(b"Expect: " + SECRET),
    head(b"X-User: " + SECRET, b"X_User: " + SECRET),
    head(b"Cookie: " + SECRET, *[b"A: b"] * http1.MAX_FIELDS),
    head(b"Cookie: a=b", SECRET + b"@x: c"),
    head(b"Cookie: a=b", SECRET + b"\xe9: c"),
    head(first=b"GET x#token=" + SECRET + b" HTTP/1.1"),
    head(first=b'{"password": "' + SECRET + b'"}'),
    head(first=b"password=" + SECRET),
    head(first=SECRET),
    head(first=b"GET x?token=" + SECRET + b" HTTP/1.1"),
    head(first=b"GET /?token=" + SECRET + b" HTTP/2.0"),
    head(first=b"GET /?token=" + SECRET + b"  HTTP/1.1"),
    head(first=b"GET ftp://user:" + SECRET + b"@a.b/ HTTP/1.1"),
    head(first=b"GET http://user:" + SECRET + b"@a.b/ HTTP/1.1"),
    head(first=b"GET user:" + SECRET + b"@a.b HTTP/1.1"),
]


def refused(data: bytes) -> HTTPError:
    with pytest.raises(HTTPError) as caught:
        http1.parse_request(data)
    return caught.value


@pytest.mark.parametrize("data", HEADS)
def test_the_value_of_a_field_is_said_to_nobody_and_neither_is_a_query_or_a_password(data: bytes) -> None:
    error = refused(data)
    assert SECRET.decode() not in str(error)
    assert str(error).startswith(error.public)


def test_trailers_and_the_data_of_a_body_are_said_to_nobody() -> None:
    for data in (
        b"0\r\nA: \x00" + SECRET + b"\r\n\r\n",
        b"0\r\nA: b\r\n " + SECRET + b"\r\n\r\n",
        b"1\r\nx" + SECRET,
        SECRET + b"\r\n",
        b"0;" + SECRET + b"\x00\r\n",
    ):
        with pytest.raises(HTTPError) as caught:
            http1.ChunkedBody().receive(memoryview(data))
        assert SECRET.decode() not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "public", "seen"),
    [
        (b"A\xe9: b", "expected a field name", "field line 2, byte 0xe9 at 1"),
        (b"A : b", "expected a field name", "field line 2, byte 0x20 at 1"),
        (b": b", "a field line without a name", "field line 2"),
        (b"A: \x00", "a control character in the value of a field", "field line 2, 'A'"),
        (b"A: b\rc", "a bare CR or LF in a field line", "field line 2, 'A'"),
        (b" A: b", "a folded field line", "field line 2"),
        (b"A", "a field line without a colon", "field line 2"),
        (
            b"X_Piko_Endpoint: b",
            "a field name that can be taken for another",
            "'X_Piko_Endpoint' for 'x-piko-endpoint'",
        ),
    ],
)
def test_the_log_reads_which_field_it_was_and_a_stranger_what_kind_of_defect(
    line: bytes, public: str, seen: str
) -> None:
    error = refused(head(line))
    assert (error.public, str(error)) == (public, f"{public}: {seen}")


def test_what_is_quoted_is_escaped_and_cut() -> None:
    long = b"9" * 1000
    lines = (b"\xe9\x80" + long, b"GET /\xe9" + long + b" HTTP/1.1")
    for data in (*(head(first=line) for line in lines), head(b"\xe9" + long + b": b"), head(long + b" : b")):
        error = refused(data)
        assert len(str(error)) < 300
        assert str(error).isprintable()
        assert str(error).isascii() or "…" in str(error)
    assert r"GET /\xe9999" in str(refused(head(first=lines[1])))


def test_what_is_no_first_line_is_told_by_its_size_and_first_byte() -> None:
    secret = b'{"password": "' + SECRET + b'"}'
    for data in (secret + b"\r\n", b"\x00" + SECRET, b"EHLO " + SECRET + b"\r\n"):
        with pytest.raises(HTTPError) as caught:
            http1.head_end(data)
        assert SECRET.decode() not in str(caught.value)


@given(soup, st.binary(max_size=20))
def test_a_stranger_reads_the_same_whatever_bytes_they_sent(data: bytes, more: bytes) -> None:
    said = []
    for sent in data, data + more, b"GET / HTTP/1.1\r\nHost: a.b\r\n" + data + more + b"\r\n\r\n":
        try:
            http1.head_end(sent)
            http1.parse_request(sent)
        except HTTPError as error:
            said.append((error.public, str(error)))
    for public, whole in said:
        assert public in PUBLIC
        assert whole.startswith(public)
        assert whole.isprintable()


PUBLIC = {
    "a TLS handshake came to a port without TLS",
    "this is no HTTP",
    "a line ends with a bare LF",
    "expected the first line of a message",
    "expected HTTP/1.1",
    "expected a request line",
    "expected a target that begins with /",
    "expected a host in the target",
    "expected one host in Host",
    "a request without Host",
    "more than 4 empty lines before a message",
    "both Transfer-Encoding and Content-Length",
    "Transfer-Encoding in an HTTP/1.0 message",
    "expected chunked in Transfer-Encoding",
    "expected a number in Content-Length",
    "expected names in Connection",
    "expected protocols in Upgrade",
    "CONNECT is not supported",
    "a folded field line",
    "a bare CR or LF in a field line",
    "a field line without a colon",
    "a field line without a name",
    "expected a field name",
    "a control character in the value of a field",
    "a field name that can be taken for another",
    "the fields do not end with an empty line",
}
"""What may be said of bytes of this kind. None of it has a place for anything that was sent."""
