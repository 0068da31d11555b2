"""An ASGI application as the service of a listener: a process beside the agent, on a Unix socket that only its user
can open, and no port.

It is a process of its own so that an application that blocks, or runs on asyncio, leaves the agent's sessions alone,
and so that another can take its place without the agent connecting again: the next process listens on a socket of its
own, which is renamed to the old one's path when it is ready. Requests under way end in the old one.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import trio

from engine.config import ListenerConfig
from engine.errors import ConfigError, Unreachable
from engine.log import get_logger

HOSTED: Final = Path(__file__).with_name("hosted.py")
STOP_SECONDS: Final = 10.0  # for an application to shut down, once nothing is under way
MOST_SAID: Final = 64 * 1024

log = get_logger("asgi")


class Application:
    """Runs the application of `listener`; its processes serve on `path`.

    `grace_seconds`: for requests under way when it is replaced. `stop_seconds`: for it to shut down when this is
    cancelled; then it is killed.
    """

    def __init__(self, listener: ListenerConfig, folder: str, grace_seconds: float) -> None:
        self.path = f"{folder}/app.sock"
        self.stop_seconds = STOP_SECONDS
        self._name = listener.asgi
        self._loop = listener.asgi_loop
        self._reload = listener.reload
        self._next = f"{folder}/next.sock"
        self._grace_seconds = grace_seconds
        self._changed = trio.Event()

    async def run(
        self, on_replaced: Callable[[], object], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled; started once the application serves. With `reload` there is another whenever a file of
        Python below this folder has changed, and one that fails is waited for.

        Raises ConfigError if the application cannot be served, and Unreachable if its process has ended by itself.
        """
        async with trio.open_nursery() as nursery:
            if self._reload:
                nursery.start_soon(_watch, self._on_change)
            replaced = trio.Event()
            while True:
                self._changed, following = trio.Event(), trio.Event()
                try:
                    await nursery.start(self._run_process, following)
                except ConfigError as error:
                    if not self._reload:
                        raise
                    log.error("the application fails, waiting for a change", error=str(error))
                else:
                    log.info("application started", asgi=self._name)
                    replaced.set()
                    replaced = following
                    on_replaced()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                await self._changed.wait()

    def _on_change(self) -> None:
        self._changed.set()

    async def _run_process(self, replaced: trio.Event, task_status: trio.TaskStatus[None]) -> None:
        """One process, started once it serves, until it is replaced and has finished, or this is cancelled."""
        near, far = socket.socketpair()
        with trio.socket.from_stdlib_socket(near) as control:
            with far:
                with suppress(FileNotFoundError):  # left by one that has failed
                    os.unlink(self._next)
                words = [self._name, self._loop, self._next, str(far.fileno()), str(self._grace_seconds)]
                # What was compiled before would stand for a module that changes within a second, and not in size.
                flags = ["-P", "-B"] if self._reload else ["-P"]
                process = await trio.lowlevel.open_process(
                    [sys.executable, *flags, str(HOSTED), *words], pass_fds=[far.fileno()], env=_not_ours(os.environ)
                )
            serves = False
            try:
                said = await _line(control)
                if said != "ready":
                    why = said or f"its process has ended with status {await process.wait()}"
                    raise ConfigError(f"asgi: {self._name!r}: {why}")
                os.rename(self._next, self.path)
                serves = True
                task_status.started()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._notice_end, process)
                    await replaced.wait()
                    nursery.cancel_scope.cancel()
                control.close()
                with trio.move_on_after(self._grace_seconds + STOP_SECONDS):
                    await process.wait()
            finally:
                control.close()
                with trio.CancelScope(shield=True):
                    with trio.move_on_after(self.stop_seconds if serves else 0):
                        await process.wait()
                    process.kill()  # of no effect on one that has ended
                    await process.wait()

    async def _notice_end(self, process: trio.Process) -> None:
        """Requests are refused from then on: nobody listens."""
        text = f"the application {self._name} has ended by itself, with status {await process.wait()}"
        if not self._reload:
            raise Unreachable(text)
        log.error(f"{text}, waiting for a change")
        await trio.sleep_forever()


@asynccontextmanager
async def open_applications(
    listeners: Sequence[ListenerConfig], grace_seconds: float
) -> AsyncIterator[list[Application | None]]:
    """An application for each listener that has one, with a folder for its sockets, which is removed in the end."""
    with ExitStack() as folders:
        yield [
            Application(listener, folders.enter_context(TemporaryDirectory(prefix="trioduct-")), grace_seconds)
            if listener.asgi
            else None
            for listener in listeners
        ]


def _not_ours(environment: Mapping[str, str]) -> dict[str, str]:
    """What an application may know: variables of the agent may be tokens and passwords."""
    return {name: value for name, value in environment.items() if not name.startswith("TRIODUCT_")}


async def _line(control: trio.socket.SocketType) -> str:
    """What the process says, without the end of its line; empty if it ends."""
    heard = b""
    while not heard.endswith(b"\n") and len(heard) < MOST_SAID:
        try:
            more = await control.recv(MOST_SAID)
        except ConnectionError:
            more = b""
        if not more:
            return ""
        heard += more
    return heard.decode(errors="replace").strip()


async def _watch(on_change: Callable[[], None]) -> None:
    try:
        from watchfiles import PythonFilter, awatch
    except ModuleNotFoundError as error:
        raise ConfigError(f"reload: {error.name} is not installed; install trioduct[reload]") from None
    async for _ in awatch(".", watch_filter=PythonFilter()):
        on_change()
