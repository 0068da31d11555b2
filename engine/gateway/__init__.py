"""One HTTP hop (RFC 9110, 3.7): requests from one duplex, each answered by way of another. What node and agent both do.

    states      what a request and its answer can be, and what follows what
    exchange    one request and its answer: what is known of them, and what is reported when they are over
    inbound     the side requests come from
    outbound    the side they are sent to
    partial     a head that has not come whole
    body        what of the bytes belongs to a message's body, and how it goes on
    clocks      how long each state may last, and what happens then
    retry       which request is sent once more, and how many may be
    pages       what browsers are shown in place of errors
    role        what the node or the agent decides: a route, a refusal, to wait, or to go on with the connection itself
    record      an exchange as the access log is told of it

    inbound: receives a request's head and body   -> outbound.outlet.put
    outbound: receives the answer's head and body -> inbound.inlet.put

Requests on an inbound are served one after the other, so an inbound has at most one outbound at a time, and an
outbound one inbound; between requests an outbound waits in its owner's pool. Nothing here knows a socket: both sides
are duplexes.

**What must never happen**: an answer that looks whole and is not. So a length is counted to its last byte, a chunked
body's end is passed on only when it came, a body that ends with its connection is given chunks of our own (or, for
HTTP/1.0, a reset if the connection broke), and whatever goes wrong behind the first byte of an answer is an `abort`
of the inlet. Before the first byte it is an error in JSON.
"""
