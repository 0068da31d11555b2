"""`trioduct top`: how a node is, second by second, in the terminal.

It reads what the dashboard reads (engine.admin.live), by trio-websocket on a connection of the engine's, so the way to
the admin port may lead through proxies. rich draws; the keyboard is read byte by byte, and the terminal is as before
in the end, however it comes.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import click
import msgspec

from engine import log
from engine.admin.tables import CARDS, TABLES, Column, Table, shown, sort_value
from engine.cli.flags import FlagCommand, takes
from engine.cli.launch import checks, read, show, takes_check
from engine.cli.status import Complaint, refusal
from engine.config import TopConfig, split_url
from engine.errors import UNREADABLE, ConfigError, Refused, Unreachable, leaves

if TYPE_CHECKING:
    import rich.console
    import trio
    from trio_websocket import WebSocketConnection

    from engine.loop.connection import Connection

PATH: Final = "/dashboard/live"
PROTOCOL: Final = "trioduct.live"
ANSWER_SECONDS: Final = 15.0
SILENT_SECONDS: Final = 8.0  # a message is due each second
AGAIN_SECONDS: Final = 2.0
MAX_MESSAGE: Final = 16 * 1024 * 1024

Row = dict[str, object]
T = TypeVar("T")


class Message(msgspec.Struct):
    """What is read of a message; see admin.live."""

    node: dict[str, str]
    now: Row
    sessions: list[Row]
    endpoints: list[Row]
    kinds: list[Row]
    nodes: list[Row]
    workers: list[Row]

    def rows(self, table: Table) -> list[Row]:
        rows: list[Row] = getattr(self, table.key)
        return rows


@takes_check
@takes(TopConfig)
@click.command(cls=FlagCommand)
@click.pass_context
def top(ctx: click.Context) -> int:
    """Show how a node is, live: endpoints, sessions, errors, nodes.

    Keys: Tab or 1 to 5 another table, left and right another column to sort by, r the other way round, space hold,
    q quit.

    \b
      trioduct top --server.url http://host:8002
      trioduct top --once
    """
    draft = read(ctx, TopConfig)
    config = draft.finish()
    if checks(ctx):
        return show(draft)
    from rich.console import Console

    if config.once:
        message = _run(_first, config)
        width = None if sys.stdout.isatty() else max(shutil.get_terminal_size((160, 24)).columns, 160)
        console = Console(width=width, highlight=False)
        console.print(View().whole(message, console.width))
        return 0
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("top: stdin and stdout are no terminal; expected one, or --once for one plain printout")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        raise ConfigError("top: TERM names no terminal that can be drawn on; use --once for one plain printout")
    _run(_screen, config)
    return 0


def _run(main: Callable[[TopConfig], Awaitable[T]], config: TopConfig) -> T:
    """What came of it; what went wrong as one error."""
    import trio

    try:
        return trio.run(main, config)
    except BaseExceptionGroup as group:
        raise next(iter(leaves(group))) from None


# The feed ---------------------------------------------------------------------------------------------------


def _place(config: TopConfig) -> str:
    target = split_url(config.server.url)
    return f"{target.scheme}://{f'[{target.host}]' if ':' in target.host else target.host}:{target.port}"


@asynccontextmanager
async def _feed(config: TopConfig) -> AsyncIterator[WebSocketConnection]:
    """The node's feed. Raises Unreachable and Refused, with one sentence each."""
    import trio
    from trio_websocket import ConnectionRejected, HandshakeError, wrap_client_stream

    from engine.loop.dial import Server, dial_server

    url, place = config.server.url, _place(config)
    context = config.tls.client_context() if url.startswith(("https", "wss")) else None
    server = Server(url, context, config.tls.server_name or None)
    fields = [(b"Authorization", f"Bearer {config.token}".encode())] if config.token else []
    try:
        with trio.fail_after(ANSWER_SECONDS):
            connection = await dial_server(server)
    except (Unreachable, OSError, trio.TooSlowError) as error:
        raise _unreachable(place, str(error) or f"no answer within {ANSWER_SECONDS:g} s") from error
    try:
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(ANSWER_SECONDS):
                    feed = await wrap_client_stream(
                        nursery,
                        _stream_over(connection),  # type: ignore[arg-type]  # it takes any
                        server.authority,
                        server.path + PATH,
                        subprotocols=[PROTOCOL],
                        extra_headers=fields,
                        max_message_size=MAX_MESSAGE,
                    )
            except (HandshakeError, trio.BrokenResourceError, trio.TooSlowError) as error:
                said = str(error) or "no answer in time, or none of an admin port"
                raise _unreachable(place, said) from error
            yield feed
            nursery.cancel_scope.cancel()
    except* ConnectionRejected as group:  # by the task that reads
        rejected = next(iter(leaves(group)))
        assert isinstance(rejected, ConnectionRejected)
        raise _refused(place, rejected.status_code, server.path + PATH, rejected.body) from None
    finally:
        connection.abort()


