"""A carrier made of short requests: the client posts what it has to say, and asks for what the node has to say.

For networks that let nothing pass but whole HTTP messages of a known length. Two requests each way are under way at a
time, so that while one is answered the next is there already. How much goes into one is what has been put meanwhile, so
batches grow with the load. What the messages say is in wire.posts.

A request that fails is made again, on another connection: its offset or number says that it is the same. So this
carrier survives that connections are cut, and is lost only when nothing gets through for `RETRY_SECONDS`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final

import trio

from engine.carriers.call import Answered, Caller
from engine.carriers.carrier import Kind
from engine.carriers.inbox import Inbox
from engine.errors import HTTPError, RemoteProtocolError, Unreachable
from engine.loop.connection import Address
from engine.loop.duplex import MOST_READ, Bytes, Receiver
from engine.loop.memory import Account, Overdrawn
from engine.loop.reactor import current_reactor
from engine.wire import posts

PARALLEL: Final = 2  # requests under way, each way
FULL: Final = 2 * posts.MAX_UP  # queued: more than this, and sources are held back
LEAST_UP: Final = 4 * 1024
CALL_SECONDS: Final = 15.0  # for an answer that need not be waited for
RETRY_SECONDS: Final = 10.0  # of failures in a row, and the carrier is lost
RETRY_PAUSE_SECONDS: Final = 0.1
GONE_SECONDS: Final = posts.HOLD_SECONDS + 10.0  # without a request, and the client has gone
MAX_ANSWERS: Final = 4  # that may have to be given again
TOO_LARGE: Final = 413
FAREWELL_SECONDS: Final = 1.0


class _Outbox:
    """What was put, until it is cut into batches."""

    def __init__(self, account: Account) -> None:
        self.size = 0
        self.offset = 0  # of the first byte that is here
        self._parts: deque[Bytes] = deque()
        self._account = account

    def put(self, parts: tuple[Bytes, ...]) -> bool:
        """Queue copies of `parts`; False if that is more than may be held."""
        added = 0
        for part in parts:
            self._parts.append(bytes(part))
            added += len(part)
        self.size += added
        return self._account.charge(added)

    def cut(self, most: int) -> tuple[int, bytes]:
        """Take the first bytes, at most so many, and the offset of the first. They stay charged until `sent`."""
        parts, left = [], most
        while self._parts and left:
            part = self._parts.popleft()
            if len(part) > left:
                self._parts.appendleft(memoryview(part)[left:])
                part = part[:left]
            parts.append(part)
            left -= len(part)
        data, offset = b"".join(parts), self.offset
        self.offset += len(data)
        self.size -= len(data)
        return offset, data


class _Polled:
    """What both ends of such a carrier have in common."""

    idle = False
    kind = Kind.POLL

    def __init__(self, peer: Address) -> None:
        self.peer = peer
        self.farewell = ""
        self.deadline = math.inf
        self._reactor = reactor = current_reactor()
        self.account = Account(reactor.memory, self)
        self._inbox = Inbox(self.account, self._failed)
        self._outbox = _Outbox(self.account)
        self._unsent = 0  # bytes that were put and are not known to have arrived
        self._open = True
        self._over = trio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.peer[0]} {'open' if self._open else 'closed'}>"

    @property
    def alive(self) -> bool:
        return self._open

    @property
    def receiver(self) -> Receiver:
        return self._inbox.receiver

    @receiver.setter
    def receiver(self, receiver: Receiver) -> None:
        self._inbox.receiver = receiver

    @property
    def backlog(self) -> int:
        return self._unsent

    @property
    def full(self) -> bool:
        return self._unsent > FULL

    @property
    def room(self) -> int:
        return MOST_READ

    def put(self, *parts: Bytes) -> bool:
        if not self._open:
            return True
        self._unsent += sum(map(len, parts))
        if not self._outbox.put(parts):
            self._failed(Overdrawn(f"{self.account.used} bytes are held for it"))
            return True
        self._has_more()
        return self._unsent <= FULL

    def _has_more(self) -> None:
        """There is something to be sent."""
        raise NotImplementedError

    def _arrived(self, size: int) -> None:
        """So many bytes of what was put have arrived at the other end."""
        before, self._unsent = self._unsent, self._unsent - size
        self.account.release(size)
        if before > FULL >= self._unsent:
            receiver = self.receiver
            self._reactor.call("drained", self, receiver.drained)

    def read_at_most(self, size: int) -> None:
        """Batches do that."""

    def pause(self) -> None:
        self._inbox.pause()

    def resume(self) -> None:
        self._inbox.resume()

    def end(self) -> None:
        """It has no half-close."""
        self.close()

    def close(self) -> None:
        self.bid_farewell(1000, "")

    def bid_farewell(self, code: int, reason: str) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        self._leave()

    def fail(self, error: Exception) -> None:
        self._failed(error)

    def _failed(self, error: Exception) -> None:
        """It does not carry any more: told in a turn of its own, because it may be found out inside a call."""
        receiver = self.receiver
        if self._open:
            self._leave()
            self._reactor.call("lost", receiver, receiver.lost, error)

    def _heard_end(self, farewell: str) -> None:
        receiver = self.receiver
        if self._open:
            self.farewell = farewell
            self._leave()
            self._reactor.call("ended", receiver, receiver.ended)

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._inbox.close()
            self.account.end()
            self._reactor.unclock(self)
            self._over.set()
            self._reactor.hand_over()

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self._leave()
        receiver.break_off(error)

    def overdrawn(self) -> None:
        self._failed(Overdrawn("what was put was kept for longest"))

    def expired(self) -> None:
        """Nothing is waited for."""


class PollCarrier(_Polled):
    """The client's end. `id` was opened by the first call; `caller` makes another way to make calls."""

    def __init__(self, id: bytes, caller: Callable[[], Caller], first: Caller) -> None:
        super().__init__(first.peer)
        self._id = id
        self._callers = [first, *(caller() for _ in range(2 * PARALLEL - 1))]
        self._more = trio.Event()
        self._most = posts.MAX_UP
        self._hold_seconds = posts.HOLD_SECONDS
        self._next = 0  # number of the next `down`
        self._outstanding: set[int] = set()
        self._parting: bytes | None = None

    def _has_more(self) -> None:
        self._more.set()
        self._reactor.hand_over()

    def bid_farewell(self, code: int, reason: str) -> None:
        if self._open:
            self._parting = posts.encode_close(self._id, code, reason)
            self._leave()

    async def run(self) -> None:
        """See Carrier."""
        try:
            async with trio.open_nursery() as nursery:
                for index, caller in enumerate(self._callers):
                    nursery.start_soon(self._speak if index % 2 else self._listen, caller)
                await self._over.wait()
                nursery.cancel_scope.cancel()
            if self._parting is not None:
                with trio.move_on_after(FAREWELL_SECONDS):
                    await self._part(self._parting)
        finally:
            self._failed(ConnectionAbortedError("stopped"))
            for caller in self._callers:
                caller.close()

    async def _part(self, parting: bytes) -> None:
        """Say what is left to say, and good-bye."""
        try:
            while self._outbox.size:
                offset, data = self._outbox.cut(self._most)
                await self._callers[0].call(posts.encode_up(self._id, offset), data, seconds=FAREWELL_SECONDS)
            await self._callers[0].call(parting, seconds=FAREWELL_SECONDS)
        except (OSError, RemoteProtocolError, Unreachable, trio.TooSlowError, Answered):
            pass  # the node notices by itself

    async def _speak(self, caller: Caller) -> None:
        """Post what is put, batch after batch."""
        while True:
            while not self._outbox.size:
                self._more = trio.Event() if self._more.is_set() else self._more
                await self._more.wait()
            offset, data = self._outbox.cut(self._most)
            if not await self._post(caller, offset, data):
                return

    async def _post(self, caller: Caller, offset: int, data: bytes) -> bool:
        """Post one batch, in smaller ones if it is too large for somebody on the way; False if it does not arrive."""
        if len(data) > self._most:
            half = len(data) // 2
            return await self._post(caller, offset, data[:half]) and await self._post(
                caller, offset + half, data[half:]
            )
        try:
            answer = await self._call(caller, lambda: posts.encode_up(self._id, offset), data, CALL_SECONDS)
        except Answered as answered:
            if answered.status != TOO_LARGE or len(data) <= LEAST_UP:
                self._failed(answered.as_error())
                return False
            self._most = max(len(data) // 2, LEAST_UP)
            return await self._post(caller, offset, data)
        if answer is None:
            return False
        self._arrived(len(data))
        return True

    async def _listen(self, caller: Caller) -> None:
        """Ask for what the node has to say, again and again."""
        while True:
            number = self._next
            self._next += 1
            self._outstanding.add(number)

            def message(number: int = number) -> bytes:
                return posts.encode_down(self._id, number, min(self._outstanding), self._hold_seconds)

            try:
                answer = await self._call(caller, message, b"", self._hold_seconds + CALL_SECONDS)
            except Answered as answered:
                self._failed(answered.as_error())
                return
            if answer is None or not self._take(answer):
                return
            self._outstanding.discard(number)
            await self._inbox.wait_taken()  # back-pressure

    def _take(self, answer: bytes) -> bool:
        """The answer to a `down`; False if it was the last."""
        try:
            end = posts.line_end(answer)
            said = posts.parse_answer(answer[: max(end, 0)])
            if isinstance(said, posts.Data):
                if not self._inbox.receive(said.offset, answer[end:]):
                    raise RemoteProtocolError("an answer that is too far ahead")
                return self._open
        except RemoteProtocolError as error:
            self._failed(error)
            return False
        if said is None:
            self._failed(ConnectionResetError("the node does not know this carrier any more"))
        else:
            self._heard_end(said.farewell)
        return False

    async def _call(self, caller: Caller, message: Callable[[], bytes], data: bytes, seconds: float) -> bytes | None:
        """Make a request until it is answered; None if that takes too long. Raises Answered for a refusal."""
        since = math.inf
        while True:
            began = trio.current_time()
            try:
                return await caller.call(message(), data, seconds=seconds)
            except (OSError, RemoteProtocolError, Unreachable, trio.TooSlowError) as error:
                words = str(error) or f"no answer within {seconds:g} s"
                failure: Exception = error if isinstance(error, OSError) else ConnectionResetError(words)
            except Answered as answered:
                if not answered.retryable:
                    raise
                failure = answered.as_error()
            now = trio.current_time()
            lasted = now - began
            if seconds > CALL_SECONDS and lasted > 1:  # it was cut while it waited: wait for less
                self._hold_seconds = max(1, min(self._hold_seconds, int(lasted * 0.75)))
                since = math.inf
            since = min(since, now)
            if now - since > RETRY_SECONDS:
                self._failed(failure)
                return None
            if now > since:
                await trio.sleep(RETRY_PAUSE_SECONDS)


class PollEnd(_Polled):
    """The node's end: `up` and `down` are called for each request, and `down` is answered when there is something."""

    def __init__(self, peer: Address) -> None:
        super().__init__(peer)
        self._answers: dict[int, tuple[bytes, int]] = {}  # given, and perhaps to be given again; bytes of the session
        self._waiting: dict[int, tuple[float, Callable[[bytes], None]]] = {}  # until when, and whom to answer
        self._flushing = False
        self._end = b""  # our good-bye
        self.heard_at = self._reactor.now
        self._clock()

    async def run(self) -> None:
        """See Carrier. Its requests are served by the tasks of their connections."""
        try:
            await self._over.wait()
        finally:
            self._failed(ConnectionAbortedError("stopped"))

    def _has_more(self) -> None:
        if not self._flushing and self._waiting:
            self._flushing = True
            self._reactor.flush_soon(self)

    def flush(self) -> None:
        """This turn is over: answer with what it has put."""
        self._flushing = False
        while self._waiting and (self._outbox.size or self._end):
            self._answer(min(self._waiting))

    def _answer(self, number: int) -> None:
        _, reply = self._waiting.pop(number)
        if self._end and not self._outbox.size:
            reply(self._end)
            return
        offset, data = self._outbox.cut(posts.MAX_DOWN)
        answer = b"data %d\n%b" % (offset, data)
        self._answers[number] = answer, len(data)
        reply(answer)

    def up(self, offset: int, data: bytes) -> int:
        """Bytes of the client's; how many have come by now. Raises HTTPError."""
        self.heard_at = self._reactor.now
        if not self._inbox.receive(offset, data):
            raise HTTPError(409, "that is too far ahead")
        return self._inbox.end

    def down(self, down: posts.Down, reply: Callable[[bytes], None]) -> None:
        """Answer by `reply`: now, when there is something, or when its time is over. Raises HTTPError."""
        self.heard_at = self._reactor.now
        for number in [number for number in self._answers if number < down.oldest]:
            _, size = self._answers.pop(number)
            self._arrived(size)
        if down.number in self._answers:
            reply(self._answers[down.number][0])
            return
        if down.number < down.oldest or down.number >= down.oldest + MAX_ANSWERS:
            raise HTTPError(409, "that is no number of a request that is due")
        if len(self._waiting) >= MAX_ANSWERS and down.number not in self._waiting:
            raise HTTPError(429, "too many requests wait already")
        hold_seconds = max(1, min(down.hold_seconds, posts.HOLD_SECONDS))
        self._waiting[down.number] = self._reactor.now + hold_seconds, reply
        if self._outbox.size or self._end:
            self.flush()
        else:
            self._clock()

    def forget(self, reply: Callable[[bytes], None]) -> None:
        """Whoever was to be answered by `reply` is gone."""
        for number, (_, waiting) in self._waiting.items():
            if waiting == reply:
                del self._waiting[number]
                return

    def closed(self, code: int, reason: str) -> None:
        """The client has said good-bye."""
        self._heard_end(f"{code} {reason}".rstrip())

    def bid_farewell(self, code: int, reason: str) -> None:
        if self._open:
            self._end = posts.encode_end(code, reason)
            self.flush()
            self._leave()

    def _leave(self) -> None:
        super()._leave()
        if not self._end:
            self._end = posts.GONE + b"\n"
        for number in list(self._waiting):
            self._waiting.pop(number)[1](self._end)

    def _clock(self) -> None:
        self.deadline = min([self.heard_at + GONE_SECONDS, *(until for until, _ in self._waiting.values())])
        self._reactor.clock(self)

    def expired(self) -> None:
        now = self._reactor.now
        for number in [number for number, (until, _) in self._waiting.items() if until <= now]:
            self._answer(number)
        if not self._waiting and now - self.heard_at >= GONE_SECONDS:
            self._failed(TimeoutError(f"the client has asked for nothing for {GONE_SECONDS:g} s"))
        elif self._open:
            self._clock()
