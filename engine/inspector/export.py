"""A record for other programs: as a curl command, and as an entry of an HTTP Archive (HAR 1.2)."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from http import HTTPStatus
from shlex import quote
from typing import Final
from urllib.parse import parse_qsl

from engine import __version__
from engine.inspector import show
from engine.inspector.record import Record
from engine.secret import MASK, without_secrets
from engine.wire.http1 import Fields

Json = dict[str, object]

_HTTP: Final = {10: "HTTP/1.0", 11: "HTTP/1.1"}
_CURL_ADDS: Final = ("accept", "user-agent")  # unless they are given, or said to be empty
_FRAMING: Final = ("content-length", "transfer-encoding")


def curl(record: Record, *, secrets: bool) -> str:
    """A command that asks the service the same, in a POSIX shell."""
    request = record.request
    target = show.text_of(request.target)
    words = ["curl", "--globoff", "--path-as-is"]
    method = show.text_of(request.method)
    words += ["--head"] if method == "HEAD" else ["--request", quote(method)]
    given = show.fields(request.fields, secrets=secrets)
    names = {field.name.lower() for field in given}
    for field in given:
        if field.name.lower() not in _FRAMING:
            words += ["--header", quote(f"{field.name}: {field.value}" if field.value else f"{field.name};")]
    words += [word for name in _CURL_ADDS if name not in names for word in ("--header", quote(f"{name}:"))]
    piped = ""
    has_body = record.body_in.size > 0 or "content-length" in names
    if has_body and "content-type" not in names:
        words += ["--header", "content-type:"]
    if record.body_in.size:
        text, content = show.plain(record.body_in, request.body, [])  # as it came: the head says how it is compressed
        if text is not None:
            shown = show.body(record.body_in, request.body, request.fields, secrets=secrets)
            words += ["--data-raw", quote(shown.text if shown.masked else text)]
        else:
            piped = f"printf %s {base64.b64encode(content.data).decode()} | base64 -d | "
            words += ["--data-binary", "@-"]
    elif has_body:
        words += ["--data-raw", "''"]
    shown_target = target if secrets else show.url(target)
    words.append(quote(record.source.service + shown_target))
    comment = "" if record.body_in.whole else "# the body is not whole: only its first bytes are kept\n"
    return f"{comment}{piped}{' '.join(words)}\n"


# HAR --------------------------------------------------------------------------------------------------------


def har_head() -> Json:
    """What a HAR file's `log` has beside its entries."""
    return {"version": "1.2", "creator": {"name": "trioduct", "version": __version__}}


def har_entry(record: Record, *, secrets: bool) -> Json:
    """One entry. What HAR has no word for begins with an underscore, as the standard wants it."""
    times = record.times
    send, wait, receive = _legs(record)
    connect = -1 if times.connect is None else times.connect * 1000
    entry: Json = {
        "startedDateTime": datetime.fromtimestamp(record.started, UTC).isoformat(timespec="milliseconds"),
        "time": send + wait + receive + max(connect, 0),
        "request": _har_request(record, secrets=secrets),
        "response": _har_response(record, secrets=secrets),
        "cache": {},
        "timings": {
            "blocked": -1,
            "dns": -1,
            "ssl": -1,
            "connect": connect,
            "send": send,
            "wait": wait,
            "receive": receive,
        },
        "_endpoint": record.source.endpoint,
        "_service": record.source.service,
    }
    if record.replay_of:
        entry["_replayOf"] = record.replay_of
    if record.failures:
        entry["comment"] = "; ".join(record.failures)
    if record.messages is not None:
        entry["_resourceType"] = "websocket"
        entry["_webSocketMessages"] = [
            {
                "type": "send" if message.to_service else "receive",
                "time": record.started + message.seconds,
                "opcode": 1 if message.kind == "text" else 2,
                "data": _message_text(message.data, text=message.kind == "text", secrets=secrets),
            }
            for message in record.messages.latest
            if message.kind in ("text", "binary")
        ]
    return entry


def _message_text(data: bytes, *, text: bool, secrets: bool) -> str:
    if not text:
        return base64.b64encode(data).decode()
    said = data.decode(errors="replace")
    return said if secrets else without_secrets(said)


