"""The inspector's pages: Starlette and Jinja2 write them, a small script keeps them live by server-sent events.

Everything stands below a secret in the path, behind the gate of the admin port (Host, Origin). The pages load nothing
from elsewhere, and scripts of nobody else run in them. They share the loop with what passes the agent, so whatever
takes long is done in pieces of a few rows, and however many look on, only so many pages and news are made a second.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from secrets import compare_digest
from typing import Final, cast
from urllib.parse import parse_qsl, urlencode

import trio
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.admin.gate import Gate, error_answer
from engine.admin.pages import files, guarded, templates
from engine.inspector import edit, export, show, view
from engine.inspector.record import Record
from engine.inspector.recorder import Recorder
from engine.inspector.replay import CannotReplay, Replays
from engine.inspector.search import Filter

HERE: Final = Path(__file__).parent
ROWS: Final = 200  # on one page
LIVE_ROWS: Final = 40  # in one event: more is faster than anybody reads
ROWS_AT_ONCE: Final = 4  # 0.1 ms of work, between two looks at what else there is to do
PAGES_PER_SECOND: Final = 50
NEWS_PER_SECOND: Final = 4  # for all who look on together: each is told less often, the more they are
MOST_WAITING: Final = 32
PARAMETERS: Final = ("q", "method", "status", "endpoint", "kind")  # of a Filter, in its order
LIVE_SECONDS: Final = 8.0  # then the browser asks again: hypercorn ends who says nothing for 10 s
FORM_BYTES: Final = 2 * 1024 * 1024

OF_STRANGERS: Final = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def inspector_app(recorder: Recorder, replays: Replays, token: str) -> ASGIApp:
    """Pages about what `recorder` has, below `/token/`."""
    pages = Pages(recorder, replays, token)
    inner = Starlette(
        routes=[
            Route("/", pages.requests),
            Route("/live", pages.live),
            Route("/clear", pages.clear, methods=["POST"]),
            Route("/requests.har", pages.har),
            Route("/requests/{number:int}", pages.request),
            Route("/requests/{number:int}/edit", pages.form),
            Route("/requests/{number:int}/replay", pages.replay, methods=["POST"]),
            Route("/requests/{number:int}/curl", pages.curl),
            Route("/requests/{number:int}/har", pages.har),
            Route("/requests/{number:int}/{side:str}/body", pages.body),
            *files(HERE / "static", "inspector.js", "inspector.css"),
        ],
        exception_handlers={HTTPException: pages.problem},
    )
    return Gate(_Key(inner, token), advice="use the URL that the agent has shown", tells_path=False)


class Pages:
    """The pages' routes."""

    def __init__(self, recorder: Recorder, replays: Replays, token: str) -> None:
        self._recorder = recorder
        self._replays = replays
        self._root = f"/{token}"
        self._bell = _Bell()
        self._turns = _Pace(PAGES_PER_SECOND)
        self._news = _Pace(NEWS_PER_SECOND)
        recorder.on_change = self._bell.ring
        self._templates = templates(HERE / "templates")
        self._templates.globals |= {"root": self._root, "size": show.size_text, "seconds": show.seconds_text}

    # -- what is there

    async def requests(self, request: Request) -> Response:
        await self._turn()
        return await self._page(request, None)

    async def request(self, request: Request) -> Response:
        await self._turn()
        record = self._record(request)
        secrets = _secrets(request)
        detail = self._render("detail.html", secrets=secrets, **view.detail(record, secrets=secrets))
        return HTMLResponse(detail) if _is_part(request) else await self._page(request, record, detail)

    async def form(self, request: Request) -> Response:
        await self._turn()
        record, secrets = self._record(request), _secrets(request)
        form = edit.form(record, secrets=secrets)
        return await self._form(request, record, form, "")

    async def _form(
        self, request: Request, record: Record, form: edit.Form, problem: str, status: int = 200
    ) -> Response:
        secrets = _secrets(request)
        masked = not secrets and edit.form(record, secrets=True) != edit.form(record, secrets=False)
        shown = self._render("edit.html", record=record, form=form, problem=problem, secrets=secrets, masked=masked)
        return HTMLResponse(shown, status) if _is_part(request) else await self._page(request, record, shown, status)

    async def body(self, request: Request) -> Response:
        """A body without chunks, decompressed: an image to be shown, anything else to be saved."""
        await self._turn()
        record, side = self._record(request), request.path_params["side"]
        if side not in view.SIDES:
            raise HTTPException(404, "A body is that of the request, or of the response.")
        kept, framing, fields = view.side(record, side)
        media = show.media_type(fields)
        is_image = media in show.IMAGES
        name = f"{record.number}-{side}"
        headers = {
            "Content-Security-Policy": OF_STRANGERS,
            "Content-Disposition": "inline" if is_image else f'attachment; filename="{name}"',
        }
        data = show.content(kept, framing, fields).data
        return Response(data, headers=headers, media_type=media if is_image else "application/octet-stream")

    async def curl(self, request: Request) -> Response:
        await self._turn()
        return PlainTextResponse(export.curl(self._record(request), secrets=_secrets(request)))

    async def har(self, request: Request) -> Response:
        """Of one record, or of all that the filter wants."""
        await self._turn()
        secrets = _secrets(request)
        if "number" in request.path_params:
            numbers, wanted, name = [self._record(request).number], Filter(), f"{request.path_params['number']}"
        else:
            numbers, wanted, name = list(self._recorder.records), _filter(request), "requests"

        async def entries() -> AsyncIterator[str]:
            head = json.dumps(export.har_head())
            yield f'{{"log": {head[:-1]}, "entries": ['
            comma = ""
            for number in numbers:
                await trio.lowlevel.checkpoint()
                record = self._recorder.records.get(number)
                if record is not None and wanted.matches(record):
                    yield comma + json.dumps(export.har_entry(record, secrets=secrets), ensure_ascii=False)
                    comma = ",\n"
            yield "]}}"

        headers = {"Content-Disposition": f'attachment; filename="{name}.har"'}
        return _Stream(entries(), headers=headers, media_type="application/json")

    # -- what is done

    async def replay(self, request: Request) -> Response:
        """As it came, or as the form says. It is answered when the replay has begun, which goes on by itself."""
        await self._turn()
        record, answers = self._record(request), await _answers(request)
        try:
            head, body = edit.edited(record, answers) if answers else edit.as_it_came(record)
            replay = self._replays.send(record, head, body)
        except CannotReplay as error:
            if not answers:
                return self._error(f"Request {record.number} cannot be replayed: {error}.", 409, request)
            filled = {name: text for name, text in answers.items() if name in edit.Form._fields}
            form = edit.form(record, secrets=_secrets(request))._replace(**filled)
            return await self._form(request, record, form, f"This cannot be sent: {error}.", 409)
        return RedirectResponse(f"{self._root}/requests/{replay.number}", 303)

    async def clear(self, request: Request) -> Response:
        self._recorder.clear()
        return RedirectResponse(f"{self._root}/", 303)

    # -- live

    async def live(self, request: Request) -> Response:
        """Rows of records that have changed, until the browser is to ask again."""
        wanted, given = _filter(request), request.headers.get("last-event-id") or request.query_params.get("after", "")
        version = int(given) if given.isdecimal() else 0
        return _Stream(self._events(wanted, version), media_type="text/event-stream")

    async def _events(self, wanted: Filter, version: int) -> AsyncIterator[str]:
        recorder = self._recorder
        if version > recorder.version:  # of an agent before this one
            version = 0
        ends = trio.current_time() + LIVE_SECONDS
        yield "retry: 100\n\n"
        while trio.current_time() < ends:
            if version == recorder.version:
                with trio.move_on_at(ends):
                    await self._bell.wait()
                continue
            await self._news.turn()
            since, version = version, recorder.version
            changed = [number for number, one in recorder.records.items() if one.version > since]
            rows = await self._lines(await self._rows(changed[-LIVE_ROWS:], wanted))
            counts = _event("counts", self._counts(), version)
            yield _event("rows", rows) + counts if rows else counts

    # -- pages

    async def _page(self, request: Request, record: Record | None, detail: str = "", status: int = 200) -> Response:
        wanted, before = _filter(request), request.query_params.get("before", "")
        version = self._recorder.version
        numbers = [n for n in reversed(self._recorder.records) if not before.isdecimal() or n < int(before)]
        rows = await self._rows(numbers, wanted)
        selected = record.number if record else 0
        query = {key: value for key, value in zip(PARAMETERS, wanted, strict=True) if value}
        page = self._render(
            "page.html",
            rows=await self._lines(rows, selected),
            older=urlencode(query | {"before": str(rows[-1].number)}) if len(rows) >= ROWS else "",
            selected=selected,
            detail=detail,
            version=version,
            wanted=wanted,
            query=urlencode(query),
            counts=self._counts(),
            sources=self._recorder.sources,
            methods=sorted({one.request.method.decode("latin-1") for one in self._recorder.records.values()}),
        )
        return HTMLResponse(page, status)

    async def _rows(self, numbers: Sequence[int], wanted: Filter) -> list[view.Row]:
        """The first ROWS that are wanted."""
        rows: list[view.Row] = []
        at_once = 1 if wanted.text else ROWS_AT_ONCE
        for start in range(0, len(numbers), at_once):
            for number in numbers[start : start + at_once]:
                record = self._recorder.records.get(number)
                if record is not None and wanted.matches(record):
                    rows.append(view.row(record))
            await trio.lowlevel.checkpoint()
            if len(rows) >= ROWS:
                break
        return rows[:ROWS]

    async def _lines(self, rows: Sequence[view.Row], selected: int = 0) -> Markup:
        """Rows as the list has them."""
        lines = []
        for start in range(0, len(rows), ROWS_AT_ONCE):
            lines.append(self._render("rows.html", rows=rows[start : start + ROWS_AT_ONCE], selected=selected))
            await trio.lowlevel.checkpoint()
        return Markup("".join(lines))

    def _counts(self) -> str:
        recorder = self._recorder
        forgotten = f", {recorder.forgotten} older ones forgotten" if recorder.forgotten else ""
        return f"{len(recorder.records)} requests in {show.size_text(recorder.held)}{forgotten}"

    def _record(self, request: Request) -> Record:
        number: int = request.path_params["number"]
        record = self._recorder.records.get(number)
        if record is None:
            raise HTTPException(404, f"Request {number} is not kept any more, or was never there.")
        return record

    async def problem(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return self._error(error.detail, error.status_code, request)

    def _error(self, text: str, status: int, request: Request) -> Response:
        return HTMLResponse(self._render("error.html", text=text, part=_is_part(request)), status)

    def _render(self, template: str, **values: object) -> str:
        return self._templates.get_template(template).render(**values)

    async def _turn(self) -> None:
        """Pages wait for theirs, but not more than so many."""
        if self._turns.waiting >= MOST_WAITING:
            raise HTTPException(503, "Too many pages are asked for at once.")
        await self._turns.turn()


# Requests -----------------------------------------------------------------------------------------------------


def _filter(request: Request) -> Filter:
    return Filter(*(request.query_params.get(name, "").strip() for name in PARAMETERS))


def _secrets(request: Request) -> bool:
    return request.query_params.get("secrets") == "1"


def _is_part(request: Request) -> bool:
    """The script wants what changes, and not the page around it."""
    return "x-part" in request.headers


async def _answers(request: Request) -> dict[str, str]:
    data = bytearray()
    async with aclosing(request.stream()) as stream:
        async for piece in stream:
            data += piece
            if len(data) > FORM_BYTES:
                raise HTTPException(413, f"A form of more than {show.size_text(FORM_BYTES)}.")
    return dict(parse_qsl(data.decode(errors="replace"), keep_blank_values=True))


def _event(kind: str, data: str, version: int | None = None) -> str:
    """A server-sent event. With a `version` the browser knows all up to it, and says so when it asks again."""
    lines = "".join(f"data: {line}\n" for line in re.split(r"\r\n|\r|\n", data))
    id = "" if version is None else f"id: {version}\n"
    return f"event: {kind}\n{id}{lines}\n"


class _Stream(StreamingResponse):
    """Whose pieces end with it, also when the browser goes."""

    async def stream_response(self, send: Send) -> None:
        async with aclosing(cast("AsyncGenerator[str]", self.body_iterator)):
            await super().stream_response(send)


class _Pace:
    """Turns come one by one, in the order in which they are asked for, and so many a second."""

    def __init__(self, per_second: float) -> None:
        self._between = 1 / per_second
        self._next = -math.inf
        self._lock = trio.Lock()

    @property
    def waiting(self) -> int:
        return self._lock.statistics().tasks_waiting

    async def turn(self) -> None:
        async with self._lock:
            await trio.sleep_until(self._next)
            self._next = trio.current_time() + self._between


class _Bell:
    """Wakes who waits for a change. To ring it for nobody costs a comparison."""

    def __init__(self) -> None:
        self._event: trio.Event | None = None

    def ring(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()


class _Key:
    """Lets a request in whose path begins with the secret, and tells browsers what the pages may do."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path: str = scope["path"]
        first, slash, _ = path[1:].partition("/")
        if not compare_digest(first.encode(), self._token):
            await error_answer(404, "not found; the inspector's URL was shown when the agent started")(
                scope, receive, send
            )
        elif not slash:
            await RedirectResponse(f"{path}/", 307)(scope, receive, send)
        else:
            await self._app({**scope, "root_path": f"/{first}"}, receive, guarded(send))
