"""The only place that knows epoll and Trio's loop: who is ready, whose turn it is, and what happens when one raises.

    reactor      ready sockets, turns and their budgets, the end of a turn, deadlines, and the guard
    duplex       the contract of everything that carries bytes, and of whoever receives them
    memory       accounts: what is held in memory on behalf of whom, each with a limit
    connection   a socket as a duplex, with layers of TLS on it
    reading      a task that reads a connection by itself; TLS handshakes
    listen       listening sockets, and a task for each connection that they bring
    certificates what somebody needs to speak TLS, made anew when its files change
    dial         connections outwards: TCP, proxies, TLS
    udp          UDP sockets in the reactor
    backlog      datagrams that wait, of which the oldest are dropped
    backoff, leaving

Nothing here decides what bytes mean or who may do what. It waits, and gives everybody a turn.
"""
