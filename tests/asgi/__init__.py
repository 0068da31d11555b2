"""ASGI applications of four frameworks, served by `trioduct agent http --asgi`. All have the same routes:

/json?name=       {"name": …}
/form             POST, a form with a file `file`: {"name": …, "size": …}
/both             POST, the body in capitals, part by part as it comes (Starlette, Quart)
/endless          an answer without an end; prints "left" when the client has gone
/later            prints "later" behind the answer (not Django)
/echo             a WebSocket, each text twice (not Django)

With a lifespan they print "up" and "down" (not Django).
"""
