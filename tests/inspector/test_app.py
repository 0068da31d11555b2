"""The pages over real sockets: an agent that is inspected, behind a real node."""

from __future__ import annotations

import json
import re

import httpx
import pytest
import trio
import trio_websocket
from trio.testing import MockClock

from engine.admin.pages import POLICY
from engine.inspector import app
from engine.inspector.kept import BODY_BYTES
from tests.inspector import har
from tests.inspector.inspected import PNG, TOKEN, Inspected, open_inspected
from tests.roles import Roles, Service, Talk, says

DONE = r'class="status s\d"'


async def test_a_request_is_listed_and_shown(inspected: Inspected) -> None:
    assert "No request has come yet" in await inspected.get("")
    answer = await inspected.client.post("/buy?item=4", json={"count": 2}, headers={"X-Seen": "yes"})
    assert answer.json()["body"] == '{"count":2}'
    listed = await inspected.wait_page("", r"\d ms<")
    assert "/buy?item=4" in listed
    assert "1 requests in" in listed
    shown = await inspected.get("requests/1")
    for text in (
        "POST",
        "/buy?item=4",
        "X-Seen",
        "yes",
        "&#34;count&#34;: 2",
        "a connection is made",
        "the first byte",
    ):
        assert text.lower() in shown.lower(), text
    await inspected.client.get("/second")
    assert "open already" in await inspected.wait_page("requests/2", "s2")


async def test_bodies_are_shown_by_what_they_are(inspected: Inspected) -> None:
    for path in ("/compressed", "/image", "/pieces/2"):
        await inspected.client.get(path)
    await inspected.client.post("/form", data={"name": "Ann <b>", "password": "canary"})
    compressed = await inspected.wait_page("requests/1", "s2")
    assert "needle in a compressed body" in compressed
    assert "gzip: " in compressed
    assert '/requests/2/response/body"' in await inspected.get("requests/2")
    image = await inspected.pages.get("requests/2/response/body")
    assert (image.content, image.headers["content-type"]) == (PNG, "image/png")
    assert "sandbox" in image.headers["content-security-policy"]
    saved = await inspected.pages.get("requests/3/response/body")
    assert saved.content == b"x" * 131072
    assert saved.headers["content-disposition"].startswith("attachment")
    form = await inspected.get("requests/4")
    assert "Ann &lt;b&gt;" in form
    assert "canary" not in form
    await inspected.get("requests/4/neither/body", 404)


async def test_secrets_are_masked_until_they_are_asked_for(inspected: Inspected) -> None:
    secret = {"Authorization": "Bearer canary-field"}
    await inspected.client.get("/secrets?token=canary-query", headers=secret)
    await inspected.wait_page("requests/1", "s2")
    for path in ("", "requests/1", "requests/1/edit", "requests/1/curl", "requests/1/har", "requests.har"):
        assert "canary" not in await inspected.get(path), path
    for path, number in (("requests/1", 5), ("requests/1/edit", 2), ("requests/1/curl", 2), ("requests.har", 6)):
        assert (await inspected.get(path, params={"secrets": "1"})).count("canary") >= number, path


async def test_a_long_body_passes_and_its_beginning_is_kept(inspected: Inspected) -> None:
    size = 0
    async with inspected.client.stream("GET", f"/pieces/{1 << 11}") as answer:
        async for piece in answer.aiter_raw():
            size += len(piece)
    assert size == 1 << 27
    shown = await inspected.wait_page("requests/1", "s2")
    assert re.search(r"the first 256 KiB of 128 MiB are kept", shown)
    held = float(re.search(r"1 requests in ([\d.]+) KiB", await inspected.get(""))[1])  # type: ignore[index]
    assert held * 1024 < BODY_BYTES + 10_000


async def no_http(talk: Talk) -> None:
    await talk.until(b"\r\n\r\n")
    await talk.say(b"220 mail.test ESMTP\r\n\r\n")
    await talk.hear()


