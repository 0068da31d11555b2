"""Requests that a node refuses, as they are sent, each with the status that it answers.

They are numbered as the lines of the table in docs/security.md, which has their names.
"""

from __future__ import annotations

from typing import NamedTuple

GET = b"GET / HTTP/1.1"
POST = b"POST / HTTP/1.1"
HOST = b"Host: web.test"


SUBJECTS = {
    1: "both framings",
    2: "Transfer-Encoding",
    3: "versions that know no chunks",
    4: "Content-Length",
    5: "chunk sizes",
    6: "chunk lines",
    7: "chunk extensions",
    8: "trailers",
    9: "line ends and control characters",
    10: "field names",
    11: "folding",
    12: "underscores",
    13: "Host",
    15: "targets",
    16: "sizes",
    17: "versions",
    51: "the terminal of who reads the log",
}
"""What the requests of a line are about."""

Table = dict[int, dict[str, tuple[bytes, int]]]
"""By line and name, what is sent and the status."""


class Refused(NamedTuple):
    line: int
    name: str
    sent: bytes
    status: int

    def __str__(self) -> str:
        return f"{self.line}-{self.name}"


def head(*fields: bytes, first: bytes = GET, host: bytes = HOST) -> bytes:
    return b"\r\n".join([first, *([host] if host else []), *fields, b"", b""])


def coded(*fields: bytes, first: bytes = POST) -> bytes:
    """With a body that is empty for whoever reads chunks, and five bytes for whoever reads none."""
    return head(*fields, first=first) + b"0\r\n\r\n"


