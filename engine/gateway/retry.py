"""Which request may be sent a second time: one whose way was lost before its answer had begun, whose method may be
repeated (RFC 9110, 9.2.2), and whose whole body is still held; once.
"""

from __future__ import annotations

from typing import Final

from engine.gateway.exchange import Exchange
from engine.gateway.states import Answer
from engine.loop.duplex import Bytes
from engine.loop.memory import Account

RESEND_BYTES: Final = 64 * 1024
REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


def begin(exchange: Exchange) -> None:
    """From now on keep the body of a request that may be repeated."""
    request = exchange.request
    if request is not None and request.method in REPEATABLE:
        exchange.kept = []


def keep(exchange: Exchange, parts: list[Bytes], account: Account) -> None:
    """`parts` are the next of the body; what is kept of it is charged to `account`."""
    if exchange.kept is None:
        return
    if exchange.bytes_in > RESEND_BYTES:
        forget(exchange, account)
    else:
        exchange.kept.extend(bytes(part) for part in parts)
        account.charge(sum(map(len, parts)))


def forget(exchange: Exchange, account: Account) -> None:
    """The body will not be wanted again."""
    account.release(sum(map(len, exchange.kept or ())))
    exchange.kept = None


def may_repeat(exchange: Exchange, *, whole: bool) -> bool:
    """`whole`: the request has come to its last byte."""
    request = exchange.request
    if request is None or request.method not in REPEATABLE or (request.body and exchange.kept is None):
        return False
    return whole and exchange.attempts == 1 and exchange.answer is Answer.AWAITED
