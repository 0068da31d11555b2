"""A carrier made of short requests: the client posts what it has to say, and asks for what the node has to say.

For networks that let nothing pass but whole HTTP messages of a known length. Two requests each way are under way at a
time, so that while one is answered the next is there already. How much goes into one is what has been put meanwhile, so
batches grow with the load. What the messages say is in wire.posts.

A request that fails is made again, on another connection: its offset or number says that it is the same. So this
carrier survives that connections are cut, as long as others can be made at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

import trio

from engine.carriers.call import Answered, Caller
from engine.carriers.carrier import Kind
from engine.carriers.inbox import AHEAD_BYTES, Inbox
from engine.errors import HTTPError, RemoteProtocolError, Unreachable
from engine.loop.connection import Address
from engine.loop.duplex import MOST_READ, Bytes, Receiver
from engine.loop.memory import Account, Overdrawn
from engine.loop.reactor import current_reactor
from engine.wire import posts
from engine.wire.websocket import GOING_AWAY, INTERNAL_ERROR, NORMAL

PARALLEL: Final = 2  # requests under way, each way
FULL: Final = 2 * posts.MAX_UP  # queued: more than this, and sources are held back
LEAST_UP: Final = 4 * 1024
CALL_SECONDS: Final = 15.0  # for an answer that need not be waited for
RETRY_SECONDS: Final = 0.15  # of failures in a row, and the carrier is lost: what resumes the session does more then
RETRY_PAUSE_SECONDS: Final = 0.05
GONE_SECONDS: Final = posts.HOLD_SECONDS + 10.0  # without a request, and the client has gone
MAX_ANSWERS: Final = 4  # that may have to be given again
MAX_REPEATS: Final = 4  # of one request that wait for the same answer
MAX_BATCHES: Final = 16  # posted behind one that has not arrived
TOO_LARGE: Final = 413
LAST_SECONDS: Final = 5.0  # for what was put before the good-bye to arrive
FAREWELL_SECONDS: Final = 1.0

T = TypeVar("T")


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

    def clear(self) -> None:
        """It is not wanted any more."""
        self._parts.clear()
        self.size = 0


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
        self._inbox = Inbox(self.account, self._failed, self.break_off)
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
        if before > FULL >= self._unsent or (size and not self._outbox.size and self._unsent <= FULL):
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
        self.bid_farewell(NORMAL, "")

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
            self._reactor.unclock(self)
            self._over.set()
            self._reactor.hand_over()

    def free(self) -> None:
        """Nothing that was put is wanted any more."""
        self._outbox.clear()
        self.account.end()

    def break_off(self, error: Exception) -> None:
        receiver = self.receiver
        self.abort()
        receiver.break_off(error)

    def overdrawn(self) -> None:
        self._failed(Overdrawn("what was put was kept for longest"))
        self.free()

    def expired(self) -> None:
        """Nothing is waited for."""


class PollCarrier(_Polled):
    """The client's end. `id` was opened by the first call; `caller` makes another way to make calls."""

    def __init__(self, id: bytes, caller: Callable[[], Caller], first: Caller) -> None:
        super().__init__(first.peer)
        self._id = id
        self._callers = [first, *(caller() for _ in range(2 * PARALLEL - 1))]
        self._more = trio.Event()
        self._most = self._largest = posts.MAX_UP  # bytes of a batch, now and ever
        self._batches = 0
        self._under_way: dict[int, int] = {}  # batches that have not arrived: number and offset, in order
        self._said = trio.Event()  # all that was put has arrived, or will not
        self._hold_seconds = posts.HOLD_SECONDS
        self._next = 0  # number of the next `down`
        self._outstanding: set[int] = set()
        self._parting: bytes | None = None
        self._runs = False

    def _has_more(self) -> None:
        self._more.set()
        self._reactor.hand_over()

    def bid_farewell(self, code: int, reason: str) -> None:
        if self._open:
            self._parting = posts.encode_close(self._id, code, reason)
            self._leave()

    def abort(self) -> None:
        if self._open:
            self.bid_farewell(INTERNAL_ERROR, "reset")
            self._said.set()  # nothing of it is waited for
            self.free()
        if not self._runs:  # and nobody will say it
            for caller in self._callers:
                caller.close()

    def _leave(self) -> None:
        super()._leave()
        if self._parting is None:
            self.free()

    async def run(self) -> None:
        """See Carrier."""
        self._runs = True
        try:
            async with trio.open_nursery() as nursery:
                for index, caller in enumerate(self._callers):
                    nursery.start_soon(self._speak if index % 2 else self._listen, caller)
                await self._over.wait()
                if self._parting is not None and self._unsent:
                    with trio.move_on_after(LAST_SECONDS):
                        await self._said.wait()
                nursery.cancel_scope.cancel()
            if self._parting is not None:
                with trio.move_on_after(FAREWELL_SECONDS):
                    await self._part(self._parting)
        finally:
            self._failed(ConnectionAbortedError("stopped"))
            self.free()
            for caller in self._callers:
                caller.close()

    async def _part(self, parting: bytes) -> None:
        """Say good-bye."""
        try:
            await self._callers[0].call(parting, seconds=FAREWELL_SECONDS)
        except (OSError, RemoteProtocolError, Unreachable, trio.TooSlowError, Answered):
            pass  # the node notices by itself

    async def _speak(self, caller: Caller) -> None:
        """Post what is put, batch after batch."""
        while True:
            while not self._outbox.size or self._is_far_ahead():
                self._more = trio.Event() if self._more.is_set() else self._more
                await self._more.wait()
            number, self._batches = self._batches, self._batches + 1
            offset, data = self._outbox.cut(self._most)
            self._under_way[number] = offset
            arrived = await self._post(caller, offset, data)
            del self._under_way[number]
            self._more.set()
            if not (arrived and self._unsent):
                self._said.set()
            if not arrived:
                return

    def _is_far_ahead(self) -> bool:
        """The next batch would be further ahead of one that does not arrive than the node keeps it."""
        if not self._under_way:
            return False
        number, offset = next(iter(self._under_way.items()))
        return self._batches - number >= MAX_BATCHES or self._outbox.offset + posts.MAX_UP - offset > AHEAD_BYTES

    async def _post(self, caller: Caller, offset: int, data: bytes) -> bool:
        """Post one batch, in smaller ones if it is too large for somebody on the way; False if it does not arrive."""
        if len(data) > self._most:
            half = len(data) // 2
            return await self._post(caller, offset, data[:half]) and await self._post(
                caller, offset + half, data[half:]
            )
        message = posts.encode_up(self._id, offset)
        try:
            taken = await self._call(caller, lambda: message, data, CALL_SECONDS, posts.parse_taken)
        except Answered as answered:
            if answered.status != TOO_LARGE or len(data) <= LEAST_UP:
                self._failed(answered.as_error())
                return False
            self._most = self._largest = max(len(data) // 2, LEAST_UP)
            return await self._post(caller, offset, data)
        except trio.TooSlowError:
            self._most = max(len(data) // 2, LEAST_UP)
            return await self._post(caller, offset, data)
        if taken is _NOTHING:
            return False
        if taken is None:
            self._failed(ConnectionResetError(FORGOTTEN))
            return False
        self._most = min(self._most + LEAST_UP, self._largest)
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
                answer = await self._call(caller, message, b"", self._hold_seconds + CALL_SECONDS, _parse_answer)
            except Answered as answered:
                self._failed(answered.as_error())
                return
            if isinstance(answer, _Nothing) or not self._take(*answer):
                return
            self._outstanding.discard(number)
            await self._inbox.wait_taken()  # back-pressure

    def _take(self, said: posts.Data | posts.End | None, data: bytes) -> bool:
        """The answer to a `down`; False if it was the last."""
        if isinstance(said, posts.Data):
            if not self._inbox.receive(said.offset, data):
                self._failed(RemoteProtocolError("an answer that is too far ahead"))
            return self._open
        if said is None:
            self._failed(ConnectionResetError(FORGOTTEN))
        else:
            self._inbox.finish(said.offset, partial(self._heard_end, said.farewell))
        return False

    async def _call(
        self,
        caller: Caller,
        message: Callable[[], bytes],
        data: bytes,
        seconds: float,
        parse: Callable[[bytes], T],
    ) -> T | _Nothing:
        """Make a request until it is answered by what `parse` can read; nothing if that takes too long.

        Raises Answered for a refusal, and TooSlowError for what may arrive if there is less of it.
        """
        since = math.inf
        while True:
            began = trio.current_time()
            try:
                return parse(await caller.call(message(), data, seconds=seconds))
            except trio.TooSlowError:
                if len(data) > LEAST_UP:
                    raise
                failure: Exception = ConnectionResetError(f"no answer within {seconds:g} s")
            except (OSError, RemoteProtocolError, Unreachable) as error:
                failure = error if isinstance(error, OSError) else ConnectionResetError(str(error))
            except Answered as answered:
                if not answered.retryable:
                    raise
                failure = answered.as_error()
            now = trio.current_time()
            lasted = now - began
            if seconds > CALL_SECONDS and lasted > 1:  # it was cut while it waited: wait for less
                self._hold_seconds = max(1, min(self._hold_seconds, int(lasted * 0.75)))
                since = math.inf
            if since == math.inf:
                since = now  # a connection was cut, and another may not be
            elif now - since > RETRY_SECONDS:
                self._failed(failure)
                return _NOTHING
            else:
                await trio.sleep(RETRY_PAUSE_SECONDS)


class _Nothing:
    """No answer has come."""


_NOTHING: Final = _Nothing()
FORGOTTEN: Final = "the node does not know this carrier any more"


def _parse_answer(answer: bytes) -> tuple[posts.Data | posts.End | None, bytes]:
    """The answer to `down`, and the bytes behind its line. Raises RemoteProtocolError."""
    end = max(posts.line_end(answer), 0)
    return posts.parse_answer(answer[:end]), answer[end:]


Reply = Callable[[bytes], None]


class PollEnd(_Polled):
    """The node's end: `up` and `down` are called for each request, and `down` is answered when there is something.

    `on_over` is called when it has nothing to say to its client any more but that it is gone.
    """

    def __init__(self, peer: Address) -> None:
        super().__init__(peer)
        self.heard_at = self._reactor.now  # its client, or its own good-bye was said
        self.on_over: Callable[[], None] = _nothing
        self._answers: dict[int, tuple[bytes, int]] = {}  # given, and perhaps to be given again; bytes of the session
        self._waiting: dict[int, tuple[float, list[Reply]]] = {}  # until when, and whom to answer
        self._oldest = 0  # number that is not known to have been answered
        self._flushing = False
        self._end = b""  # our good-bye
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
        _, replies = self._waiting.pop(number)
        if self._end and not self._outbox.size:
            answer = self._end
        else:
            offset, data = self._outbox.cut(posts.MAX_DOWN)
            answer = posts.encode_data(offset, data)
            self._answers[number] = answer, len(data)
        for reply in replies:
            reply(answer)

    def up(self, offset: int, data: bytes) -> bytes:
        """Bytes of the client's; the answer. Raises HTTPError."""
        if not self._open:
            return posts.GONE + b"\n"
        self.heard_at = self._reactor.now
        if not self._inbox.receive(offset, data):
            raise HTTPError(409, "that is too far ahead")
        return posts.encode_taken(self._inbox.end)

    def down(self, down: posts.Down, reply: Reply) -> None:
        """Answer by `reply`: now, when there is something, or when its time is over. Raises HTTPError."""
        if self._open:
            self.heard_at = self._reactor.now
        self._answered(down.oldest)
        if down.number in self._answers:
            reply(self._answers[down.number][0])
            return
        if not self._oldest <= down.number < self._oldest + MAX_ANSWERS:
            raise HTTPError(409, "that is no number of a request that is due")
        hold_seconds = max(1, min(down.hold_seconds, posts.HOLD_SECONDS))
        _, replies = self._waiting.setdefault(down.number, (self._reactor.now + hold_seconds, []))
        if len(replies) >= MAX_REPEATS:
            raise HTTPError(429, "the same request waits several times already")
        replies.append(reply)
        if self._outbox.size or self._end:
            self.flush()
        else:
            self._clock()

    def _answered(self, oldest: int) -> None:
        """The client has the answers to all numbers before this one."""
        if oldest <= self._oldest:
            return
        self._oldest = oldest
        for number in [number for number in self._answers if number < oldest]:
            _, size = self._answers.pop(number)
            self._arrived(size)
        for number in [number for number in self._waiting if number < oldest]:
            for reply in self._waiting.pop(number)[1]:  # somebody has repeated it, and gets nothing of the session
                reply(posts.encode_data(self._outbox.offset, b""))

    def forget(self, reply: Reply) -> None:
        """Whoever was to be answered by `reply` is gone."""
        for number, (_, replies) in self._waiting.items():
            if reply in replies:
                replies.remove(reply)
                if not replies:
                    del self._waiting[number]
                return

    def closed(self, code: int, reason: str) -> None:
        """The client has said good-bye, behind all that it has posted, or that it has aborted."""
        if code not in (NORMAL, GOING_AWAY):
            self._failed(ConnectionResetError(f"closed by the other end: {code} {reason}".rstrip()))
            return
        self._inbox.finish(self._inbox.end, partial(self._heard_end, f"{code} {reason}".rstrip()))

    def bid_farewell(self, code: int, reason: str) -> None:
        if self._open:
            self._end = posts.encode_end(self._outbox.offset + self._outbox.size, code, reason)
            self.heard_at = self._reactor.now
            self.flush()
            self._leave()

    def _leave(self) -> None:
        if not self._open:
            return
        super()._leave()
        if not self._end:
            self._end = posts.GONE + b"\n"
            self.free()
        for number in list(self._waiting):
            for reply in self._waiting.pop(number)[1]:
                reply(self._end)

    def free(self) -> None:
        super().free()
        self._answers.clear()
        self.on_over()

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


def _nothing() -> None: ...
