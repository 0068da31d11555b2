"""The third port of a node: health, readiness, status and metrics, as an ASGI application; and a dashboard.

    gate        who may ask
    metrics     what is counted
    merge       the metrics of several processes as one's
    reading     how a node is at one moment, as plain data
    live        readings, once a second, to whoever looks on
    tables      what people are shown of them
    pages       what all pages have in common
    dashboard   the page about the node
    app         all of it as an ASGI application
    ask         asking the admin port of another node
    serve       connections

It looks, and changes nothing: what it tells comes by callables that the roles put in.
"""
