"""The pages in a real browser, as a person uses them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from playwright.sync_api import expect

from tests.browser import Chromium, Tab, open_chromium
from tests.inspector.inspected import Inspected
from tests.programs import needs

pytestmark = [needs("chromium"), pytest.mark.timeout(120)]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with open_chromium() as opened:
        yield opened


async def test_requests_appear_by_themselves_are_opened_and_searched(chromium: Chromium, inspected: Inspected) -> None:
    def script(tab: Tab) -> None:
        page = tab.page
        rows = page.locator("#rows li")
        expect(page.get_by_text("No request has come yet")).to_be_visible()
        tab.client.get("/first?page=2")
        expect(rows).to_have_count(1)
        expect(page.get_by_text("No request has come yet")).to_be_hidden()
        tab.client.post("/buy", json={"needle": 1})
        expect(rows).to_have_count(2)
        expect(rows.first).to_contain_text("/buy")  # the newest
        expect(page.locator("#counts")).to_contain_text("2 requests")
        rows.first.get_by_role("link").click()
        detail = page.get_by_role("region", name="Chosen request")
        expect(detail).to_contain_text('"needle": 1')
        expect(detail).to_contain_text("the first byte of the answer")
        expect(rows.first.get_by_role("link")).to_have_attribute("aria-current", "true")
        assert page.url.endswith("/requests/2")
        page.get_by_label("Search").fill("needle")
        expect(rows).to_have_count(1)
        tab.client.get("/without")
        tab.client.post("/again", json={"needle": 2})
        expect(rows).to_have_count(2)  # what comes is narrowed, too
        page.get_by_label("Search").fill("nowhere to be found")
        expect(page.get_by_text("No request is like that")).to_be_visible()
        page.get_by_label("Search").fill("")
        expect(rows).to_have_count(4)
        page.get_by_label("Status").select_option("4xx")
        expect(rows).to_have_count(0)
        page.reload()
        expect(detail).to_contain_text('"needle": 1')

    await chromium.use(script, inspected.url, inspected.node.proxy)


async def test_a_request_under_way_is_live_until_it_is_over(chromium: Chromium, inspected: Inspected) -> None:
    def script(tab: Tab) -> None:
        page = tab.page
        with tab.client.stream("GET", "/pieces/3") as answer:
            page.locator("#rows a").click()
            answer.read()
        expect(page.locator("article")).to_have_attribute("data-done", "yes")
        expect(page.locator("article")).to_contain_text("192 KiB")

    await chromium.use(script, inspected.url, inspected.node.proxy)


async def test_a_request_is_replayed_as_it_was_and_edited(chromium: Chromium, inspected: Inspected) -> None:
    def script(tab: Tab) -> None:
        page = tab.page
        tab.client.post("/buy", content=b"one", headers={"Content-Type": "text/plain", "X-Api-Key": "canary"})
        page.locator("#rows a").click()
        detail = page.locator("#detail")
        detail.get_by_role("button", name="Replay").click()
        expect(detail).to_contain_text("replay of 1")
        expect(detail.locator("article")).to_have_attribute("data-done", "yes")
        assert page.url.endswith("/requests/2")
        expect(page.locator("#rows li").first).to_contain_text("replay of 1")
        page.keyboard.press("e")
        expect(detail.get_by_role("heading", name="Edit and replay")).to_be_visible()
        detail.get_by_label("Method").fill("G T")
        detail.get_by_role("button", name="Send").click()
        expect(detail.get_by_role("alert")).to_contain_text("This cannot be sent")
        assert "status of 409" in tab.complaints.pop()
        detail.get_by_label("Method").fill("PUT")
        detail.get_by_role("textbox", name="Body", exact=True).fill("two\nlines")
        detail.get_by_role("button", name="Send").click()
        expect(detail).to_contain_text("replay of 2")
        expect(detail).to_contain_text('"body": "two\\nlines"')
        expect(detail).to_contain_text('"x-api-key": "***"')

    await chromium.use(script, inspected.url, inspected.node.proxy)


async def test_secrets_are_shown_when_asked_for(chromium: Chromium, inspected: Inspected) -> None:
    def script(tab: Tab) -> None:
        page = tab.page
        tab.client.get("/secrets?token=canary", headers={"Authorization": "Bearer canary"})
        page.locator("#rows a").click()
        detail = page.locator("#detail")
        expect(detail).to_contain_text('"name": "Ann"')
        assert "canary" not in page.content()
        detail.get_by_role("link", name="Show secrets").click()
        expect(detail.get_by_role("link", name="Hide secrets")).to_be_visible()
        for secret in ("Bearer canary", '"canary-body"', "sid=canary-cookie", "/secrets?token=canary"):
            expect(detail).to_contain_text(secret)
        page.keyboard.press("s")
        expect(detail.get_by_role("link", name="Show secrets")).to_be_visible()
        assert "canary" not in page.content()

    await chromium.use(script, inspected.url, inspected.node.proxy)


async def test_the_keyboard_is_enough(chromium: Chromium, inspected: Inspected) -> None:
    def script(tab: Tab) -> None:
        page = tab.page
        for path in ("/one", "/two", "/three"):
            tab.client.get(path)
        expect(page.locator("#rows li")).to_have_count(3)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="To the list of requests")).to_be_focused()
        page.keyboard.press("j")
        page.keyboard.press("j")
        expect(page.locator("#r2 a")).to_be_focused()
        tab.client.get("/four")  # the focus stays where it is
        expect(page.locator("#rows li")).to_have_count(4)
        expect(page.locator("#r2 a")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="/two")).to_be_visible()
        page.keyboard.press("r")
        expect(page.locator("#detail")).to_contain_text("replay of 2")
        expect(page.locator("#rows li")).to_have_count(5)
        page.keyboard.press("Escape")
        expect(page.get_by_text("Choose a request to see it")).to_be_visible()
        expect(page.locator("#r5 a")).to_be_focused()
        page.keyboard.press("k")
        page.keyboard.press("/")
        page.keyboard.type("three")
        expect(page.locator("#rows li")).to_have_count(1)
        page.keyboard.press("Escape")
        page.keyboard.press("p")
        expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")

    await chromium.use(script, inspected.url, inspected.node.proxy)


async def test_what_is_exported_is_read_by_others(chromium: Chromium, inspected: Inspected, tmp_path: Path) -> None:
    def script(tab: Tab) -> None:
        page = tab.page
        tab.client.get("/page?x=1", headers={"Host": "shop.test"})
        page.locator("#rows a").click()
        page.get_by_role("link", name="Copy as curl").click()
        expect(page.locator("#live")).to_contain_text("on the clipboard")
        assert page.evaluate("navigator.clipboard.readText()").startswith("curl ")
        with page.expect_download() as download:
            page.get_by_role("link", name="Save as HAR").click()
        file = tmp_path / "requests.har"
        download.value.save_as(file)
        entry = json.loads(file.read_text())["log"]["entries"][0]
        # A browser that takes its answers from the file.
        replaying = page.context.browser.new_context()  # type: ignore[union-attr]
        replaying.route_from_har(file)
        other = replaying.new_page()
        other.goto(entry["request"]["url"])
        assert "/page" in other.content()

    await chromium.use(script, inspected.url, inspected.node.proxy)


async def test_a_phone_shows_one_thing_at_a_time(chromium: Chromium, inspected: Inspected) -> None:
    def script(tab: Tab) -> None:
        page = tab.page
        tab.client.get(f"/{'long/' * 40}?q={'x' * 300}", headers={"X-Long": "y" * 500})
        row = page.locator("#rows a")
        row.tap()
        expect(row).to_be_hidden()
        expect(page.get_by_role("heading", name="/long/")).to_be_visible()
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "nothing is wider than the screen"
        page.get_by_role("link", name="All requests").tap()
        expect(row).to_be_visible()

    await chromium.use(script, inspected.url, inspected.node.proxy, **PHONE)


async def test_an_agent_that_ends_is_told(chromium: Chromium, inspected: Inspected) -> None:
    token = trio.lowlevel.current_trio_token()

    def script(tab: Tab) -> None:
        trio.from_thread.run(inspected.agent.kill, trio_token=token)
        expect(tab.page.get_by_role("status")).to_contain_text("The agent does not answer.")
        assert [one for one in tab.complaints if "net::ERR_" not in one] == []
        tab.complaints.clear()

    await chromium.use(script, inspected.url, inspected.node.proxy)
