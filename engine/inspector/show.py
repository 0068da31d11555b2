"""Heads and bodies as text for a person, secrets masked unless they are asked for.

What is a secret is `engine.secret`'s to say: by the name of a field, of a parameter in a query or a form, of a key in
JSON; and by its form wherever it stands. Bodies are decompressed and formatted within bounds.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable
from functools import cache
from typing import Final, NamedTuple, Protocol, cast
from urllib.parse import unquote_plus

import msgspec

from engine.errors import HTTPError
from engine.inspector.kept import Kept
from engine.secret import MASK, is_secret, is_url, without_secrets
from engine.wire.http1 import CHUNKED, ChunkedBody, Fields

DECODED_BYTES: Final = 1024 * 1024  # of a body, decompressed
SHOWN_CHARACTERS: Final = 256 * 1024  # of a body's text
DUMPED_BYTES: Final = 512  # of a body that is no text
IMAGES: Final = frozenset(
    f"image/{kind}" for kind in ("png", "jpeg", "gif", "webp", "avif", "bmp", "svg+xml", "x-icon", "vnd.microsoft.icon")
)
FORM: Final = "application/x-www-form-urlencoded"


class Field(NamedTuple):
    name: str
    value: str
    masked: bool


class Shown(NamedTuple):
    """A body. `kind` is "nothing", "json", "form", "text", "image" or "binary"; `text` is empty for an image."""

    kind: str
    text: str = ""
    pairs: tuple[Field, ...] = ()
    notes: tuple[str, ...] = ()
    masked: bool = False
    media_type: str = ""


# Heads ------------------------------------------------------------------------------------------------------


def text_of(value: bytes) -> str:
    """What a head has, which may be in UTF-8 and may be anything."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def field(name: bytes, value: bytes, *, secrets: bool) -> Field:
    """A field of a head."""
    named, text = text_of(name), text_of(value)
    if secrets:
        return Field(named, text, False)
    if is_secret(named):
        return Field(named, MASK, True)
    shown = url(text) if is_url(named) else without_secrets(text)
    return Field(named, shown, shown != text)


def fields(given: Fields, *, secrets: bool) -> list[Field]:
    return [field(name, value, secrets=secrets) for name, value in given]


def url(text: str) -> str:
    """A URL or a target without the secrets in it: parameters by their names, the rest by its form."""
    before, mark, fragment = text.partition("#")
    path, question, query = before.partition("?")
    return without_secrets(path) + question + pairs_masked(query) + mark + (MASK if fragment else "")


def pairs_masked(text: str) -> str:
    """A query, or a form's body, without the secrets in it."""
    return "&".join(map(_pair_masked, text.split("&")))


def _pair_masked(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if equals and value and is_secret(unquote_plus(name)):
        return f"{name}={MASK}"
    return pair if without_secrets(unquote_plus(pair)) == unquote_plus(pair) else f"{name}={MASK}"


def value_of(given: Fields, name: bytes) -> str:
    """The first value of a field, or an empty text."""
    return next((text_of(value) for found, value in given if found.lower() == name), "")


def media_type(given: Fields) -> str:
    return value_of(given, b"content-type").partition(";")[0].strip().lower()


# Bodies -----------------------------------------------------------------------------------------------------


class Content(NamedTuple):
    """A body as whoever it is for sees it: without chunks, decompressed. `cut`: there was more. `notes` say so."""

    data: bytes
    notes: tuple[str, ...]
    cut: bool


def content(kept: Kept, framing: int, given: Fields) -> Content:
    """The content of a body that came with `framing`, behind a head with these fields."""
    notes = [] if kept.whole else [f"the first {size_text(len(kept.data))} of {size_text(kept.size)} are kept"]
    data = bytes(kept.data)
    if framing == CHUNKED:
        data = _without_chunks(data)
    codings = [word.strip().lower() for word in value_of(given, b"content-encoding").split(",") if word.strip()]
    for coding in reversed(codings):
        inflate = DECODERS.get(coding.removeprefix("x-"))
        if coding == "identity" or not data:
            continue
        if inflate is None:
            hint = " (pip install 'trioduct[inspect]')" if coding == "br" else ""
            notes.append(f"compressed by {coding}, which cannot be decoded here{hint}")
            break
        before = len(data)
        try:
            data = inflate(data, DECODED_BYTES + 1)
        except Exception as error:  # a decoder's own, of whatever library; the body is a stranger's
            notes.append(f"is not {coding}: {error}")
            break
        notes.append(f"{coding}: {size_text(before)} compressed")
    more = len(data) > DECODED_BYTES
    if more:
        data = data[:DECODED_BYTES]
        notes.append(f"the first {size_text(DECODED_BYTES)} were decompressed")
    return Content(data, tuple(notes), more or not kept.whole)


def _without_chunks(data: bytes) -> bytes:
    body = ChunkedBody(decode=True)
    try:
        return b"".join(body.receive(memoryview(data))) if data else b""
    except HTTPError:
        return data


class _Brotli(Protocol):
    def process(self, data: bytes, output_buffer_limit: int) -> bytes: ...


def _inflate(data: bytes, limit: int) -> bytes:
    return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, limit)


