"""What a request and its answer can be. Each side writes its own state; `NEXT_*` say what may follow what.

the request, as its inbound sees it                  its answer, as its exchange has it
FRESH      nothing has come on this connection       ROUTING   the role looks for a way
IDLE       between two requests                      AWAITED   the request is on its way
HEAD       a head has begun                          BEGUN     the answer's head was passed on
EXPECTING  its body is held back until 100 Continue  DONE      passed on to its last byte, or given up
BODY       its body is coming
WHOLE      it has come to its last byte
OVER       no more requests are read here
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Request(IntEnum):
    """Of the request that an inbound reads. Up to HEAD there is no exchange."""

    FRESH = 0
    IDLE = 1
    HEAD = 2
    EXPECTING = 3
    BODY = 4
    WHOLE = 5
    OVER = 6


class Answer(IntEnum):
    """Of an exchange."""

    ROUTING = 0
    AWAITED = 1
    BEGUN = 2
    DONE = 3


NEXT_REQUEST: Final = {
    Request.FRESH: {Request.HEAD, Request.EXPECTING, Request.BODY, Request.WHOLE, Request.OVER},
    Request.IDLE: {Request.HEAD, Request.EXPECTING, Request.BODY, Request.WHOLE, Request.OVER},
    Request.HEAD: {Request.EXPECTING, Request.BODY, Request.WHOLE, Request.OVER},
    Request.EXPECTING: {Request.BODY, Request.WHOLE, Request.IDLE, Request.OVER},
    Request.BODY: {Request.WHOLE, Request.IDLE, Request.OVER},
    Request.WHOLE: {Request.IDLE, Request.OVER},
    Request.OVER: set(),
}

NEXT_ANSWER: Final = {
    Answer.ROUTING: {Answer.AWAITED, Answer.BEGUN, Answer.DONE},  # BEGUN: taken over by another protocol
    Answer.AWAITED: {Answer.ROUTING, Answer.BEGUN, Answer.DONE},  # ROUTING: once more, by another way
    Answer.BEGUN: {Answer.DONE},
    Answer.DONE: set(),
}
