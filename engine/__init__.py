"""Trioduct's engine: a reverse tunnel in three roles.

A *node* is public. *Agents* beside services that nobody can reach dial out to it and keep a *session* open: a
WebSocket that carries yamux. When a *client* asks the node for an *endpoint*, the node opens a *stream* in
a session of an agent that offers it, and the agent joins the stream to its service. A *forward* does the
client's part for TCP: it listens locally and carries each connection to an endpoint.

The way of the data, each module visited once:

    client -> node.client_port (head, endpoint) -> routing.registry -> transport.link (wire.mux, .websocket)
           ~~ somebody's proxy ~~ agent.uplink -> agent.upstream (transport.dial) -> transport.relay
           -> service

Strata, each importing only what stands below it:

    cli                    argv, file and environment become a configuration and start one role
    demo                   every role at once, on this machine, to be looked at
    node, agent, forward   compose, order, and turn errors into answers; hold no protocol rule
    doctor                 walks an agent's way to a node, and says what is in it
    config                 the knobs: defaults, validation, help, from one declaration
    admin, cluster         what looks at a node; what nodes share
    transport              waits, and decides nothing
    routing, auth          decide, and never wait: who serves this, and who may (auth has a driver that fetches keys)
    wire                   decides, and never waits: what do these bytes mean
    access_log             one line per request
    errors, log            the few exceptions that somebody catches; one line per event
"""

__version__ = "0.1.0"