async def hang_up(talk: Talk) -> None:
    await talk.until(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (no_http, "The service&#39;s answer is not HTTP: "),
        (hang_up, "The connection to the service was lost: closed before the answer was complete"),
    ],
)
async def test_a_service_that_fails_is_told_of(roles: Roles, service: Service, said: str) -> None:
    async with open_inspected(roles, await roles.service(service)) as inspected:
        assert (await inspected.client.get("/")).status_code == 502
        shown = await inspected.wait_page("requests/1", "s5")
        assert said in shown
        assert "The agent has answered 502 by itself" in shown
        assert inspected.node.proxy  # and goes on
        assert (await inspected.client.post("/")).status_code == 502


async def test_a_filter_narrows_the_list(inspected: Inspected) -> None:
    for path in ("/one", "/two", "/status/404", "/status/500"):
        await inspected.client.get(path)
    await inspected.client.post("/one", content=b"needle")
    await inspected.wait_page("requests/5", "s2")

    async def numbers(**wanted: str) -> list[int]:
        return [int(one) for one in re.findall(r'<li id="r(\d+)"', await inspected.get("", params=wanted))]

    assert await numbers() == [5, 4, 3, 2, 1]
    assert await numbers(q="one") == [5, 1]
    assert await numbers(q="NEEDLE") == [5]
    assert await numbers(status="4xx") == [3]
    assert await numbers(status="failed") == [4, 3]
    assert await numbers(method="POST") == [5]
    assert await numbers(before="3") == [2, 1]
    found = har.check(json.loads(await inspected.get("requests.har", params={"status": "failed"})))
    assert [entry["response"]["status"] for entry in found] == [404, 500]


async def test_the_list_has_pages(inspected: Inspected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "ROWS", 2)
    for number in range(5):
        await inspected.client.get(f"/{number}?q=x")
    await inspected.wait_page("requests/5", "s2")
    seen, path = [], "?method=GET"
    while True:
        page = await inspected.get(path)
        seen.append(re.findall(r'<li id="r(\d+)"', page))
        older = re.search(r'class="older"><a href="([^"]+)"', page)
        if older is None:
            break
        path = f"http://127.0.0.1:{inspected.port}{older[1].replace('&amp;', '&')}"
        assert "method=GET" in path
    assert seen == [["5", "4"], ["3", "2"], ["1"]]


# Replay -------------------------------------------------------------------------------------------------------


async def replayed(inspected: Inspected, path: str, **form: str) -> str:
    """Where a replay has led to."""
    answer = await inspected.pages.post(path, data=form)
    assert answer.status_code == 303, answer.text
    return "requests/" + str(answer.headers["location"]).rpartition("/")[2]


async def test_a_replay_is_the_same_request_again_and_is_marked(inspected: Inspected) -> None:
    first = (await inspected.client.post("/buy?token=canary", json={"a": 1}, headers={"X-Api-Key": "canary"})).json()
    await inspected.wait_page("requests/1", "s2")
    page = await replayed(inspected, "requests/1/replay")
    assert page == "requests/2"
    shown = await inspected.wait_page(page, "s2")
    assert "replay of 1" in shown
    assert "replay of 1" in await inspected.get("", params={"kind": "replay"})
    saved = (await inspected.pages.get("requests/2/response/body")).json()
    assert saved == first
    (entry,) = har.check(json.loads(await inspected.get("requests/2/har")))
    assert entry["_replayOf"] == 1


async def test_an_edited_replay_is_what_was_edited(inspected: Inspected) -> None:
    await inspected.client.post(
        "/buy", content=b"one\ntwo", headers={"X-Api-Key": "canary", "Content-Type": "text/plain"}
    )
    page = await inspected.wait_page("requests/1/edit", "X-Api-Key: \\*\\*\\*|x-api-key: \\*\\*\\*")
    fields = re.search(r'name="fields"[^>]*>([^<]*)<', page)[1]  # type: ignore[index]
    form = {
        "method": "PUT",
        "target": "/sell?x=1",
        "fields": fields.replace("text/plain", "text/x"),
        "body": "one\r\n3",
    }
    number = await replayed(inspected, "requests/1/replay", **form)
    await inspected.wait_page(number, "s2")
    seen = (await inspected.pages.get(f"{number}/response/body")).json()
    assert (seen["method"], seen["target"], seen["query"], seen["body"]) == ("PUT", "/sell", "x=1", "one\n3")
    assert seen["fields"]["x-api-key"] == "canary"
    assert seen["fields"]["content-type"] == "text/x"


