"""Trioduct's engine: a reverse tunnel in three roles.

A *node* is public. *Agents* beside services behind NAT or a firewall dial out to it and keep a *session* open: yamux
on a *carrier*, which is a WebSocket where one gets through. When a *client* asks the node for an *endpoint*, the node
opens a *stream* in a session of an agent that offers it, and the agent joins the stream to its service. A *forward*
does the client's part for TCP and UDP: it listens locally and carries connections and datagrams to an endpoint.

The way of the data. Bytes go down by calls, what became of them comes back as what the calls return:

    client's socket -> loop.connection -> gateway.inbound -> node.client (which endpoint? routing, auth)
        -> gateway.outbound -> session.stream -> session.session (wire.mux) -> carriers.websocket
        -> loop.connection
    ~~ somebody's proxy ~~
    loop.connection -> carriers.websocket -> session.session -> session.stream -> gateway.inbound -> agent.http
        -> gateway.outbound -> loop.connection -> the service's socket

Where another node (or another worker of this one) has the session, the stream is one of a cluster.link, and the other
node joins it to its agent's with a tunnel.relay.

For TCP a tunnel.relay stands where the gateway stands, and towards the client a carriers.websocket, or its
socket itself on a public TCP port.

Datagrams of UDP are frames on such a way, which the node takes for TCP: forward and agent have a tunnel.datagrams each,
between the stream and the sockets of loop.udp.

Who calls whom. `loop.reactor` calls connection code in one place for each kind of event: a socket is ready, a turn goes
on, a turn of the loop is over, a deadline has passed. What raises there ends that connection, is counted, and the role
goes on. Turns are bounded by time, what waits is bounded by accounts (`loop.memory`), and states are enums with
tables: `loop.connection.NEXT`, `wire.mux.State`, `gateway.states`, `carriers.websocket.State`.

Which nursery owns what:

    role (run_node, run_agent, run_forward)
        loop.run            the reactor's task and its clock; they end with the role
        a node's            one task for each connection that its ports accept: its handshake, then
                            `Connection.run`, which ends when the socket is closed; the admin port; key sets;
                            certificates
        an agent's          one uplink for each endpoint, with a nursery for its sessions (the old one goes on while the
                            new one is made); one task for each connection to the service
        a forward's         one task for each local connection, with a nursery for it and its way to the node; one
                            for each UDP port, and one for the way of its flows

A node of several workers is several processes: a supervisor (run_supervisor) with one task for each of them, and a
node in each (run_worker), which is told by a channel what run_node finds for itself.

The reactor runs connection code on behalf of these tasks. When one of them is cancelled, its connection is lost to
whoever receives from it, and the socket is closed before the task is gone.

Strata, each importing only what stands below it (the contracts are in pyproject.toml):

    cli                    argv, file and environment become a configuration and start one role
    demo_cluster, demo     every role at once, on this machine, to be looked at
    bench                  an agent that a node is measured with
    supervisor             starts a node's workers, if there are several, and answers for all of them
    node, agent, forward   compose, order, and turn errors into answers; hold no protocol rule
    doctor                 walks an agent's way to a node, and says what is in it
    config                 the knobs: defaults, validation, help, from one declaration
    inspector              what passes an agent, for a person to look at
    tracing                spans of what passes, for a collector
    admin, cluster         what looks at a node; what nodes share
    gateway                one HTTP hop: requests, answers, and what follows what
    http2                  a connection of HTTP/2 as many duplexes of HTTP/1.1
    tunnel                 bytes that are no HTTP: two duplexes joined; datagrams in frames
    session                yamux on a carrier: streams, windows, whether the other end lives
    carriers               what a session rides on: an ordered channel of bytes to the other end
    loop                   who is ready, whose turn it is, what is held for whom; sockets, TLS, listening, dialling
    routing, auth          decide, and never wait: who serves this, and who may (one driver in auth fetches keys)
    access_log             one line per request
    wire                   what do these bytes mean? No socket, no clock
    errors, log            the few exceptions that somebody catches; one line per event
    secret                 what may be written for people to read, and what is masked
"""

__version__ = "0.1.0"
