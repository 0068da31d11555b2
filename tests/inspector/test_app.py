"""The pages over real sockets: an agent that is inspected, behind a real node."""

from __future__ import annotations

import trio

from tests.inspector.inspected import Inspected


async def test_a_request_is_listed_and_shown(inspected: Inspected) -> None:
    assert "No request has come yet" in await inspected.get("")
    answer = await inspected.client.post("/buy?item=4", json={"count": 2}, headers={"X-Seen": "yes"})
    assert answer.json()["body"] == '{"count":2}'
    listed = await inspected.wait_page("", r'class="status s2"')
    assert "/buy?item=4" in listed
    assert "1 requests in" in listed
    shown = await inspected.get("requests/1")
    for text in ("POST", "/buy?item=4", "x-seen", "yes", "&#34;count&#34;: 2", "node → agent", "agent → service"):
        assert text.lower() in shown.lower(), text
    await inspected.get("requests/2", 404)