def _unreachable(place: str, problem: str) -> Unreachable:
    # The flags are our own, not an agent's.
    problem = log.printable(problem).replace("--connect.", "--").removeprefix(f"{place.partition('://')[2]}: ")
    return Unreachable(f"{place}: {problem}; --server.url must be a node's admin port")


def _refused(place: str, status: int, path: str, body: bytes | None) -> Refused:
    try:
        said = msgspec.json.decode(body or b"", type=Complaint).error
    except UNREADABLE:
        said = ""
    if status in (403, 503) and said:
        return Refused(f"{place}: {status}: {log.printable(said, log.ERROR_BYTES)}")
    return refusal(place, status, path)


async def _next(feed: WebSocketConnection, place: str) -> Message:
    """Raises Unreachable when it ends."""
    import trio
    from trio_websocket import ConnectionClosed

    try:
        with trio.fail_after(SILENT_SECONDS):
            said = await feed.get_message()
        return msgspec.json.decode(said, type=Message)
    except ConnectionClosed as error:
        why = (error.reason.reason if error.reason is not None else "") or "the connection was cut"
        raise Unreachable(f"{place}: {log.printable(why)}") from None
    except trio.TooSlowError:
        raise Unreachable(f"{place}: nothing came for {SILENT_SECONDS:g} s") from None
    except UNREADABLE as error:
        raise Unreachable(f"{place}: not the feed of an admin port: {error}") from error


async def _first(config: TopConfig) -> Message:
    """A message that has rates: the second."""
    from engine.loop.run import open_reactor

    async with open_reactor(), _feed(config) as feed:
        place = _place(config)
        await _next(feed, place)
        return await _next(feed, place)


def _stream_over(connection: Connection) -> trio.abc.Stream:
    import trio

    from engine.loop.reading import Reader

    class Stream(trio.abc.Stream):
        """What trio-websocket drives. What is sent is a handshake and pongs."""

        def __init__(self) -> None:
            self._reader = Reader(connection)

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await trio.lowlevel.checkpoint()
            if not connection.alive:
                raise trio.BrokenResourceError("the connection is closed")
            connection.put(bytes(data))

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            try:
                return await self._reader.some()
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

        async def aclose(self) -> None:
            connection.abort()
            await trio.lowlevel.checkpoint()

    return Stream()


# The screen -------------------------------------------------------------------------------------------------


class View:
    """What is shown of messages, and how the person wants it."""

    def __init__(self) -> None:
        self.table = TABLES[0]
        self.held = False
        self._sort = {table.key: (table.sort, True) for table in TABLES}

    def press(self, key: str) -> None:
        """A key; one that means nothing does nothing."""
        place = TABLES.index(self.table)
        keys = [column.key for column in self.table.columns]
        sort, down = self._sort[self.table.key]
        if key == "tab":
            self.table = TABLES[(place + 1) % len(TABLES)]
        elif key.isdecimal() and 0 < int(key) <= len(TABLES):
            self.table = TABLES[int(key) - 1]
        elif key in ("left", "right"):
            step = 1 if key == "right" else -1
            self._sort[self.table.key] = keys[(keys.index(sort) + step) % len(keys)], down
        elif key == "r":
            self._sort[self.table.key] = sort, not down
        elif key == " ":
            self.held = not self.held

    def whole(self, message: Message, width: int) -> rich.console.RenderableType:
        """All tables, for a printout."""
        from rich.console import Group
        from rich.text import Text

        parts: list[rich.console.RenderableType] = [self._head(message)]
        for table in TABLES:
            if rows := message.rows(table):
                parts += [Text(""), Text(table.title, style="bold"), self._table(table, rows, width, len(rows))]
        return Group(*parts)

    def screen(self, message: Message | None, problem: str, width: int, height: int) -> rich.console.RenderableType:
        from rich.console import Group
        from rich.text import Text

        if message is None:
            return Text(problem or "connecting")
        head = self._head(message)
        tabs = Text()
        for number, table in enumerate(TABLES, 1):
            tabs.append(f" {number} {table.title} ", style="reverse" if table is self.table else "")
        state = problem or ("held" if self.held else "")
        keys = Text(f"{state}  " if state else "", style="bold red" if problem else "bold", no_wrap=True)
        keys.append("q quit  Tab table  ←→ column  r reverse  space hold", style="dim")
        used = len(head.wrap(_plain_console(width), width)) + 4
        rows = message.rows(self.table)
        body = self._table(self.table, rows, width, max(height - used, 1))
        return Group(head, tabs, body, keys)

    def _head(self, message: Message) -> rich.text.Text:
        from rich.text import Text

        node = message.node
        head = Text()
        head.append(log.printable(node.get("id", "")), style="bold")
        head.append(f"  Trioduct {log.printable(node.get('version', ''))}  {time.strftime('%H:%M:%S')}")
        for key in ("reason", "degraded", "incomplete"):
            if said := node.get(key):
                head.append(f"\n{'not ready: ' if key == 'reason' else ''}{log.printable(said)}", style="bold red")
        head.append("\n")
        for card in CARDS:
            head.append(f"{card.title} ", style="dim")
            head.append(f"{shown(message.now.get(card.key), card.kind)}   ")
        return head

    def _table(self, table: Table, rows: Sequence[Row], width: int, most: int) -> rich.console.RenderableType:
        from rich.table import Table as Drawn
        from rich.text import Text

        key, down = self._sort[table.key]
        by = next(column for column in table.columns if column.key == key)
        chosen = sorted(rows, key=lambda row: sort_value(row, by), reverse=down)[:most]
        # Agents choose these names, and Text keeps rich from reading markup in them.
        cells = {
            one: [Text(log.printable(shown(row.get(one.key), one.kind))) for row in chosen] for one in table.columns
        }
        drawn = Drawn(box=None, pad_edge=False, header_style="bold")
        widths = {one: max(len(one.title) + 1, *(text.cell_len for text in texts), 0) for one, texts in cells.items()}
        columns = fitting([one for one in table.columns if not _is_empty(one, rows)], widths, by, width)
        for column in columns:
            mark = ("▼" if down else "▲") if column is by else ""
            title = Text(f"{column.title}{mark}")
            drawn.add_column(title, justify="left" if column.kind == "text" else "right", no_wrap=True)
        for number in range(len(chosen)):
            drawn.add_row(*(cells[column][number] for column in columns))
        return drawn


