"""A recorded request as a form to edit, and the request that an edited form means.

A masked line, target or body that comes back as it was shown stands for what it masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from engine.errors import HTTPError
from engine.inspector import show
from engine.inspector.record import Record
from engine.inspector.replay import CannotReplay
from engine.secret import MASK
from engine.wire.http1 import CHUNKED, ChunkedBody

FRAMING = ("content-length", "transfer-encoding")


class Form(NamedTuple):
    """What is edited. `fields`: a line each, without those that frame the body. `body` is None if it goes as it came,
    for the reason `why`.
    """

    method: str
    target: str
    fields: str
    body: str | None
    why: str


def form(record: Record, *, secrets: bool) -> Form:
    """A request as it may be edited."""
    request = record.request
    target = show.text_of(request.target)
    text, why = _editable(record, secrets=secrets)
    return Form(
        show.text_of(request.method),
        target if secrets else show.url(target),
        "\n".join(shown for shown, _ in _lines(record, secrets=secrets)),
        text,
        why,
    )


def as_it_came(record: Record) -> tuple[bytes, bytes]:
    """Head and body of a recorded request. Raises CannotReplay if not all of it is here."""
    return record.request.head, _whole_body(record)


def edited(record: Record, answers: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Head and body of the request that a filled form means. Raises CannotReplay.

    `answers` has `method`, `target`, `fields`, and `body` unless that goes as it came.
    """
    request = record.request
    method, target = answers.get("method", "").strip(), answers.get("target", "").strip()
    if target == show.url(show.text_of(request.target)):
        target = show.text_of(request.target)
    elif MASK in target:
        raise CannotReplay("the target has a masked part; show the secrets to edit it")
    lines = [_encoded(f"{method} {target} HTTP/1.1"), *_edited_lines(record, answers.get("fields", ""))]
    if "body" in answers:
        body = _edited_body(record, answers["body"])
        if body or request.body:
            lines.append(b"Content-Length: %d" % len(body))
    else:
        body = _whole_body(record)
        framing = [name + b": " + value for name, value in request.fields if show.text_of(name).lower() in FRAMING]
        lines += framing
    return b"\r\n".join([*lines, b"", b""]), body


def _lines(record: Record, *, secrets: bool) -> list[tuple[str, bytes]]:
    """Field lines as they are shown, and as they came."""
    found = []
    for name, value in record.request.fields:
        if show.text_of(name).lower() not in FRAMING:
            field = show.field(name, value, secrets=secrets)
            found.append((f"{field.name}: {field.value}", name + b": " + value))
    return found


def _edited_lines(record: Record, text: str) -> list[bytes]:
    known = dict(_lines(record, secrets=False)) | dict(_lines(record, secrets=True))
    lines = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if line in known:
            lines.append(known[line])
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise CannotReplay(f"{line!r} is no field; expected `Name: value`")
        if name.strip().lower() in FRAMING:
            continue
        if value.strip() == MASK or (MASK in value and any(MASK in shown for shown in known)):
            raise CannotReplay(f"{name.strip()} has a masked part; show the secrets to edit it")
        lines.append(_encoded(f"{name.strip()}: {value.strip()}"))
    return lines


def _editable(record: Record, *, secrets: bool) -> tuple[str | None, str]:
    """The body as a text to edit, or None and why it goes as it came."""
    request = record.request
    if not record.body_in.size:
        return "", ""
    if show.value_of(request.fields, b"content-encoding"):
        return None, "it is compressed"
    if not record.body_in.whole:
        return None, "only its first bytes are kept"
    text, _ = show.plain(record.body_in, request.body, request.fields)
    if text is None:
        return None, "it is not text"
    if not secrets and show.body(record.body_in, request.body, request.fields, secrets=False).masked:
        return None, "it has secrets in it; show them to edit it"
    return text, ""


def _edited_body(record: Record, text: str) -> bytes:
    before, content = show.plain(record.body_in, record.request.body, record.request.fields)
    if before is not None:
        if _unix(text) == _unix(before):
            return content.data
        if "\r\n" not in before:  # a browser sends each line's end as CR LF
            text = _unix(text)
    return text.encode()


def _whole_body(record: Record) -> bytes:
    framing, kept = record.request.body, record.body_in
    data = bytes(kept.data)
    if not kept.whole:
        shown = show.size_text(len(data)), show.size_text(kept.size)
        raise CannotReplay(f"only the first {shown[0]} of its body of {shown[1]} are kept")
    if framing == CHUNKED:
        body = ChunkedBody()
        try:
            body.receive(memoryview(data))
            ended = body.done
        except (AssertionError, HTTPError):
            ended = False
    else:
        ended = len(data) == framing
    if not ended:
        raise CannotReplay("its body has not come whole")
    return data


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")


def _encoded(line: str) -> bytes:
    if not line.isprintable():
        raise CannotReplay(f"control characters in {line!r}")
    return line.encode()