async def test_a_form_that_is_no_request_comes_back_with_what_is_wrong(inspected: Inspected) -> None:
    await inspected.client.get("/")
    await inspected.wait_page("requests/1", "s2")
    for form, said in (
        ({"method": "G T", "target": "/", "fields": "Host: a"}, "This cannot be sent: this is no request"),
        ({"method": "GET", "target": "/", "fields": "no field"}, "is no field; expected"),
        ({"method": "GET", "target": "/", "fields": "X: y"}, "this is no request"),
        (
            {"method": "GET", "target": "/", "fields": "Host: a\nConnection: Upgrade\nUpgrade: websocket"},
            "another protocol",
        ),
    ):
        answer = await inspected.pages.post("requests/1/replay", data=form)
        assert answer.status_code == 409
        assert said in answer.text
        assert f'value="{form["target"]}"' in answer.text
    assert (await inspected.pages.post("requests/9/replay")).status_code == 404
    assert (await inspected.pages.post("requests/1/replay", content=b"x" * (3 << 20))).status_code == 413


async def test_a_replay_to_a_service_that_is_down_says_so(roles: Roles) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await says(b"hello")(Talk(stream))

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await nursery.start(trio.serve_listeners, serve, listeners)
        async with open_inspected(roles, port) as inspected:
            assert (await inspected.client.get("/")).text == "hello"
            await inspected.wait_page("requests/1", "s2")
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                shown = await inspected.wait_page(await replayed(inspected, "requests/1/replay"), "s5")
                assert f"The service at http://127.0.0.1:{port} is unreachable" in shown
                assert "The agent has answered 502 by itself" in shown
                (entry,) = har.check(json.loads(await inspected.get("requests/2/har")))
                assert "is unreachable" in entry["comment"]


async def test_a_browser_that_leaves_in_the_middle_of_a_replay_changes_nothing(inspected: Inspected) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inspected.client.get, "/waits")
        await inspected.wait_page("requests/1", "under way")
        browser = await inspected.roles.dial(inspected.port)
        await browser.say(
            f"POST /{TOKEN}/requests/1/replay HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()
        )
        await inspected.wait_page("requests/2", "under way")
        await browser.reset()
        inspected.app.state.go_on.set()
    assert "at last" in await inspected.wait_page("requests/2", "s2")


async def test_replays_are_bounded(inspected: Inspected) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inspected.client.get, "/waits")
        await inspected.wait_page("requests/1", "under way")
        for _ in range(8):
            await replayed(inspected, "requests/1/replay")
        refused = await inspected.pages.post("requests/1/replay")
        assert (refused.status_code, "8 replays are under way" in refused.text) == (409, True)
        inspected.app.state.go_on.set()
    await inspected.wait_page("requests/9", "s2")
    await replayed(inspected, "requests/1/replay")


# WebSockets ---------------------------------------------------------------------------------------------------


async def test_messages_of_a_websocket_are_shown_while_it_lasts(inspected: Inspected) -> None:
    url = f"ws://127.0.0.1:{inspected.node.proxy}/talk"
    async with trio_websocket.open_websocket_url(url, extra_headers=[(b"x-piko-endpoint", b"shop")]) as websocket:
        for text in ("hello", "token=canary"):
            await websocket.send_message(text)
            await websocket.get_message()
            await websocket.get_message()
        shown = await inspected.wait_page("requests/1", "TOKEN=")
        assert "HELLO" in shown
        assert "canary" not in shown
        assert "client → service · text · 5 B" in shown
        assert "68 65 6c 6c 6f" in shown
        assert (await inspected.pages.post("requests/1/replay")).status_code == 409
    closed = await inspected.wait_page("requests/1", r"close · 2 B")
    assert "1000" in closed
    (entry,) = har.check(json.loads(await inspected.get("requests/1/har")))
    assert [message["data"] for message in entry["_webSocketMessages"]][:2] == ["hello", "HELLO"]


