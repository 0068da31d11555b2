"""The process of an ASGI application: a program of its own, which engine.agent.application starts.

It imports nothing of the engine: the application's folder comes first where it looks for modules, and may have a
package of any name. hypercorn serves the application on a Unix socket.

    python -P hosted.py MODULE:ATTRIBUTE LOOP SOCKET CONTROL GRACE

SOCKET is the path to listen on. CONTROL is the descriptor of a socket: one line is said there, `ready`, or what is
wrong in one sentence; when the other end is closed, requests under way have GRACE seconds to finish. Signals are the
agent's to hear, which drains first.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any, Final

import anyio
from hypercorn.config import Config
from hypercorn.utils import LifespanTimeoutError

BACKLOG: Final = 1024
IDLE_SECONDS: Final = 3600.0  # the agent ends its connections sooner
MOST_TEXT: Final = 500  # of what an error says

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Failure(Exception):
    """Why the application cannot be served, in a sentence."""


def find(name: str) -> App:
    """The application of `package.module:attribute`. Raises Failure."""
    module_name, _, attribute = name.partition(":")
    try:
        found = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module_name}.".startswith(f"{missing}."):
            raise Failure(f"there is no module {missing} in {os.getcwd()}, and none is installed") from None
        raise Failure(told(error)) from None
    app: object = found
    for part in attribute.split("."):
        if not hasattr(app, part):
            raise Failure(f"{found.__file__} has no {attribute}; expected the name of an ASGI application in it")
        app = getattr(app, part)
    if not callable(app):
        raise Failure(f"{attribute} in {found.__file__} is of type {type(app).__name__}; expected an ASGI application")
    return app


def told(error: BaseException) -> str:
    """An error in one line, with the file and line of the application's that it came from."""
    text = str(error)
    if isinstance(error, SyntaxError) and error.filename:
        place, text = f"{error.filename}:{error.lineno}", error.msg
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if frame.filename.startswith(os.getcwd() + os.sep)]
        own = [frame for frame in own if "site-packages" not in frame.filename] or list(frames)
        place = f"{own[-1].filename}:{own[-1].lineno}"
    return f"{place}: {type(error).__name__}: {' '.join(text.split())[:MOST_TEXT]}"


class Watched:
    """The application, asked by hypercorn. `ready` is called when it has started up, or knows no lifespan."""

    def __init__(self, app: App, ready: Callable[[], None]) -> None:
        self.failed = ""  # what it said of its failure to start up
        self._app = app
        self._ready = ready

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        started = False

        async def heard(message: Message) -> None:
            nonlocal started
            if message["type"] == "lifespan.startup.failed":
                lines = message.get("message", "").strip().splitlines()  # of a whole traceback, often
                self.failed = f"it fails to start up: {lines[-1][:MOST_TEXT] if lines else 'it does not say why'}"
            elif message["type"] == "lifespan.startup.complete":
                started = True
                self._ready()
            await send(message)

        try:
            await self._app(scope, receive, heard)
            if not started and not self.failed:  # on Trio hypercorn breaks if it returns, but not if it raises
                raise NotImplementedError("lifespan")
        finally:
            if not self.failed:
                self._ready()


def main() -> int:
    """Serve until CONTROL is closed at the other end."""
    name, loop, path, descriptor, grace = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # unlike SIG_IGN, it is not passed on to programs
    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    said = False

    def say(text: str) -> None:
        nonlocal said
        if not said:
            said = True
            control.sendall(f"{text}\n".encode())

    sys.argv = [name]
    sys.path.insert(0, os.getcwd())
    try:
        app = Watched(find(name), partial(say, "ready"))
    except Failure as failure:
        say(str(failure))
        return 2
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(BACKLOG)
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.backlog = BACKLOG
    config.loglevel = "WARNING"
    config.include_server_header = False
    config.keep_alive_timeout = IDLE_SECONDS
    config.graceful_timeout = float(grace)
    serve = importlib.import_module(f"hypercorn.{loop}").serve
    status = 2
    try:
        anyio.run(
            partial(serve, app, config, shutdown_trigger=partial(anyio.wait_readable, control), mode="asgi"),
            backend=loop,
        )
        status = 0
    except* LifespanTimeoutError:
        say(f"it has not started up within {config.startup_timeout:g} s")
    except* Exception:
        if not app.failed:
            raise
        say(app.failed)
    return status


if __name__ == "__main__":
    sys.exit(main())