def _heads() -> Table:
    length, chunked = b"Content-Length: 5", b"Transfer-Encoding: chunked"
    return {
        1: {
            "Content-Length, then Transfer-Encoding": (coded(length, chunked), 400),
            "Transfer-Encoding, then Content-Length": (coded(chunked, length), 400),
        },
        2: {
            "two Transfer-Encoding": (coded(chunked, chunked), 400),
            "identity and chunked in two fields": (coded(b"Transfer-Encoding: identity", chunked), 400),
            **{
                repr(value)[2:-1]: (coded(b"Transfer-Encoding: " + value), 400)
                for value in (
                    b"chunked, chunked",
                    b",chunked",
                    b"chunked,",
                    b"chunked, identity",
                    b"identity, chunked",
                    b"gzip, chunked",
                    b"\x0bchunked",
                    b"\x85chunked",
                    b"chunked\xa0",
                    b'"chunked"',
                    b"chunked;q=1",
                )
            },
            "empty": (coded(b"Transfer-Encoding:"), 400),
            "Transfer-Encoding : chunked": (coded(b"Transfer-Encoding : chunked"), 400),
            "xchunked alone": (coded(b"Transfer-Encoding: xchunked"), 501),
            "identity alone": (coded(b"Transfer-Encoding: identity"), 501),
        },
        3: {"chunked in HTTP/1.0": (coded(chunked, first=b"POST / HTTP/1.0"), 400)},
        4: {
            **{
                repr(value)[2:-1] or "empty": (head(b"Content-Length: " + value, first=POST), 400)
                for value in (
                    b"+5",
                    b"-1",
                    b"0x10",
                    b"1_0",
                    b"5,5",
                    b"5 5",
                    b"",
                    b"1" * 20,
                    b"\xb2",
                    b"1e3",
                )
            },
            "two, equal": (head(length, length, first=POST), 400),
            "two that differ": (head(length, b"Content-Length: 6", first=POST), 400),
        },
        9: {
            "bare LF as line ends": (b"GET / HTTP/1.1\nHost: web.test\n\n", 400),
            "bare LF behind a field": (b"GET / HTTP/1.1\r\nHost: web.test\nX: 1\r\n\r\n", 400),
            **{
                f"{what} in a {where}": (head(b"X%b: 1" % char if where == "name" else b"X: a%bb" % char), 400)
                for what, char in {"NUL": b"\0", "CR": b"\r", "VT": b"\x0b", "ESC": b"\x1b", "DEL": b"\x7f"}.items()
                for where in ("name", "value")
            },
        },
        10: {
            "space before the colon": (head(b"X : 1"), 400),
            "tab before the colon": (head(b"X\t: 1"), 400),
            "no name": (head(b": 1"), 400),
            "no colon": (head(b"rubbish"), 400),
            "a space in the name": (head(b"a b: 1"), 400),
            "a name that is no token": (head("é: 1".encode()), 400),
        },
        11: {
            "a folded field": (head(b"X: a", b" b"), 400),
            "a field folded by a tab": (head(b"X: a", b"\tb"), 400),
            "a folded first field": (head(b" X: a", host=b""), 400),
        },
        12: {
            "Content_Length": (head(b"Content_Length: 5", first=POST), 400),
            "Transfer_Encoding": (head(b"Transfer_Encoding: chunked", first=POST), 400),
            "x_piko_endpoint": (head(b"x_piko_endpoint: other"), 400),
            "X_Forwarded_For": (head(b"X_Forwarded_For: 10.0.0.1"), 400),
            "X-User beside X_User": (head(b"X-User: a", b"X_User: b"), 400),
        },
        13: {
            "no Host": (head(host=b""), 400),
            "two Host, equal": (head(HOST), 400),
            "two Host that differ": (head(b"Host: other.test"), 400),
            **{
                f"Host: {value.decode()}".rstrip(): (head(host=b"Host: " + value), 400)
                for value in (b"", b"user@web.test", b"web.test/path", b"web.test, other.test", b"web .test", b"[::1")
            },
        },
        15: {
            "CONNECT web.test:80": (head(first=b"CONNECT web.test:80 HTTP/1.1"), 501),
            "CONNECT /": (head(first=b"CONNECT / HTTP/1.1"), 501),
            **{
                f"GET {target}": (head(first=f"GET {target} HTTP/1.1".encode()), 400)
                for target in ("*", "web.test:80", "path", "../path", "http:/path", "ftp://web.test/", "//\\", "/#x")
            },
        },
        16: {
            "a request line over 8 KiB": (head(first=b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 414),
            "a head over 32 KiB": (head(b"X: " + b"x" * 32 * 1024), 431),
            "101 fields": (head(*[b"X-%d: 1" % number for number in range(100)]), 431),
        },
        17: {
            "HTTP/0.9": (b"GET /\r\n", 400),
            "HTTP/1.32": (head(first=b"GET / HTTP/1.32"), 505),
            "HTTP/2.0": (head(first=b"GET / HTTP/2.0"), 505),
            "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            "http/1.1": (head(first=b"GET / http/1.1"), 400),
            "a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32), 400),
        },
        51: {
            "ESC in the target": (head(first=b"GET /\x1b[31m HTTP/1.1"), 400),
            "CR in the target": (head(first=b"GET /\rx HTTP/1.1"), 400),
            "ESC in the method": (head(first=b"G\x1bET / HTTP/1.1"), 400),
            "ESC in Host": (head(host=b"Host: web\x1b.test"), 400),
            "9 000 bytes that are no HTTP": (b"x" * 9000, 414),
        },
    }


def _bodies() -> Table:
    """What is no body of chunks, behind `Transfer-Encoding: chunked`."""
    return {
        5: {
            **{
                repr(size.decode()): (size + b"\r\nhello\r\n0\r\n\r\n", 400)
                for size in (
                    b"0x5",
                    b"+5",
                    b"-5",
                    b"5_0",
                    b" 5",
                    b"5 ",
                    b"",
                    b"0" * 16 + b"5",
                    b"8000000000000000",
                    b"FFFFFFFFFFFFFFFF",
                    b"G",
                )
            },
        },
        6: {
            "bare LF behind the size": (b"5\nhello\r\n0\r\n\r\n", 400),
            "bare CR behind the size": (b"5\rhello\r\n0\r\n\r\n", 400),
            "bare LF in an extension": (b"5;a\nb\r\nhello\r\n0\r\n\r\n", 400),
            "bare CR in an extension": (b"5;a\rb\r\nhello\r\n0\r\n\r\n", 400),
            "more bytes than the size says": (b"5\r\nhello, world\r\n0\r\n\r\n", 400),
            "bare LF behind the data": (b"5\r\nhello\n0\r\n\r\n", 400),
        },
        7: {
            "an extension of 16 KiB": (b"1;" + b"a" * 16 * 1024 + b"\r\nx\r\n0\r\n\r\n", 400),
            "66 KiB of extensions": ((b"1;" + b"a" * 1024 + b"\r\nx\r\n") * 66 + b"0\r\n\r\n", 400),
        },
        8: {
            "9 KiB of trailers": (b"0\r\nX: " + b"x" * 9 * 1024 + b"\r\n\r\n", 431),
            "bare LF in a trailer": (b"0\r\nX: a\nY: b\r\n\r\n", 400),
            "a trailer without a colon": (b"0\r\nrubbish\r\n\r\n", 400),
        },
    }


def _listed(table: Table) -> list[Refused]:
    return [Refused(line, name, *sent) for line, named in table.items() for name, sent in named.items()]


HEADS = _listed(_heads())
BODIES = _listed(_bodies())