# Live ---------------------------------------------------------------------------------------------------------


async def test_what_comes_is_told_at_once_and_the_stream_ends_by_itself(
    inspected: Inspected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "LIVE_SECONDS", 1.0)
    async with inspected.pages.stream("GET", "live", params={"status": "4xx"}) as live:
        assert live.headers["content-type"].startswith("text/event-stream")
        lines = live.aiter_lines()
        assert await anext(lines) == "retry: 100"
        for path in ("/status/200", "/status/404"):
            await inspected.client.get(path)
        told = [line async for line in lines]
    text = "\n".join(told)
    assert "/status/404" in text
    assert "/status/200" not in text
    version = re.findall(r"^id: (\d+)$", text, re.M)[-1]
    async with inspected.pages.stream("GET", "live", headers={"Last-Event-ID": version}) as live:
        assert "rows" not in "".join([line async for line in live.aiter_lines()])


async def test_a_browser_that_reads_nothing_and_one_that_floods_hold_nobody_up(inspected: Inspected) -> None:
    stalled = await inspected.roles.dial(inspected.port, buffer=2048)
    for path in ("live", "requests.har"):
        await stalled.say(f"GET /{TOKEN}/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    async with trio.open_nursery() as nursery:

        async def flood() -> None:
            while True:
                try:
                    await inspected.pages.get("")
                except httpx.TransportError:  # more connections than are served
                    await trio.sleep(0.01)

        for _ in range(10):
            nursery.start_soon(flood)
        for number in range(50):
            assert (await inspected.client.get(f"/{number}")).status_code == 200
        nursery.cancel_scope.cancel()


async def test_news_are_so_many_a_second_for_all_who_look_on(autojump_clock: MockClock) -> None:
    pace = app._Pace(app.NEWS_PER_SECOND)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(app.NEWS_PER_SECOND + 1):
            nursery.start_soon(pace.turn)
    assert trio.current_time() == pytest.approx(began + 1)


# Who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        (f"/{TOKEN}/", {}, 200),
        (f"/{TOKEN}", {}, 307),
        ("/", {}, 404),
        ("/wrong-token-of-the-inspector/", {}, 404),
        (f"/{TOKEN}x/", {}, 404),
        (f"//{TOKEN}/", {}, 404),
        (f"/{TOKEN}/", {"Host": "evil.test"}, 403),
        (f"/{TOKEN}/", {"Host": "localhost"}, 200),
        (f"/{TOKEN}/", {"Host": "[::1]:4040"}, 200),
        (f"/{TOKEN}/", {"Host": "192.0.2.1"}, 403),
        (f"/{TOKEN}/", {"Origin": "http://evil.test"}, 403),
        (f"/{TOKEN}/", {"Origin": "null"}, 403),
        (f"/{TOKEN}/nothing", {}, 404),
        (f"/{TOKEN}/../etc/passwd", {}, 404),
    ],
)
async def test_only_who_has_the_url_gets_in(
    inspected: Inspected, path: str, fields: dict[str, str], status: int
) -> None:
    talk = await inspected.roles.dial(inspected.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in ({"Host": "127.0.0.1"} | fields).items())
    answer = await talk.ask(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())
    assert answer.status == status, answer
    assert answer.values(b"access-control-allow-origin") == []
    assert answer.values(b"x-content-type-options") == [b"nosniff"]
    assert TOKEN.encode() not in answer.body or status in (200, 307, 404)
    if status == 200:
        assert answer.values(b"content-security-policy") == [POLICY.encode()]
    if path == "/":
        assert TOKEN.encode() not in answer.body


async def test_all_can_be_forgotten(inspected: Inspected) -> None:
    await inspected.client.get("/")
    await inspected.wait_page("requests/1", DONE)
    assert (await inspected.pages.post("clear")).status_code == 303
    assert "No request has come yet" in await inspected.get("")
    await inspected.get("requests/1", 404)
