"""Who is this, and what may he do: tokens, the keys that verify them, and the sets that keys come in.

`verifier`, `by_tenant`, `token` and `keys` decide, and do not wait; `signing` makes the tokens that they take.
`key_set` is the driver beside them: it fetches, with Trio.
"""