def _deflate(data: bytes, limit: int) -> bytes:
    try:
        return _inflate(data, limit)
    except zlib.error:  # some leave zlib's own head away
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, limit)


def _brotli() -> dict[str, Callable[[bytes, int], bytes]]:
    try:
        decompressor = cast("Callable[[], _Brotli]", importlib.import_module("brotli").Decompressor)
    except ImportError:
        return {}
    return {"br": lambda data, limit: decompressor().process(data, output_buffer_limit=limit)}


DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {"gzip": _inflate, "deflate": _deflate, **_brotli()}


def body(kept: Kept, framing: int, given: Fields, *, secrets: bool) -> Shown:
    """A body as it is shown."""
    if not kept.size:
        return Shown("nothing")
    media = media_type(given)
    text, (data, notes, _) = plain(kept, framing, given)
    if media in IMAGES:
        return Shown("image", notes=notes, media_type=media)
    if text is None:
        shown = hex_dump(data[:DUMPED_BYTES])
        if len(data) > DUMPED_BYTES:
            notes = (*notes, f"the first {DUMPED_BYTES} bytes are shown")
        return Shown("binary", shown, notes=notes, media_type=media)
    if len(text) > SHOWN_CHARACTERS:
        text = text[:SHOWN_CHARACTERS]
        notes = (*notes, f"the first {size_text(SHOWN_CHARACTERS)} are shown")
    if media == FORM:
        pairs = tuple(_form_field(pair, secrets=secrets) for pair in text.split("&"))
        shown = text if secrets else pairs_masked(text)
        return Shown("form", shown, pairs, notes, shown != text, media)
    kind = "text"
    if media.endswith("json") or text.lstrip()[:1] in ("{", "["):
        formatted = _formatted(text)
        if formatted is not None:
            kind, text = "json", formatted
    shown = text if secrets else _json_masked(text) if kind == "json" else without_secrets(text)
    return Shown(kind, shown, (), notes, shown != text, media)


def plain(kept: Kept, framing: int, given: Fields) -> tuple[str | None, Content]:
    """A body's text as it came, None if it is none; and its content."""
    found = content(kept, framing, given)
    return _as_text(found.data, value_of(given, b"content-type"), cut=found.cut), found


def _as_text(data: bytes, content_type: str, *, cut: bool) -> str | None:
    if b"\0" in data:
        return None
    charset = re.search(r"charset=\"?([\w.:-]+)", content_type, re.IGNORECASE)
    try:
        return data.decode(charset[1] if charset else "utf-8")
    except LookupError:
        return None
    except UnicodeDecodeError as error:
        if cut and error.start >= len(data) - 3:  # in the middle of a character
            return data[: error.start].decode(error.encoding)
        return data.decode("latin-1") if content_type.startswith("text/") else None


def _formatted(text: str) -> str | None:
    try:
        return msgspec.json.format(text, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return None


_key: Final = re.compile(r'( *)"([^"\\]*+(?:\\.[^"\\]*+)*+)": (.*)').match


def _json_masked(text: str) -> str:
    """JSON, a key on each line, without the secrets in it: what a secret's key has is masked whole."""
    shown: list[str] = []
    secret = cache(is_secret)  # a list has the same keys again and again
    behind = ""  # where what is masked ends, if it has several lines
    for line in text.split("\n"):
        if behind:
            if line.startswith(behind) and line[len(behind) :].rstrip(",") in ("]", "}"):
                shown[-1] += "," * line.endswith(",")
                behind = ""
            continue
        found = _key(line)
        if found is None or not secret(found[2]) or found[3].rstrip(",") in ("null", '""', "{}", "[]"):
            shown.append(line)
        elif found[3] in ("{", "["):
            shown.append(f'{found[1]}"{found[2]}": "{MASK}"')
            behind = found[1]
        else:
            shown.append(f'{found[1]}"{found[2]}": "{MASK}"{"," * line.endswith(",")}')
    return without_secrets("\n".join(shown))


def _form_field(pair: str, *, secrets: bool) -> Field:
    name, _, value = (pair if secrets else _pair_masked(pair)).partition("=")
    return Field(unquote_plus(name), unquote_plus(value), value == MASK)


def hex_dump(data: bytes) -> str:
    """Sixteen bytes a line, in hexadecimal and as characters."""
    rows = [data[start : start + 16] for start in range(0, len(data), 16)]
    return "\n".join(
        f"{number * 16:08x}  {row.hex(' '):<47}  " + "".join(chr(b) if 32 <= b < 127 else "." for b in row)
        for number, row in enumerate(rows)
    )


# Figures ----------------------------------------------------------------------------------------------------


def size_text(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if value < 1000:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def seconds_text(seconds: float) -> str:
    if seconds >= 60:
        return f"{seconds / 60:.1f} min"
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1000:.1f} ms" if seconds >= 0.001 else f"{seconds * 1e6:.0f} µs"