def _legs(record: Record) -> tuple[float, float, float]:
    """Milliseconds: the request coming, its answer being waited for, its answer coming."""
    times = record.times
    if times.first_byte is None:
        return times.request * 1000, max((times.whole or times.request) - times.request, 0) * 1000, 0
    connect = times.connect or 0
    wait = max(times.first_byte - times.request - connect, 0)
    receive = max((times.whole or times.first_byte) - times.first_byte, 0)
    return times.request * 1000, wait * 1000, receive * 1000


def _har_request(record: Record, *, secrets: bool) -> Json:
    request = record.request
    target = show.text_of(request.target)
    scheme = show.value_of(request.fields, b"x-forwarded-proto") or "http"
    shown = target if secrets else show.url(target)
    _, _, query = shown.partition("?")
    told: Json = {
        "method": show.text_of(request.method),
        "url": f"{scheme}://{show.text_of(request.host)}{shown if shown.startswith('/') else '/'}",
        "httpVersion": _HTTP[request.version],
        "cookies": _cookies(request.fields, b"cookie", secrets=secrets),
        "headers": _pairs(request.fields, secrets=secrets),
        "queryString": [
            {"name": name, "value": value} for name, value in parse_qsl(query, keep_blank_values=True, separator="&")
        ],
        "headersSize": len(request.head),
        "bodySize": record.body_in.size,
    }
    if record.body_in.size and record.messages is None:
        text, content = show.plain(record.body_in, request.body, request.fields)
        shown_body = show.body(record.body_in, request.body, request.fields, secrets=secrets)
        post: Json = {"mimeType": show.value_of(request.fields, b"content-type"), "params": []}
        if text is None:
            post |= {"text": base64.b64encode(content.data).decode(), "encoding": "base64"}
        else:
            post["text"] = shown_body.text if shown_body.masked else text
        told["postData"] = post | _comment(content.notes)
    return told


def _har_response(record: Record, *, secrets: bool) -> Json:
    response = record.response
    if response is None:  # none yet, or the agent's own
        fields: Fields = []
        framing, head_size, version, reason = 0, -1, 11, _reason(record.status)
    else:
        fields, framing, head_size, version = response.fields, response.body, len(response.head), response.version
        reason = show.text_of(response.reason)
    found = show.field(b"location", show.value_of(fields, b"location").encode(), secrets=secrets)
    return {
        "status": record.status,
        "statusText": reason,
        "httpVersion": _HTTP[version],
        "cookies": _cookies(fields, b"set-cookie", secrets=secrets),
        "headers": _pairs(fields, secrets=secrets),
        "content": _har_content(record, framing, fields, secrets=secrets),
        "redirectURL": found.value,
        "headersSize": head_size,
        "bodySize": record.body_out.size,
    }


def _har_content(record: Record, framing: int, fields: Fields, *, secrets: bool) -> Json:
    mime = show.value_of(fields, b"content-type") or "x-unknown"
    kept = record.body_out
    if not kept.size or record.messages is not None:
        return {"size": kept.size, "mimeType": mime}
    text, content = show.plain(kept, framing, fields)
    told: Json = {"size": len(content.data) if kept.whole else kept.size, "mimeType": mime}
    if text is None:
        told |= {"text": base64.b64encode(content.data).decode(), "encoding": "base64"}
    else:
        shown = show.body(kept, framing, fields, secrets=secrets)
        told["text"] = shown.text if shown.masked else text
    return told | _comment(content.notes)


def _comment(notes: tuple[str, ...]) -> Json:
    return {"comment": "; ".join(notes)} if notes else {}


def _pairs(fields: Fields, *, secrets: bool) -> list[Json]:
    return [{"name": field.name, "value": field.value} for field in show.fields(fields, secrets=secrets)]


def _cookies(fields: Fields, name: bytes, *, secrets: bool) -> list[Json]:
    """Names and values: of a Cookie field all, of a Set-Cookie field the first, behind which its attributes stand."""
    found: list[str] = []
    for key, value in fields:
        if key.lower() == name:
            pairs = show.text_of(value).split(";")
            found += pairs if name == b"cookie" else pairs[:1]
    split = [pair.strip().partition("=") for pair in found]
    return [{"name": key, "value": value if secrets else MASK} for key, _, value in split]


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
