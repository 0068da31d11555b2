"""Starts real proxy programs, waits until they listen, and stops exactly those processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import pytest

START_SECONDS = 20


def program(name: str) -> str:
    """Its path. Where it is missing, the test is skipped, but fails on CI: there it has to be installed."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/lib/squid")
    return found or is_missing(f"{name} is not installed")


def unpacked(name: str) -> Path:
    """The folder of a program that is no Debian package, or one that conflicts with another: `python3 -m tests`
    puts it into the virtual environment.
    """
    folder = Path(sys.prefix) / "share" / name
    return folder if folder.exists() else is_missing(f"{folder} is not there")


def is_missing(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Bed:
    """A folder and the processes that work in it. The folder is open to the user that daemons become."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"trioduct-{name}-"))
        self.folder.chmod(0o777)
        self._started: list[subprocess.Popen[bytes]] = []

    def file(self, name: str, text: str, mode: int = 0o644) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(mode)
        return path

    def log(self, name: str) -> Path:
        """An empty file that anybody may write to."""
        return self.file(name, "", 0o666)

    def run(self, *argv: str | Path, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
        """A program that ends by itself; its output."""
        done = subprocess.run(
            [str(word) for word in argv],
            input=stdin.encode(),
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{argv[0]} ended with {done.returncode}: {done.stdout.decode()}"
        return done.stdout.decode()

    def start(self, *argv: str | Path, port: int, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A program that listens on `port`, in a process group of its own."""
        output = self.folder / f"{Path(str(argv[0])).name}-{port}.out"
        with open(output, "wb") as log:
            process = subprocess.Popen(
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        self._started.append(process)
        give_up = time.monotonic() + START_SECONDS
        while not accepts(port):
            assert process.poll() is None, f"{argv[0]} ended: {output.read_text(errors='replace')}"
            assert time.monotonic() < give_up, f"{argv[0]} does not listen: {output.read_text(errors='replace')}"
            time.sleep(0.02)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """The whole group at once: squid would take seconds for a graceful end, and its helpers outlive
        it.
        """
        self._started.remove(process)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        words = [str(word) for word in process.args] if isinstance(process.args, list) else []
        if words and Path(words[0]).name == "squid":  # killed, it leaves what it shares, by its service's name
            for shared in Path("/dev/shm").glob(f"{words[words.index('-n') + 1]}-*.shm"):
                shared.unlink(missing_ok=True)

    def close(self) -> None:
        for process in self._started.copy():
            self.stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def bed(name: str) -> Iterator[Bed]:
    made = Bed(name)
    try:
        yield made
    finally:
        made.close()


class _Target(BaseHTTPRequestHandler):
    """Says hello, and tells on a proxy secret that travelled inside the tunnel."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        leaked = [name for name in self.headers if name.lower().startswith("proxy-")]
        body = f"hello {','.join(leaked)}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


@contextlib.contextmanager
def target(context: ssl.SSLContext | None = None) -> Iterator[int]:
    """The port of a web server to reach through the proxies, with TLS if there is a context."""
    server = _Server(("127.0.0.1", 0), _Target)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
