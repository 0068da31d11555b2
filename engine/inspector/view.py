"""What the templates are given: a record as a row of the list, and with everything that is known of it."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Final, NamedTuple

from engine.inspector import show
from engine.inspector.kept import Kept
from engine.inspector.messages import Message
from engine.inspector.record import Record
from engine.secret import without_secrets
from engine.wire.http1 import Fields

SIDES: Final = ("request", "response")


class Row(NamedTuple):
    """A line of the list."""

    number: int
    clock: str
    method: str
    target: str
    status: str
    status_class: str
    status_text: str
    took: str
    size: str
    endpoint: str
    websocket: bool
    replay_of: int


class Way(NamedTuple):
    """A message's fields and body."""

    fields: list[show.Field]
    body: show.Shown


class Leg(NamedTuple):
    """A piece of the time that an exchange took: `begin` and `size` in thousandths of the whole."""

    name: str
    text: str
    begin: float
    size: float


class MessageRow(NamedTuple):
    to_service: bool
    kind: str
    text: str
    size: str
    at: str
    cut: bool
    masked: bool


def row(record: Record) -> Row:
    status, whole = record.status, record.times.whole
    return Row(
        record.number,
        datetime.fromtimestamp(record.started).strftime("%H:%M:%S"),
        show.text_of(record.request.method),
        show.url(show.text_of(record.request.target)),
        str(status) if status else "…",
        f"s{status // 100}" if status else "s0",
        _phrase(status) if status else "under way",
        show.seconds_text(whole) if whole is not None else "under way",
        show.size_text(record.body_out.size),
        record.source.endpoint,
        record.is_websocket,
        record.replay_of,
    )


def _phrase(status: int) -> str:
    if status == 499:
        return "the client has gone"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def side(record: Record, name: str) -> tuple[Kept, int, Fields]:
    """The body of one of SIDES, how it was framed, and the fields of its head."""
    if name == "request":
        return record.body_in, record.request.body, record.request.fields
    if record.response is None:
        return record.body_out, 0, []
    return record.body_out, record.response.body, record.response.fields


def detail(record: Record, *, secrets: bool) -> dict[str, object]:
    """All that is shown of a record."""
    ways = {}
    for name in SIDES:
        kept, framing, fields = side(record, name)
        ways[name] = Way(show.fields(fields, secrets=secrets), show.body(kept, framing, fields, secrets=secrets))
    target = show.text_of(record.request.target)
    shown = target if secrets else show.url(target)
    masked = any(way.body.masked or any(field.masked for field in way.fields) for way in ways.values())
    messages = record.messages.latest if record.messages is not None else ()
    rows = [_message(one, secrets=secrets) for one in messages]
    return {
        "record": record,
        "row": row(record),
        "target": shown,
        "masked": masked or shown != target or any(one.masked for one in rows),
        "legs": _legs(record),
        "times": record.times,
        "request": ways["request"],
        "response": ways["response"],
        "messages": rows,
    }


def _legs(record: Record) -> list[Leg]:
    """Where the time went, in order."""
    times = record.times
    pieces: list[tuple[str, float, float]] = [("node → agent: the request comes", 0.0, times.request)]
    if times.connect is not None:
        pieces.append(("agent → service: a connection is made", times.sent - times.connect, times.sent))
    if times.first_byte is not None:
        begin = min(max(times.sent, times.request), times.first_byte)
        pieces.append(("agent → service: until the first byte of the answer", begin, times.first_byte))
        if times.whole is not None:
            rest = "the rest of the answer" if record.status != 101 else "both ways, until the end"
            pieces.append((f"service → agent → node: {rest}", times.first_byte, times.whole))
    total = max((end for _, _, end in pieces), default=0.0) or 1e-9
    return [
        Leg(
            name, show.seconds_text(end - begin), round(1000 * begin / total, 1), round(1000 * (end - begin) / total, 1)
        )
        for name, begin, end in pieces
    ]


def _message(message: Message, *, secrets: bool) -> MessageRow:
    data = message.data
    if message.kind == "close" and len(data) >= 2:
        text = f"{int.from_bytes(data[:2])} {data[2:].decode(errors='replace')}".strip()
    elif message.kind == "text":
        text = data.decode(errors="replace")
    else:
        text = show.hex_dump(data[: show.DUMPED_BYTES])
    shown = text if secrets else without_secrets(text)
    size, at = show.size_text(message.size), show.seconds_text(message.seconds)
    return MessageRow(message.to_service, message.kind, shown, size, at, message.cut, shown != text)