def _is_empty(column: Column, rows: Sequence[Row]) -> bool:
    """Nobody has it, and it is no loss."""
    return column.aside and column.kind in ("text", "yes") and not any(row.get(column.key) for row in rows)


def fitting(columns: Sequence[Column], widths: Mapping[Column, int], by: Column, width: int) -> list[Column]:
    """Those that there is room for, at least the first and the one that rows are sorted `by`: first go those that are
    aside, then those on the right.
    """
    found = list(columns)
    if by not in found:
        found.append(by)
    spare = [one for one in reversed(found) if one is not found[0] and one is not by]
    spare.sort(key=lambda one: not one.aside)
    while spare and sum(widths[one] + 2 for one in found) - 2 > width:
        found.remove(spare.pop(0))
    return found


def _plain_console(width: int) -> rich.console.Console:
    from rich.console import Console

    return Console(width=width)


_KEYS: Final = {b"\t": "tab", b"\x1b[C": "right", b"\x1bOC": "right", b"\x1b[D": "left", b"\x1bOD": "left"}
_KEY: Final = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)


def keys_in(data: bytes) -> list[str]:
    """The keys that a terminal has sent: characters, `tab`, `left`, `right`; others as they come."""
    return [_KEYS.get(one) or one.decode("latin-1") for one in _KEY.findall(data)]


async def _screen(config: TopConfig) -> None:
    import trio
    from rich.console import Console
    from rich.live import Live

    from engine.loop.run import open_reactor

    view, console = View(), Console(highlight=False)
    message: Message | None = None
    problem = ""
    place = _place(config)

    def draw() -> None:
        size = os.get_terminal_size(sys.stdout.fileno())  # whatever COLUMNS says
        console.size = (size.columns, size.lines)
        live.update(view.screen(message, problem, size.columns, size.lines), refresh=True)

    async def read_feed() -> None:
        nonlocal message, problem
        while True:
            try:
                async with _feed(config) as feed:
                    while True:
                        said = await _next(feed, place)
                        problem = ""
                        if not view.held or message is None:
                            message = said
                        draw()
            except* (Unreachable, OSError) as group:
                if message is None:
                    raise
                problem = "; ".join(map(str, leaves(group)))
                draw()
            await trio.sleep(AGAIN_SECONDS)

    async def read_keys() -> None:
        while True:
            await trio.lowlevel.wait_readable(sys.stdin.fileno())
            data = os.read(sys.stdin.fileno(), 1024)
            for key in keys_in(data):
                if key in ("q", "Q", "\x03"):
                    nursery.cancel_scope.cancel()
                view.press(key)
            if not data:  # the terminal is gone
                nursery.cancel_scope.cancel()
            draw()

    async def follow_size() -> None:
        with trio.open_signal_receiver(signal.SIGWINCH) as resized:
            async for _ in resized:
                draw()

    async def follow_end() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as ends:
            await anext(ends)
            nursery.cancel_scope.cancel()

    with _keyboard(), Live(console=console, screen=True, auto_refresh=False) as live:
        async with open_reactor(), trio.open_nursery() as nursery:
            nursery.start_soon(read_keys)
            nursery.start_soon(follow_size)
            nursery.start_soon(follow_end)
            nursery.start_soon(read_feed)


@contextmanager
def _keyboard() -> Iterator[None]:
    """Keys come one by one and are not shown, within the context."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
