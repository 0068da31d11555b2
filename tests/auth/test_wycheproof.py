"""Wycheproof's vectors for JSON Web Signatures and key sets: see wycheproof/README.md.

What they sign is no JWT (`foo`, `Test`), so the signatures are looked at by themselves, and then whole tokens.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from engine.auth.keys import keys_of_set
from engine.auth.token import Invalid
from engine.auth.verifier import Verifier
from engine.errors import Unauthorized

VECTORS: Final = json.loads(lzma.decompress((Path(__file__).parent / "wycheproof" / "vectors.json.xz").read_bytes()))

# Of the tokens that are named bad: the file means to pad these, but they are, byte for byte, one good token.
NOT_BAD: Final = {367, 370}
# Of those that are named good, and are refused here, the reasons.
REFUSED: Final = {
    **dict.fromkeys((259, 264, 268, 272, 320, 325), "an empty payload, which is no JWT (RFC 7519, 7.2)"),
    **dict.fromkeys((346, 350), "PS384 with a key whose alg is PS256 (RFC 7517, 4.4)"),
    **dict.fromkeys((347, 351), "a key whose alg, ES521, is none"),
    **dict.fromkeys((372, 373), "a question mark in base64url (RFC 7515, 2)"),
}


class Vector(NamedTuple):
    number: int
    good: bool
    keys: bytes
    token: bytes

    def is_taken(self) -> bool:
        """Is the signature good?"""
        verifier = Verifier()
        try:
            keys_of_set(self.keys)
            verifier.replace_keys(self.keys)
            verifier.check_signature(self.token)
        except (Invalid, Unauthorized, ValueError):
            return False
        return True


def vectors(name: str) -> Iterator[Vector]:
    for group in VECTORS[name]:
        key = group["key"]
        keys = json.dumps(key if "keys" in key else {"keys": [key]}).encode()
        for test in group["tests"]:
            token = test["jws"] if isinstance(test["jws"], str) else json.dumps(test["jws"])
            yield Vector(test["tcId"], test["result"] == "valid", keys, token.encode())


def test_the_vectors_are_all_there() -> None:
    counts = {name: [one.good for one in vectors(name)] for name in ("signature", "key")}
    assert {name: (good.count(False), good.count(True)) for name, good in counts.items()} == {
        "signature": (355, 46),
        "key": (21, 5),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_signature_is_taken_if_it_is_good() -> None:
    taken = {one.number for one in vectors("signature") if one.is_taken()}
    assert taken == {one.number for one in vectors("signature") if one.good} - set(REFUSED) | NOT_BAD


def test_what_is_named_bad_and_is_taken_is_named_good_elsewhere() -> None:
    (twice,) = {one.token for one in vectors("signature") if one.number in NOT_BAD}
    assert twice in {one.token for one in vectors("signature") if one.good}


def test_no_bad_token_is_let_in() -> None:
    for one in (*vectors("signature"), *vectors("key")):
        if one.good:
            continue
        verifier = Verifier()
        try:
            verifier.replace_keys(one.keys)
        except ValueError:
            continue
        with pytest.raises(Unauthorized):
            verifier.verify([], [b"Bearer " + one.token])


def test_a_bad_key_or_set_takes_no_token_and_a_good_one_does() -> None:
    assert {one.number: one.is_taken() for one in vectors("key")} == {one.number: one.good for one in vectors("key")}
