"""Bytes that are no HTTP: copied both ways, carried in a WebSocket, and how the way for them is opened.

relay              two duplexes joined: each gets what the other receives
websocket_stream   a WebSocket used as a byte stream, between a TCP client and a node
opening            heads that open something: reading one, and asking a node for a WebSocket
"""
