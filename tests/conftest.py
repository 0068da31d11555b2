"""What tests share: programs that end with the test, a web service, certificates."""

from __future__ import annotations

import os
import signal
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
import trustme

from engine.cli.root import BUILD
from engine.loop.reactor import Reactor
from engine.loop.run import open_reactor
from tests import canary
from tests.origin import open_origin
from tests.programs import Programs, free_port, open_programs

# A slow machine is not a defect of ours, so examples have no deadline of their own.
hypothesis.settings.register_profile("usual", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=5000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


def pytest_configure(config: pytest.Config) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):  # ignored under nohup or `&`, and then by every program of a test
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    canary.watch(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if BUILD == "compiled" and item.get_closest_marker("interpreted"):
            item.add_marker(pytest.mark.skip(reason="needs the interpreted modules"))


@pytest.fixture
async def programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Programs]:
    """Starts programs, and stops whatever of them still runs when the test is over. What they wrote is kept."""
    limit = request.node.get_closest_marker("timeout")
    seconds = float(limit.args[0] if limit else request.config.getini("timeout"))
    async with open_programs(seconds - 5) as started:
        yield started
    started.keep(tmp_path_factory.mktemp("programs"))


@pytest.fixture
async def reactor() -> AsyncIterator[Reactor]:
    """A role's reactor, at work as long as the test."""
    async with open_reactor() as opened:
        yield opened


@pytest.fixture
async def origin() -> AsyncIterator[int]:
    """The port of a service that hashes what it gets and gives; see `tests.origin`."""
    async with open_origin() as port:
        yield port


@dataclass(frozen=True)
class Web:
    """A web service: its port, the folder that it serves below /files/, and what it answers to GET /."""

    port: int
    files: Path
    answer: bytes


@pytest.fixture
async def nginx(programs: Programs, tmp_path: Path) -> Web:
    """nginx on a free port, which answers GET / with 128 bytes."""
    web = Web(port=free_port(), files=tmp_path / "files", answer=b"0123456789abcdef" * 8)
    web.files.mkdir()
    temporary = "\n".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = tmp_path / "nginx.conf"
    config.write_text(f"""
        daemon off; master_process off; pid {tmp_path}/nginx.pid; error_log stderr;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; default_type text/plain; keepalive_requests 10000000; client_max_body_size 0;
            {temporary}
            server {{
                listen 127.0.0.1:{web.port} backlog=1024;
                location = / {{ return 200 "{web.answer.decode()}"; }}
                location /files/ {{ alias {web.files}/; }}
            }}
        }}
    """)
    await programs.start("nginx", "-e", "stderr", "-p", tmp_path, "-c", config, port=web.port)
    return web


@dataclass(frozen=True)
class Pki:
    """An authority of the tests' own, and a certificate for 127.0.0.1 and localhost: files and contexts."""

    authority: trustme.CA
    ca: Path
    cert: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    authority = trustme.CA()
    pair = authority.issue_cert("localhost", "127.0.0.1", "*.localhost")
    made = Pki(authority, folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(made.ca)
    made.key.write_bytes(pair.private_key_pem.bytes())
    made.cert.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
    return made
