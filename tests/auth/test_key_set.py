"""Key sets: fetched, fetched again, and kept when the fetch fails."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.auth.key_set import MAX_BYTES, REFETCH_SECONDS, KeySet, Tokens, open_tokens
from engine.auth.verifier import UnknownKey, Verifier
from tests.auth.tokens import SECRET, claims_of, forged, jwk, key_set


class Issuer(ThreadingHTTPServer):
    """Serves `document` at /keys; other paths misbehave."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, self))
        self.document = b"one"
        self.status = 200
        self.asked: list[str] = []
        self.elsewhere = ""
        self.stalling = threading.Event()

    def url(self, path: str = "/keys") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, issuer: Issuer, *arguments: Any) -> None:
        self.issuer = issuer
        super().__init__(*arguments)

    def do_GET(self) -> None:
        issuer = self.issuer
        issuer.asked.append(self.path)
        if self.path == "/stall":
            issuer.stalling.wait(30)
        elif self.path.startswith("/to"):
            self.send_response(302)
            self.send_header("Location", issuer.url() if self.path == "/to-keys" else issuer.elsewhere)
            self.end_headers()
        else:
            self.send_response(issuer.status)
            self.end_headers()
            self.wfile.write(issuer.document)

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.stalling.set()
        server.shutdown()


class Installed:
    """The documents that came, and a way to wait for the next."""

    def __init__(self) -> None:
        self.documents: list[bytes] = []

    def __call__(self, document: bytes) -> None:
        if document == b"bad":
            raise ValueError("no key set")
        self.documents.append(document)


@pytest.fixture
def installed() -> Installed:
    return Installed()


Start = Callable[[str], Any]


@pytest.fixture
def start(nursery: trio.Nursery, installed: Installed, mock_clock: MockClock) -> Start:
    async def started(url: str) -> KeySet:
        keys = KeySet(url, installed, cache_ttl=600, timeout=10)
        await nursery.start(functools.partial(keys.run))
        return keys

    return started


async def refetched(keys: KeySet, clock: MockClock, seconds: float) -> None:
    """Let `seconds` pass, at the end of which a fetch is due, and wait for its end."""
    await wait_all_tasks_blocked()
    fetched = keys._fetched
    clock.jump(seconds - 0.1)
    await wait_all_tasks_blocked()
    assert not fetched.is_set()
    clock.jump(0.1)
    await fetched.wait()


async def test_the_set_is_there_when_the_task_has_started(start: Start, issuer: Issuer, installed: Installed) -> None:
    await start(issuer.url())
    assert installed.documents == [b"one"]


async def test_the_set_is_fetched_again_when_it_is_old(
    start: Start, issuer: Issuer, installed: Installed, mock_clock: MockClock
) -> None:
    keys = await start(issuer.url())
    issuer.document = b"two"
    await refetched(keys, mock_clock, 600)
    assert installed.documents == [b"one", b"two"]
    await refetched(keys, mock_clock, 600)
    assert len(installed.documents) == 3


async def test_unknown_keys_bring_a_newer_set_every_thirty_seconds_at_most(
    start: Start, issuer: Issuer, installed: Installed, mock_clock: MockClock
) -> None:
    keys = await start(issuer.url())
    for _ in range(100):
        keys.want_newer()
    await refetched(keys, mock_clock, REFETCH_SECONDS)
    mock_clock.jump(100)
    fetched = keys._fetched
    keys.want_newer()
    await fetched.wait()
    assert len(installed.documents) == 3


async def test_one_can_wait_for_a_newer_set(
    start: Start, issuer: Issuer, installed: Installed, mock_clock: MockClock
) -> None:
    keys = await start(issuer.url())
    mock_clock.jump(REFETCH_SECONDS)
    issuer.document = b"two"
    await keys.newer()
    assert installed.documents == [b"one", b"two"]


async def test_nobody_waits_for_a_newer_set_that_will_not_come_for_a_while(
    start: Start, issuer: Issuer, installed: Installed, mock_clock: MockClock
) -> None:
    keys = await start(issuer.url())
    issuer.document = b"two"
    mock_clock.jump(REFETCH_SECONDS - 1)
    await keys.newer()  # the clock stands still
    assert installed.documents == [b"one"]
    await refetched(keys, mock_clock, 1)
    assert installed.documents == [b"one", b"two"]


