"""Bytes that are no HTTP: `relay` joins two duplexes, so that each gets what the other receives; `datagrams` carries
many flows of UDP on one.
"""
