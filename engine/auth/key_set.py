"""Where verification keys come from: a JWK set, fetched by URL or read from a file, again and again.

One task keeps a set fresh. A token that names an unknown key is the usual sign that the issuer has changed its keys,
so it asks for a newer set at once. But strangers can make up names, so a set is fetched at most every
`REFETCH_SECONDS`. When a fetch fails, the keys that are here stay good: an issuer that is down must not lock everybody
out.

A set is fetched by urllib in a thread, from the configured URL only; redirects are followed only on its host.
"""

from __future__ import annotations

import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable
from http.client import HTTPException, HTTPMessage
from typing import IO, Final, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

import trio

from engine.auth.verifier import Verifier
from engine.log import get_logger

MAX_BYTES: Final = 1 << 20
REFETCH_SECONDS: Final = 30.0

log = get_logger("auth")


class Tokens(NamedTuple):
    """What checks a port's tokens, and what waits for newer keys to check them with. Without a verifier, none is asked
    for.
    """

    verifier: Verifier | None = None
    newer_keys: Callable[[], Awaitable[None]] | None = None


async def open_tokens(
    verifier: Verifier, url: str, nursery: trio.Nursery, *, cache_ttl: float = 3600.0, fetch_seconds: float = 10.0
) -> Tokens:
    """Let `verifier` have the keys of the JWK set at `url`, which a task in `nursery` keeps fresh.

    Returns after the first try to fetch it, of whatever success. An empty `url` stands for no set: the verifier keeps
    the keys that it has.
    """
    if not url:
        return Tokens(verifier)
    keys = KeySet(url, verifier.replace_keys, cache_ttl=cache_ttl, timeout=fetch_seconds)
    verifier.on_unknown_key = keys.want_newer
    await nursery.start(keys.run)
    return Tokens(verifier, keys.newer)


class KeySet:
    """Keeps the JWK set at `url` (https, http or file) fresh.

    `install` gets each document that was fetched and raises ValueError if it cannot be used. A document is fetched
    anew after `cache_ttl` seconds. A fetch is given up after `timeout` seconds.
    """

    def __init__(
        self,
        url: str,
        install: Callable[[bytes], None],
        *,
        cache_ttl: float = 3600.0,
        timeout: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._install = install
        self._cache_ttl = cache_ttl
        self._timeout = timeout
        self._tls = tls
        self._wanted = trio.Event()
        self._fetched = trio.Event()
        self._next_at = 0.0  # by Trio's clock: from then on it is fetched when that is wanted

    def want_newer(self) -> None:
        """Fetch soon, because a token named a key that is not in the set."""
        self._wanted.set()

    async def newer(self) -> None:
        """Wait until the next fetch is over, whatever came of it (deadline: the caller's). Returns at once if there was
        one lately, so that there will be none for a while.
        """
        self.want_newer()
        if trio.current_time() >= self._next_at:
            await self._fetched.wait()
        else:
            await trio.lowlevel.checkpoint()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch for ever. Started after the first try, whatever came of it."""
        while True:
            good = await self._fetch()
            self._fetched.set()
            self._fetched, self._wanted = trio.Event(), trio.Event()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            now = trio.current_time()
            self._next_at = now + REFETCH_SECONDS
            with trio.move_on_at(now + (self._cache_ttl if good else REFETCH_SECONDS)):
                await self._wanted.wait()
                await trio.sleep_until(self._next_at)

    async def _fetch(self) -> bool:
        try:
            # To resolve a name can take any time and cannot be cancelled; the thread is left behind.
            with trio.fail_after(self._timeout):
                document = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            self._install(document)
        except (OSError, HTTPException, ValueError, trio.TooSlowError) as error:
            reason = str(error) or f"no answer within {self._timeout:g} s"
            log.warning("cannot fetch the key set", url=self._url, error=reason)
            return False
        log.debug("key set fetched", url=self._url, bytes=len(document))
        return True

    def _read(self) -> bytes:
        """The document. In a thread."""
        deadline = time.monotonic() + self._timeout
        parts = urlsplit(self._url)
        if parts.scheme == "file":
            with open(unquote(parts.path), "rb") as file:
                return _capped(file.read(MAX_BYTES + 1))
        request = urllib.request.Request(self._url, headers={"Accept": "application/json"})
        opener = urllib.request.build_opener(_SameHost, urllib.request.HTTPSHandler(context=self._tls))
        try:
            response = opener.open(request, timeout=self._timeout)
        except HTTPError as error:
            error.close()  # it is a response as well, and holds a connection
            raise
        with response:
            document = b""
            while chunk := response.read1(65536):
                document = _capped(document + chunk)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not whole within {self._timeout:g} s")
            return document


def _capped(document: bytes) -> bytes:
    if len(document) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES} bytes")
    return document


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to the same scheme, host and port only: an answer must not choose who is believed."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            fp.close()
            raise URLError(f"redirected elsewhere, to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
