"""Fuzzing: whatever a stranger says to a parser is its result or one of its declared errors, and means one thing.

    python -m tests.fuzz                          all targets, for a minute together
    python -m tests.fuzz heads jwt --minutes 60   these two, for half an hour each
    python -m tests.fuzz heads --runs 5000000

Needs the extra `fuzz` (atheris, which drives libFuzzer by the coverage of our code). A target is a function of bytes;
what it raises is a defect. The bytes that raised it are kept in `found/TARGET/`, and replayed by the tests from then
on, as the seeds in `corpus/TARGET/` are.

    http       heads, bodies of chunks, summaries
    frames     WebSocket, yamux
    words      what our own ends say to each other: POST carriers, sessions, peers, clusters, workers
    tokens     JSON Web Tokens and key sets
    ways       proxies' replies, PAC files, NO_PROXY
    people     configuration files and other texts of people
    targets    all of them by name
    one        runs one of them
    __main__   the command
"""
