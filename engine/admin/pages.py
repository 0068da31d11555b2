"""What all pages that a process serves to people have in common: they load nothing from elsewhere, run no scripts of
others, and are made of templates and files that come with the program.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route
from starlette.types import Message, Send

STATIC: Final = Path(__file__).parent / "static"
SHARED: Final = ("base.css", "icon.svg")  # files for all pages

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
STRICTER: Final = f"{POLICY}; require-trusted-types-for 'script'; trusted-types 'none'"
"""For pages whose scripts make no markup out of text."""
HEADERS: Final = {
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def templates(folder: Path) -> Environment:
    return Environment(loader=FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def files(folder: Path, *names: str, below: str = "/") -> list[Route]:
    """Routes to the files of a room's folder, and to those that all pages share."""
    found = [(STATIC / name, name) for name in SHARED] + [(folder / name, name) for name in names]
    return [Route(f"{below}{name}", _file(path)) for path, name in found]


def _file(path: Path) -> Callable[[Request], Awaitable[FileResponse]]:
    async def answer(request: Request) -> FileResponse:
        return FileResponse(path)

    return answer


def guarded(send: Send) -> Send:
    """`send`, with what tells browsers what a page may do: POLICY, unless the answer has one of its own."""

    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            more = HEADERS if b"content-security-policy" in names else {**HEADERS, "Content-Security-Policy": POLICY}
            told = [(name.lower().encode(), value.encode()) for name, value in more.items()]
            message["headers"] = [*message["headers"], *told]
        await send(message)

    return wrapped
