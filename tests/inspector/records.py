"""Records of exchanges that a test makes up."""

from __future__ import annotations

from typing import cast

from engine.gateway.exchange import Exchange
from engine.gateway.role import Role
from engine.gateway.states import Answer
from engine.inspector.record import Record, Source
from engine.inspector.recorder import Recorder
from engine.wire import http1

SOURCE = Source("shop", "http://localhost:3000", cast("Role", None))


def asked(recorder: Recorder, head: bytes, body: bytes = b"") -> Record:
    """An exchange that has begun."""
    request = http1.parse_request(head)
    exchange = Exchange(request)
    record = recorder.begin(SOURCE, exchange)
    exchange.watch = record
    if body:
        record.request_body(memoryview(body))
    return record


def answered(record: Record, head: bytes, body: bytes = b"") -> Record:
    """It is over, with this answer."""
    exchange = record._exchange
    response = http1.parse_response(head, record.request.method)
    exchange.response, exchange.status = response, response.status
    exchange.first_byte_at = exchange.started_at + 0.001
    exchange.answer = Answer.DONE
    if body:
        record.answer_body(memoryview(body))
    record.finished()
    return record


def get(
    recorder: Recorder, target: str = "/", *fields: str, answer: bytes = b"hello", type: str = "text/plain"
) -> Record:
    """One that is over."""
    lines = [f"GET {target} HTTP/1.1", "Host: shop.test", *fields, "", ""]
    record = asked(recorder, "\r\n".join(lines).encode())
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {type}\r\nContent-Length: {len(answer)}\r\n\r\n"
    return answered(record, head.encode(), answer)


def post(recorder: Recorder, body: bytes, *fields: str, target: str = "/buy") -> Record:
    """One whose request has a body."""
    lines = [f"POST {target} HTTP/1.1", "Host: shop.test", f"Content-Length: {len(body)}", *fields, "", ""]
    record = asked(recorder, "\r\n".join(lines).encode(), body)
    return answered(record, b"HTTP/1.1 204 No Content\r\n\r\n")
