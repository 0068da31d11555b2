"""Debian's chromium, driven by Playwright in a thread of its own: it is synchronous there, and roles go on in Trio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.programs import path_of

PATIENCE_MS = 30_000


@dataclass
class Tab:
    """A page of the browser, what it complained of, and the hosts that it asked. `client` asks the node meanwhile."""

    page: Page
    client: httpx.Client
    complaints: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)


class Chromium:
    """A browser, and the thread that it is used in."""

    def __init__(self, thread: ThreadPoolExecutor, browser: Browser) -> None:
        self._thread = thread
        self._browser = browser

    async def use(self, script: Callable[[Tab], None], url: str, proxy: int, **context: Any) -> None:
        """Run `script` on a page at `url`. Fails if the page complained, or asked another host.

        `proxy` is the port of the node that the tab's client asks.
        """
        await trio.to_thread.run_sync(self._thread.submit(self._use, script, url, proxy, context).result)

    def _use(self, script: Callable[[Tab], None], url: str, proxy: int, options: dict[str, Any]) -> None:
        headers = {"x-piko-endpoint": "shop"}
        with (
            httpx.Client(base_url=f"http://127.0.0.1:{proxy}", headers=headers, timeout=30) as client,
            self._browser.new_context(**options) as context,
        ):
            context.set_default_timeout(PATIENCE_MS)
            context.grant_permissions(["clipboard-read", "clipboard-write"])
            tab = Tab(context.new_page(), client)
            tab.page.on("console", lambda message: tab.complaints.append(f"{message.type}: {message.text}"))
            tab.page.on("pageerror", lambda error: tab.complaints.append(str(error)))
            tab.page.on("request", lambda request: tab.hosts.add(urlsplit(request.url).netloc))
            tab.page.goto(url)
            script(tab)
            assert tab.complaints == []
            assert tab.hosts == {urlsplit(url).netloc}


@contextmanager
def open_chromium() -> Iterator[Chromium]:
    expect.set_options(timeout=PATIENCE_MS)
    with ThreadPoolExecutor(1) as thread:
        playwright: Playwright = thread.submit(sync_playwright().start).result()
        # A sandbox needs what root in a container has not; what is opened here is ours.
        launch = partial(playwright.chromium.launch, executable_path=path_of("chromium"), args=["--no-sandbox"])
        try:
            browser = thread.submit(launch).result()
            try:
                yield Chromium(thread, browser)
            finally:
                thread.submit(browser.close).result()
        finally:
            thread.submit(playwright.stop).result()