@pytest.mark.parametrize("defect", ["status", "document", "size", "gone"])
async def test_a_fetch_that_fails_changes_nothing_and_is_tried_again(
    start: Start, issuer: Issuer, installed: Installed, mock_clock: MockClock, defect: str
) -> None:
    keys = await start(issuer.url())
    if defect == "status":
        issuer.status = 500
    elif defect == "document":
        issuer.document = b"bad"
    elif defect == "size":
        issuer.document = b"x" * (MAX_BYTES + 1)
    else:
        keys._url = "http://127.0.0.1:1/"
    await refetched(keys, mock_clock, 600)
    assert installed.documents == [b"one"]
    issuer.status, issuer.document, keys._url = 200, b"two", issuer.url()
    await refetched(keys, mock_clock, REFETCH_SECONDS)
    assert installed.documents == [b"one", b"two"]


async def test_an_issuer_that_is_down_at_the_start_is_asked_again(
    start: Start, issuer: Issuer, installed: Installed, mock_clock: MockClock
) -> None:
    issuer.status = 503
    keys = await start(issuer.url())
    assert installed.documents == []
    issuer.status = 200
    await refetched(keys, mock_clock, REFETCH_SECONDS)
    assert installed.documents == [b"one"]


async def test_an_issuer_that_does_not_answer_is_given_up(
    nursery: trio.Nursery, issuer: Issuer, installed: Installed, mock_clock: MockClock
) -> None:
    keys = KeySet(issuer.url("/stall"), installed, timeout=10)
    nursery.start_soon(keys.run)
    while not issuer.asked:
        await trio.lowlevel.checkpoint()
    fetched = keys._fetched
    mock_clock.jump(10)
    await fetched.wait()
    assert installed.documents == []


async def test_a_redirect_is_followed_on_the_same_host_only(start: Start, issuer: Issuer, installed: Installed) -> None:
    await start(issuer.url("/to-keys"))
    assert installed.documents == [b"one"]
    issuer.asked.clear()
    for elsewhere in (
        issuer.url().replace("127.0.0.1", "localhost"),
        issuer.url().replace("http:", "https:"),
        "http://127.0.0.1:1/keys",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
    ):
        issuer.elsewhere = elsewhere
        await start(issuer.url("/to-elsewhere"))
    assert installed.documents == [b"one"]
    assert set(issuer.asked) == {"/to-elsewhere"}


async def test_a_file_is_read_and_read_again(
    start: Start, installed: Installed, tmp_path: Path, mock_clock: MockClock
) -> None:
    file = tmp_path / "a set.json"
    file.write_bytes(b"one")
    keys = await start(file.as_uri())
    file.write_bytes(b"two")
    await refetched(keys, mock_clock, 600)
    assert installed.documents == [b"one", b"two"]
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    await refetched(keys, mock_clock, 600)
    file.unlink()
    await refetched(keys, mock_clock, REFETCH_SECONDS)
    assert installed.documents == [b"one", b"two"]


async def test_a_verifier_has_the_keys_of_its_set_and_asks_for_newer_ones(
    nursery: trio.Nursery, issuer: Issuer, mock_clock: MockClock
) -> None:
    issuer.document = key_set(jwk(SECRET, kid="old"))
    tokens = await open_tokens(Verifier(), issuer.url(), nursery)
    verifier, newer_keys = tokens
    assert verifier is not None
    assert newer_keys is not None
    assert claims_of(verifier, forged(header={"alg": "HS256", "kid": "old"}))
    issuer.document = key_set(jwk(SECRET, kid="new"))
    mock_clock.jump(REFETCH_SECONDS)
    new = forged(header={"alg": "HS256", "kid": "new"})
    with pytest.raises(UnknownKey):
        claims_of(verifier, new)
    await newer_keys()
    assert claims_of(verifier, new)
    assert len(issuer.asked) == 2


async def test_without_a_set_a_verifier_keeps_the_keys_that_it_has(nursery: trio.Nursery) -> None:
    verifier = Verifier(hmac_secret_key=SECRET)
    assert await open_tokens(verifier, "", nursery) == Tokens(verifier, None)
    assert not nursery.child_tasks
