"""What carries a session, and what a cut of its connection costs: each carrier beside WebSocket on the same way.

Every row has the same two sides, the carrier that it is about and `websocket`, both of one program: straight to the
node, behind nginx, and behind a relay that cuts every connection at once.
"""
