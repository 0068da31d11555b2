"""Where verification keys come from: a JWK set, fetched by URL or read from a file, again and again.

One task keeps a set fresh. A token that names a key we have not is the usual sign that the issuer has changed
its keys, so it asks for a newer set at once; but strangers can make up names, so that counts at most every
`REFETCH_SECONDS`. When a fetch fails, the keys that we have stay good: an issuer that is down must not lock
everybody out.

Fetching is urllib in a thread. It goes to the configured URL only, and follows redirects only on its host.
"""

from __future__ import annotations

import ssl
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from typing import IO, Final
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

import trio

from engine.log import get_logger

MAX_BYTES: Final = 1 << 20
REFETCH_SECONDS: Final = 30.0

log = get_logger("auth")


class KeySet:
    """Keeps the JWK set at `url` (https, http or file) fresh.

    `install` gets each document that was fetched and raises ValueError if it is no good. A document is fetched
    anew after `cache_ttl` seconds; one that takes longer than `timeout` seconds does not come.
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

    def want_newer(self) -> None:
        """Fetch soon, because a token named a key that is not in the set."""
        self._wanted.set()

    async def newer(self) -> None:
        """Wait until the set has been fetched once more, well or ill (deadline: the caller's)."""
        self.want_newer()
        await self._fetched.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch for ever; started after the first try, of whatever success."""
        while True:
            good = await self._fetch()
            self._fetched.set()
            self._fetched, self._wanted = trio.Event(), trio.Event()
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            now = trio.current_time()
            with trio.move_on_at(now + (self._cache_ttl if good else REFETCH_SECONDS)):
                await self._wanted.wait()
                await trio.sleep_until(now + REFETCH_SECONDS)

    async def _fetch(self) -> bool:
        try:
            # A name that does not resolve takes as long as it likes; the thread is left to it.
            with trio.fail_after(self._timeout):
                document = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            self._install(document)
        except (OSError, HTTPException, ValueError, trio.TooSlowError) as error:
            reason = str(error) or f"no answer within {self._timeout:g} s"
            log.warning("no new keys to verify tokens with", url=self._url, error=reason)
            return False
        log.debug("keys to verify tokens with", url=self._url, bytes=len(document))
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
            error.close()  # it is a response, too, with a connection of its own
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
    """Follows a redirect to the same scheme, host and port; any other would let the answer choose its judge."""

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
