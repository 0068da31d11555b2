"""The dashboard in a real browser, as a person uses it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jwt
import pytest
import trio
from playwright.sync_api import Page, expect

from engine.config import ServerConfig
from tests.browser import Chromium, Tab, open_chromium
from tests.programs import needs
from tests.roles import Role, Roles, RunningNode, Talk, agent_config, answer, roles, server_config

__all__ = ["roles"]

pytestmark = [needs("chromium"), pytest.mark.timeout(120)]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SECRET = "a secret of some forty characters, or more"
EVIL = "<b>evil</b>"

# The contrast of each text with what is behind it (WCAG 2.2, 1.4.3), where it is too low.
LOW_CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (color) => color.slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = rgb(getComputedStyle(element).backgroundColor);
      if (color[3] !== 0) return color;
    }
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data.trim()).join("");
    if (!text || !element.checkVisibility()) continue;
    const [one, other] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(2)} ${element.tagName} ${text}`);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with open_chromium() as opened:
        yield opened


async def serve(talk: Talk) -> None:
    while True:
        head = await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"x" * 1000, status=b"503 Full" if b"/full" in head else b"200 OK"))


async def with_agents(roles: Roles, config: ServerConfig | None = None) -> tuple[RunningNode, Role]:
    """A node, and the last of the agents that serve `shop` and an endpoint with an evil name."""
    node = await roles.node(config)
    service = await roles.service(serve)
    for carriers in (["websocket"], ["poll"]):
        await roles.agent_with(agent_config(node.upstream, service, endpoint="shop", carriers=carriers))
    return node, await roles.agent_with(agent_config(node.upstream, service, endpoint=EVIL))


def cells(page: Page, table: str, column: str) -> list[str]:
    """The texts of a column, from the first row on."""
    find = "(all, key) => all.findIndex((th) => th.dataset.key === key)"
    place = page.locator(f"#{table} th").evaluate_all(find, column)
    return page.locator(f"#{table} tbody tr td:nth-child({place + 1})").all_text_contents()


async def test_what_happens_at_the_node_is_seen(chromium: Chromium, roles: Roles) -> None:
    node, agent = await with_agents(roles)
    token = trio.lowlevel.current_trio_token()

    def script(tab: Tab) -> None:
        page = tab.page
        expect(page.get_by_role("heading", name="Endpoints")).to_be_visible()
        expect(page.locator("#sessions tbody tr")).to_have_count(3)
        assert sorted(cells(page, "sessions", "carrier")) == ["poll", "websocket", "websocket"]
        assert set(cells(page, "sessions", "way")) == {"direct"}
        assert EVIL in cells(page, "endpoints", "endpoint")
        assert page.locator("b").count() == 0  # a name is a text
        for path in ("/", "/", "/full"):
            tab.client.get(path)
        row = page.locator("#endpoints tbody tr", has_text="shop")
        expect(row).to_contain_text("3")
        expect(page.locator("#kinds tbody tr", has_text="503")).to_contain_text("answer")
        expect(page.locator(".cards dd[data-key=p50]")).to_contain_text("ms")
        expect(page.locator(".chart canvas")).to_have_count(3)
        expect(page.locator("#nodes tbody tr")).to_have_count(1)
        expect(page.locator("#workers")).to_be_hidden()
        trio.from_thread.run(agent.kill, trio_token=token)
        expect(page.locator("#sessions tbody tr")).to_have_count(2)
        expect(page.locator(".cards dd[data-key=ended]")).to_have_text("1")

    await chromium.use(script, f"http://127.0.0.1:{node.admin}/", node.proxy)


async def test_it_is_sorted_filtered_and_held_by_the_keyboard_alone(chromium: Chromium, roles: Roles) -> None:
    node, _ = await with_agents(roles)

    def script(tab: Tab) -> None:
        page = tab.page
        expect(page.locator("#sessions tbody tr")).to_have_count(3)
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="To the tables")).to_be_focused()
        title = page.locator("#sessions th[data-key=carrier]")
        title.get_by_role("button").focus()
        page.keyboard.press("Enter")
        expect(title).to_have_attribute("aria-sort", "ascending")
        assert cells(page, "sessions", "carrier") == ["poll", "websocket", "websocket"]
        page.keyboard.press("Enter")
        expect(title).to_have_attribute("aria-sort", "descending")
        assert cells(page, "sessions", "carrier") == ["websocket", "websocket", "poll"]
        page.keyboard.press("/")
        page.keyboard.type("SHOP")
        expect(page.locator("#sessions tbody tr")).to_have_count(2)
        expect(page.locator("#sessions .more")).to_have_text("2 of 3")
        page.keyboard.press("Escape")
        page.keyboard.press("p")
        expect(page.get_by_role("status")).to_have_text("Paused.")
        before = page.locator("#at").text_content()
        tab.client.get("/")
        page.keyboard.press("p")
        expect(page.get_by_role("status")).to_have_text("")
        expect(page.locator("#at")).not_to_have_text(before or "")
        assert page.locator("input:not([type=hidden])").evaluate_all("all => all.every((one) => one.labels.length)")
        assert page.locator("table button").evaluate_all("all => all.every((one) => one.textContent.trim())")

    await chromium.use(script, f"http://127.0.0.1:{node.admin}/", node.proxy)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read_on_a_phone_by_day_and_by_night(chromium: Chromium, roles: Roles, scheme: str) -> None:
    node, _ = await with_agents(roles)

    def script(tab: Tab) -> None:
        page = tab.page
        tab.client.get("/full")
        expect(page.locator("#kinds tbody tr")).to_have_count(1)
        assert page.evaluate(LOW_CONTRAST) == []
        width = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], "nothing is wider than the screen"

    await chromium.use(script, f"http://127.0.0.1:{node.admin}/", node.proxy, color_scheme=scheme, **PHONE)


async def test_a_token_is_asked_for_kept_in_the_tab_and_forgotten(chromium: Chromium, roles: Roles) -> None:
    config = server_config()
    config.admin.auth.hmac_secret_key = SECRET
    node, _ = await with_agents(roles, config)
    token = jwt.encode({}, SECRET)

    def script(tab: Tab) -> None:
        page = tab.page
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.on("websocket", lambda socket: requested.append(socket.url))
        field, show = page.get_by_role("textbox", name="Token"), page.get_by_role("button", name="Show the dashboard")
        expect(field).to_be_focused()
        assert "shop" not in page.content()
        assert page.evaluate(LOW_CONTRAST) == []
        for wrong, words in ((token[:-2], "does not accept this token"), ("no token", "That is no token")):
            field.fill(wrong)
            show.click()
            expect(page.get_by_role("alert")).to_contain_text(words)
        refused = [one for one in tab.complaints if not re.search(r"401|WebSocket", one)]
        assert refused == []
        tab.complaints.clear()
        field.fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#sessions tbody tr")).to_have_count(3)
        page.reload()
        expect(page.locator("#sessions tbody tr")).to_have_count(3)
        assert page.context.cookies() == []
        page.get_by_role("button", name="Forget the token").click()
        expect(field).to_be_visible()
        assert page.evaluate("sessionStorage.length") == 0
        assert not [url for url in requested if token[:20] in url]

    await chromium.use(script, f"http://127.0.0.1:{node.admin}/dashboard/", node.proxy)


async def test_a_node_that_ends_is_told_and_one_that_is_there_again_is_found(chromium: Chromium, roles: Roles) -> None:
    config = server_config()
    node = await roles.node(config)
    token = trio.lowlevel.current_trio_token()

    async def again() -> None:
        await node.kill()
        config.admin.bind_addr = f"127.0.0.1:{node.admin}"

    async def start() -> None:
        await roles.node(config)

    def script(tab: Tab) -> None:
        page = tab.page
        expect(page.locator("#at")).not_to_have_text("")
        trio.from_thread.run(again, trio_token=token)
        expect(page.get_by_role("status")).to_contain_text("The node does not answer")
        trio.from_thread.run(start, trio_token=token)
        expect(page.get_by_role("status")).to_have_text("")
        assert [one for one in tab.complaints if "net::ERR_" not in one] == []
        tab.complaints.clear()

    await chromium.use(script, f"http://127.0.0.1:{node.admin}/", node.proxy)
