"""One agent-node connection: many streams on one WebSocket, their windows, and whether the other end still lives.

    session    the WebSocket and yamux on a connection: what arrives goes to the streams, what they put leaves together
    stream     one multiplexed byte stream, as a duplex
    window     how much a stream's other end may send before it is granted more, and when that grows
    liveness   pings, pongs owed, silence, and how many resets are too many

Automata over duplexes: they decide by their tables, and know no socket.
"""
