"""What sessions ride on, from one end of ours to the other, through whatever is on the way.

carrier     the contract: an ordered two-way channel of bytes
websocket   a WebSocket: Piko's wire, and the best where it gets through
opening     how a way to a node is asked for
"""
