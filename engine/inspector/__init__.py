"""What passes an agent, for a person to look at: the latest requests, their answers, and how long each leg took.

    kept        the first bytes of a body
    messages    what is said on a WebSocket, followed from its bytes
    tap         a duplex that shows what passes it
    record      one exchange (see gateway.exchange.Watch)
    recorder    the latest records, within a number and a size
    show        bodies and heads as text, secrets masked
    search      which records somebody wants to see
    export      a record as a curl command, and as an entry of a HAR file
    replay      a request sent to the service again
    edit        a request as a form, and a form as a request
    view        a record as the pages show it
    app         the pages: Starlette and Jinja2; what is live comes by server-sent events

Up to `search` nothing here waits. What passes is never changed, never held back, and never ended by it.
"""
