"""A client of HTTP/2 that says exactly what a test writes: `h2` for what is as it should be, frames for what is not."""

from __future__ import annotations

from typing import Self

import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hyperframe.frame import Frame, GoAwayFrame

from tests.roles import Talk

Fields = list[tuple[bytes, bytes]]


class Answer:
    """What has come on a stream."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.interim: list[bytes] = []
        self.body = b""
        self.trailers: Fields = []
        self.ended = False
        self.reset: int | None = None

    @property
    def status(self) -> int:
        return int(self.fields.get(b":status", b"0"))

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class Client:
    """One connection. Windows are opened as data comes, unless `reads` is False."""

    def __init__(self, talk: Talk, *, reads: bool = True) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, validate_outbound_headers=False))
        self.answers: dict[int, Answer] = {}
        self.goaway: GoAwayFrame | None = None
        self.closed = False
        self.mute = False  # hears GOAWAY only, and says nothing by itself
        self._talk = talk
        self._reads = reads
        self._held = b""

    @classmethod
    async def begin(cls, talk: Talk, *, reads: bool = True) -> Self:
        client = cls(talk, reads=reads)
        client.h2.initiate_connection()
        await client.send()
        return client

    async def send(self) -> None:
        await self._talk.say(self.h2.data_to_send())

    async def say(self, *frames: Frame | bytes) -> None:
        """Frames as they are, whatever `h2` would say to them."""
        await self._talk.say(b"".join(one if isinstance(one, bytes) else one.serialize() for one in frames))

    async def ask(
        self,
        path: bytes = b"/",
        *,
        method: bytes = b"GET",
        host: bytes = b"web.test",
        fields: Fields | None = None,
        body: bytes | None = b"",
    ) -> int:
        """Send a request; its stream. `body` None: it follows."""
        stream = self.h2.get_next_available_stream_id()
        head = [(b":method", method), (b":scheme", b"http"), (b":authority", host), (b":path", path)]
        self.h2.send_headers(stream, head + (fields or []), end_stream=body == b"")
        self.answers[stream] = Answer()
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        await self.send()
        return stream

    async def answer(self, stream: int) -> Answer:
        """All of it, or its reset."""
        while not self.answers[stream].over:
            await self.hear()
        return self.answers[stream]

    async def until_closed(self) -> GoAwayFrame | None:
        while not self.closed:
            await self.hear()
        return self.goaway

    async def hear(self) -> list[Event]:
        """What has come."""
        try:
            data = await self._talk.hear()
        except trio.BrokenResourceError:
            data = b""
        if not data:
            self.closed = True
            for one in self.answers.values():
                one.reset = -1 if not one.ended and one.reset is None else one.reset
            return []
        self._held += data
        events: list[Event] = []
        while len(self._held) >= 9:  # GOAWAY would end `h2`
            size = 9 + int.from_bytes(self._held[:3], "big")
            if len(self._held) < size:
                break
            frame, self._held = self._held[:size], self._held[size:]
            if frame[3] == 7:
                goaway, _ = Frame.parse_frame_header(memoryview(frame[:9]))
                assert isinstance(goaway, GoAwayFrame)
                goaway.parse_body(memoryview(frame[9:]))
                self.goaway = goaway
            elif not self.mute:
                events += self.h2.receive_data(frame)
        for event in events:
            self._note(event)
        if not self.mute:
            await self.send()
        return events

    def _note(self, event: Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0)
        if answer is None:
            return
        if isinstance(event, ResponseReceived):
            answer.fields = dict(event.headers)
        elif isinstance(event, InformationalResponseReceived):
            answer.interim.append(dict(event.headers)[b":status"])
        elif isinstance(event, DataReceived):
            answer.body += event.data
            assert event.stream_id is not None
            if self._reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            answer.trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)
