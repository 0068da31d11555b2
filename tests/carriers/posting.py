"""Carriers of plain HTTP requests, by hand: each request is what a test writes."""

from __future__ import annotations

import json

from engine.wire import posts
from engine.wire.posts import Hello
from tests.roles import Answer, Roles, RunningNode, Talk

ID = b"0123456789abcdef0123456789abcdef"
PATH = b"/trioduct/v1/upstream/"
HEAD = b"POST %b%b/%x HTTP/1.1\r\nHost: node.test\r\n%b"


class Poster:
    """Posts to a node for `endpoint`, each request to a path of its own; `fields` go with each."""

    def __init__(self, talk: Talk, endpoint: bytes = b"web", fields: bytes = b"") -> None:
        self.talk = talk
        self.endpoint = endpoint
        self.fields = fields
        self._count = 0

    def head(self, fields: bytes) -> bytes:
        self._count += 1
        return HEAD % (PATH, self.endpoint, self._count, self.fields + fields + b"\r\n")

    async def say(self, body: bytes) -> None:
        await self.talk.say(self.head(b"Content-Length: %d\r\n" % len(body)) + body)

    async def post(self, body: bytes) -> Answer:
        await self.say(body)
        return await self.talk.answer()

    async def open(self, id: bytes = ID, session: str = "") -> Answer:
        return await self.post(posts.encode_open("poll", id, Hello(session)))


async def poster(roles: Roles, node: RunningNode, endpoint: bytes = b"web", fields: bytes = b"") -> Poster:
    return Poster(await roles.dial(node.upstream), endpoint, fields)


def error(answer: Answer) -> str:
    """What a refusal says."""
    said = json.loads(answer.body)
    assert list(said) == ["error"]
    text: str = said["error"]
    return text
