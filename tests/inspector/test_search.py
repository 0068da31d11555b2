"""Which records somebody wants to see."""

from __future__ import annotations

import gzip

import pytest

from engine.inspector.recorder import Recorder
from engine.inspector.search import Filter
from tests.inspector.records import answered, asked, get, post

GET = b"GET /open HTTP/1.1\r\nHost: shop.test\r\n\r\n"


def found(recorder: Recorder, **wanted: str) -> list[int]:
    return [number for number, record in recorder.records.items() if Filter(**wanted).matches(record)]


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    get(recorder, "/Path?a=b", "X-Note: In The Head", answer=b"in the Answer")  # 1
    post(recorder, b"In the Body")  # 2
    asked(recorder, GET)  # 3
    failed = asked(recorder, GET)  # 4
    failed.failed("no connection")
    failed._exchange.status = 502
    failed.finished()
    data = gzip.compress(b"squeezed")
    head = b"HTTP/1.1 404 Not Found\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    answered(asked(recorder, GET), head, data)  # 5
    return recorder


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"text": "path?A"}, [1]),
        ({"text": "in the"}, [1, 2]),
        ({"text": "ANSWER"}, [1]),
        ({"text": "squeezed"}, [5]),
        ({"text": "not found"}, [5]),
        ({"text": "nowhere"}, []),
        ({"method": "POST"}, [2]),
        ({"status": "2xx"}, [1, 2]),
        ({"status": "404"}, [5]),
        ({"status": "failed"}, [4, 5]),
        ({"status": "open"}, [3]),
        ({"status": "5xx", "text": "open"}, [4]),
        ({"endpoint": "shop"}, [1, 2, 3, 4, 5]),
        ({"endpoint": "other"}, []),
        ({"kind": "replay"}, []),
        ({"kind": "websocket"}, []),
        ({"status": "x"}, []),
    ],
)
def test_a_filter_finds(recorder: Recorder, wanted: dict[str, str], numbers: list[int]) -> None:
    assert found(recorder, **wanted) == numbers
