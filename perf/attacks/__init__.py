"""How attackers affect a victim: what one connection can do to the others (`trioduct-perf attack`).

weapons   what an attacker does: plain programs with sockets, each in a process of its own
sink      the service that stands behind the attacked endpoint
rows      a victim's latency without and with an attack, the node's memory, and whether it lives
"""
