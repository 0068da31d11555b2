"""The way out, measured against curl's: what a handshake with a proxy costs by each scheme, how fast bytes go through
squid, and what a second layer of TLS costs.

Every row has the same two sides, `ours` and `curl`, on the same bed: the same proxy, the same service, round by
round in turns. Ours is a Trio program with `proxy_adapters.open_tunnel`, in a process of its own; curl is the command,
timed by itself, its start not counted.
"""
