"""The public role: takes clients on one port and agents on another, and joins them.

node           the ports put together, and the order in which they start and stop
client_port    the proxy port: a task for each client
tcp_port       public TCP ports: a relay for each client
client         what the node decides about one client's requests
asked          what a request's head asks for, and how it goes on
aborts         clients that ask and do not wait for the answer, again and again
trust          whose word counts for who a client is: proxies in front
agent_port     the upstream port: registrations, and the sessions that they become
registration   a session that serves an endpoint, with its idle streams
"""
