"""Attacks on a running node, each over a real socket, and what is right to answer: the table of docs/security.md."""
