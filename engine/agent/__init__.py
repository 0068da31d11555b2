"""The role beside a service: registers it with a node, and hands what comes to it.

agent       the listeners put together, and the order in which they start and stop
uplink      one endpoint's way to its node, dialled again after every loss
rhythm      how soon it pings
service     where the service is, and how to connect to it
http        streams of requests, to a pool of connections
application an ASGI application as the service, in a process of its own
hosted      that process
tcp         a connection for each stream
"""
