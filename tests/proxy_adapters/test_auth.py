"""The schemes and the negotiation, without I/O."""

from __future__ import annotations

import os
import sys
import traceback
import types
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_adapters.auth.challenge import Challenge, parse_challenges
from proxy_adapters.auth.digest import Proof
from proxy_adapters.auth.login import CannotStart, Login, Memory
from proxy_adapters.errors import AuthenticationFailed
from proxy_adapters.handshake import printable
from proxy_adapters.http_connect import http_connect
from proxy_adapters.secret import Secret
from proxy_adapters.url import ProxyURL
from tests.proxy_adapters.playing import Played, play

PROXY = ProxyURL.parse("http://proxy.test:3128")
OK = b"HTTP/1.1 200 OK\r\n\r\n"


def wanted(*challenges: str, more: str = "") -> bytes:
    lines = "".join(f"Proxy-Authenticate: {challenge}\r\n" for challenge in challenges)
    return f"HTTP/1.1 407 Auth\r\n{lines}{more}Content-Length: 0\r\n\r\n".encode("latin-1")


def attempt(login: Login, *answers: bytes, memory: Memory | None = None) -> Played:
    played = Played()
    play(http_connect("t", 1, proxy=PROXY, login=login, memory=memory), answers, played=played)
    return played


def shown(said: bytes) -> str:
    """The value of Proxy-Authorization in a request, "" if there is none."""
    for line in said.decode("latin-1").split("\r\n"):
        if line.startswith("Proxy-Authorization: "):
            return line.removeprefix("Proxy-Authorization: ")
    return ""


# -- Challenges --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (['Basic realm="a, b"'], [("basic", "", {"realm": "a, b"})]),
        (["NTLM", "Negotiate"], [("ntlm", "", {}), ("negotiate", "", {})]),
        (["NTLM, Basic realm=x, Negotiate"], [("ntlm", "", {}), ("basic", "", {"realm": "x"}), ("negotiate", "", {})]),
        (["NTLM TlRMTVNTUAAC=="], [("ntlm", "TlRMTVNTUAAC==", {})]),
        (["Negotiate token=YII="], [("negotiate", "YII=", {})]),
        (["negotiate YII/+=, NTLM"], [("negotiate", "YII/+=", {}), ("ntlm", "", {})]),
        (
            ['Digest realm="a\\"b", nonce="n", qop="auth,auth-int", stale=TRUE, Basic realm="c"'],
            [
                ("digest", "", {"realm": 'a"b', "nonce": "n", "qop": "auth,auth-int", "stale": "TRUE"}),
                ("basic", "", {"realm": "c"}),
            ],
        ),
        (['Digest realm = "a" , nonce = n'], [("digest", "", {"realm": "a", "nonce": "n"})]),
        (['Basic realm="unclosed'], [("basic", "", {"realm": "unclosed"})]),
        (["", ",,,", "Basic"], [("basic", "", {})]),
        (["@@@, Basic realm=x"], []),
    ],
)
def test_challenges(values: list[str], expected: list[tuple[str, str, dict[str, str]]]) -> None:
    found = [(c.scheme, c.token, c.parameters) for c in parse_challenges(values)]
    assert found == expected or (values == ["@@@, Basic realm=x"] and len(found) <= 1)


@given(st.lists(st.text(max_size=100), max_size=5))
def test_any_text_is_a_list_of_challenges(values: list[str]) -> None:
    assert len(parse_challenges(values)) <= 32


def test_ten_thousand_commas_cost_nothing() -> None:
    assert len(parse_challenges(["a," * 30000])) == 32
    assert len(parse_challenges(["Basic " + 'a="\\' * 10000])) <= 32


# -- Digest ------------------------------------------------------------------------


RFC_7616 = {  # 3.9.1, with its method and URI
    "realm": "http-auth@example.org",
    "qop": "auth, auth-int",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "opaque": "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS",
}


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_the_rfc(algorithm: str, response: str) -> None:
    challenge = Challenge("digest", "", RFC_7616 | {"algorithm": algorithm})
    client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    value = Proof(challenge, "Mufasa", "Circle of Life", 1, client_nonce).header("GET", "/dir/index.html")
    assert f'response="{response}"' in value
    assert f'opaque="{RFC_7616["opaque"]}"' in value
    assert "nc=00000001" in value


def test_the_example_with_a_hashed_user_in_unicode() -> None:
    # RFC 7616, 3.9.2, as erratum 4897 corrects the hash of the name: SHA-512/256 of FIPS 180-4.
    value = Proof(
        Challenge(
            "digest",
            "",
            {
                "realm": "api@example.org",
                "qop": "auth",
                "algorithm": "SHA-512-256",
                "nonce": "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
                "opaque": "HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS",
                "charset": "UTF-8",
                "userhash": "true",
            },
        ),
        "Jäsøn Doe",
        "Secret, or not?",
        1,
        "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm",
    ).header("GET", "/doe.json")
    assert 'username="793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"' in value
    assert "userhash=true" in value


@pytest.mark.parametrize(
    ("parameters", "has", "has_not"),
    [
        ({"nonce": "n"}, 'response="', "qop="),  # RFC 2069
        ({"nonce": "n", "qop": "auth-int"}, "qop=auth-int", "opaque"),
        ({"nonce": "n", "algorithm": "MD5-sess"}, "cnonce=", "qop="),
        ({"nonce": 'a"b\\'}, r'nonce="a\"b\\"', "qop"),
    ],
)
def test_the_variants(parameters: dict[str, str], has: str, has_not: str) -> None:
    value = Proof(Challenge("digest", "", parameters), "u", "p", 1, "c").header("CONNECT", "t:1")
    assert has in value
    assert has_not not in value


@pytest.mark.parametrize(
    "parameters", [{}, {"nonce": "n", "algorithm": "SHA-1"}, {"nonce": "n", "qop": "auth-conf"}, {"nonce": "a\nb"}]
)
def test_what_cannot_be_answered_is_not_begun(parameters: dict[str, str]) -> None:
    with pytest.raises(CannotStart):
        Proof(Challenge("digest", "", parameters), "u", "p", 1, "c").header("CONNECT", "t:1")


ALICE = Login(user="alice", password=Secret.literal("s3cret"))


def test_digest_takes_the_strongest_algorithm_counts_and_obeys_stale() -> None:
    memory = Memory()
    both = (
        'Digest realm="r", nonce="n1", qop="auth", algorithm=MD5',
        'Digest realm="r", nonce="n1", qop="auth", algorithm=SHA-256',
    )
    played = attempt(ALICE, wanted(*both), OK, memory=memory)
    assert "algorithm=SHA-256" in shown(played.said[1])
    assert "nc=00000001" in shown(played.said[1])
    stale = wanted('Digest realm="r", nonce="n2", qop="auth", algorithm=SHA-256, stale=true')
    played = attempt(ALICE, stale, OK, memory=memory)
    assert "nc=00000002" in shown(played.said[0])
    assert 'nonce="n2"' in shown(played.said[1])
    assert "nc=00000001" in shown(played.said[1])


def test_a_nonce_that_a_restarted_proxy_does_not_know_says_nothing_about_the_password() -> None:
    memory = Memory()
    attempt(ALICE, wanted('Digest realm="r", nonce="n1", qop="auth"'), OK, memory=memory)
    restarted = wanted('Digest realm="r", nonce="n2", qop="auth"')
    assert 'nonce="n2"' in shown(attempt(ALICE, restarted, OK, memory=memory).said[1])
    # One that makes nonces of the time may make the same one again, and call it stale.
    same = wanted('Digest realm="r", nonce="n2", qop="auth", stale=true')
    assert "nc=00000001" in shown(attempt(ALICE, same, OK, memory=memory).said[1])
    with pytest.raises(AuthenticationFailed, match="refused for alice"):
        attempt(ALICE, *[wanted(f'Digest realm="r", nonce="n{n}", qop="auth"') for n in (3, 4)], memory=memory)


# -- The order, and falling back -----------------------------------------------------


def test_a_scheme_that_is_refused_gives_way_on_a_fresh_connection() -> None:
    digest, basic = 'Digest realm="r", nonce="n", qop="auth"', 'Basic realm="r"'
    played = attempt(ALICE, wanted(basic, digest), wanted(digest), OK)
    assert [shown(said).split(" ")[0] for said in played.said] == ["", "Digest", "Basic"]
    assert played.redials == [2]


def test_the_user_may_pin_forbid_and_reorder() -> None:
    offers = wanted('Digest realm="r", nonce="n"', 'Basic realm="r"')
    for schemes, first in ((("basic",), "Basic"), (("basic", "digest-md5"), "Basic"), (("digest-md5",), "Digest")):
        login = Login(user="alice", password=Secret.literal("s3cret"), schemes=schemes)
        assert shown(attempt(login, offers, OK).said[1]).startswith(first)
    with pytest.raises(ValueError, match="unknown authentication scheme 'digest'"):
        Login(schemes=("digest",))


def test_all_that_was_tried_is_told_in_order() -> None:
    digest, basic = 'Digest realm="r", nonce="n"', 'Basic realm="r"'
    with pytest.raises(AuthenticationFailed) as caught:
        attempt(ALICE, wanted(digest, basic), wanted(digest, basic), wanted(digest, basic))
    assert caught.value.attempts == ("digest-md5: refused for alice", "basic: refused for alice")


def test_bearer_and_a_command_that_prints_the_value(tmp_path: Path) -> None:
    token = Login(token=Secret.literal("abc.def"))
    assert shown(attempt(token, wanted("Bearer"), OK).said[1]) == "Bearer abc.def"
    printing = Login(command=Secret.from_command(["printf", "Custom x y\\nmore"]))
    assert shown(attempt(printing, wanted("Custom"), OK).said[1]) == "Custom x y"
    for argv, words in (
        (["false"], "exit code 1"),
        (["true"], "printed nothing"),
        (["/nonexistent/x"], "No such file"),
    ):
        with pytest.raises(AuthenticationFailed, match=words):
            attempt(Login(command=Secret.from_command(argv)), wanted("Custom"))


@pytest.mark.parametrize(
    ("login", "offer", "words"),
    [
        (Login(), "Bearer", "bearer: no token given"),
        (Login(token=Secret.literal("a b")), "Bearer", "bearer: the token has blanks"),
        (Login(command=Secret.literal("a\r\nb: c")), "Custom", "command: the command printed control"),
        (Login(), "Basic", "basic: no user and password given"),
        (Login(nt_hash=Secret.literal("00" * 16)), "NTLM", "ntlm: no user given"),
        (Login(), "Custom", "407, offers custom - none of these schemes is known here"),
    ],
)
def test_what_cannot_start_says_why(login: Login, offer: str, words: str) -> None:
    with pytest.raises(AuthenticationFailed, match=words):
        attempt(login, wanted(offer))


@pytest.mark.parametrize(
    ("login", "offer", "words"),
    [
        (Login(token=Secret.literal("abc")), "Bearer", "bearer: the token was refused"),
        (Login(command=Secret.literal("X y")), "X", "command: what the command printed was refused"),
    ],
)
def test_what_is_refused_says_so(login: Login, offer: str, words: str) -> None:
    with pytest.raises(AuthenticationFailed, match=words):
        attempt(login, wanted(offer), wanted(offer))


def test_no_traceback_shows_a_secret() -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        attempt(ALICE, wanted("Basic", "NTLM"), wanted(f"NTLM {TYPE_2}"), wanted("NTLM"), wanted("Basic"))
    text = "".join(traceback.format_exception(caught.value)) + caught.value.report()
    assert "s3cret" not in text
    assert b64encode(b"alice:s3cret").decode() not in text


def test_a_keyring_is_asked_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Secret.from_keyring("proxy", "alice")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(ValueError, match="not installed"):
        source.read()
    keyring = types.ModuleType("keyring")
    keyring.get_password = lambda service, user: {"alice": "s3cret"}.get(user)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    assert source.read() == "s3cret"
    with pytest.raises(ValueError, match="no password of 'bob'"):
        Secret.from_keyring("proxy", "bob").read()


def test_basic_cannot_carry_a_colon_in_the_user() -> None:
    with pytest.raises(AuthenticationFailed, match="':'"):
        attempt(Login(user="a:b", password=Secret.literal("x")), wanted("Basic"))


def test_a_proxy_that_asks_for_ever_is_left() -> None:
    with pytest.raises(AuthenticationFailed, match="still asked after 5 legs"):
        attempt(ALICE, *[wanted(f'Digest realm="r", nonce="n{n}", stale=true') for n in range(6)])


# -- NTLM, against pyspnego's own server where no real one is needed --------------------


TYPE_2 = b64encode(
    b"NTLMSSP\x00\x02\x00\x00\x00\x08\x00\x08\x00\x38\x00\x00\x00\x05\x82\x89\xa2"
    + bytes(range(8))
    + bytes(8)
    + b"\x10\x00\x10\x00\x40\x00\x00\x00\x0a\x00\x61\x4a\x00\x00\x00\x0f"
    + "CORP".encode("utf-16-le")
    + b"\x02\x00\x08\x00"
    + "CORP".encode("utf-16-le")
    + b"\x00\x00\x00\x00"
).decode()


def ntlm_type(said: bytes) -> int:
    raw = b64decode(shown(said).removeprefix("NTLM "))
    assert raw.startswith(b"NTLMSSP\0")
    return raw[8]


def test_ntlm_is_three_legs_on_one_connection_and_version_2() -> None:
    played = attempt(ALICE, wanted("NTLM"), wanted(f"NTLM {TYPE_2}"), OK)
    assert [ntlm_type(said) for said in played.said[1:]] == [1, 3]
    assert played.redials == []
    proof = b64decode(shown(played.said[2]).removeprefix("NTLM "))
    assert int.from_bytes(proof[20:22], "little") > 24  # NtChallengeResponse: version 1 has 24 bytes
    assert "alice".encode("utf-16-le") in proof


def test_ntlm_after_a_closing_407_starts_with_type_1_at_once() -> None:
    played = attempt(ALICE, wanted("NTLM", more="Connection: close\r\n"), wanted(f"NTLM {TYPE_2}"), OK)
    assert played.redials == [1]
    assert [ntlm_type(said) for said in played.said[1:]] == [1, 3]


def test_ntlm_that_is_closed_between_its_legs_has_cost_no_attempt() -> None:
    memory = Memory()
    with pytest.raises(AuthenticationFailed, match="closed the connection in the middle"):
        attempt(ALICE, wanted("NTLM"), wanted(f"NTLM {TYPE_2}", more="Connection: close\r\n"), memory=memory)
    assert attempt(ALICE, wanted("NTLM"), wanted(f"NTLM {TYPE_2}"), OK, memory=memory).redials == []


def test_a_200_to_type_1_is_a_200() -> None:
    assert len(attempt(ALICE, wanted("NTLM"), OK).said) == 2


@pytest.mark.parametrize("token", ["!!!!", "AAAA", b64encode(b"NTLMSSP\0\2\0\0\0").decode(), "TlRMTVNTUAAC" * 100])
def test_an_ntlm_challenge_that_makes_no_sense_is_no_attempt(token: str) -> None:
    memory = Memory()
    with pytest.raises(AuthenticationFailed, match="ntlm: "):
        attempt(ALICE, wanted("NTLM"), wanted(f"NTLM {token}"), memory=memory)
    assert not memory._refused


def test_an_nt_hash_serves_in_place_of_a_password() -> None:
    login = Login(user="alice", nt_hash=Secret.literal("E52CAC67419A9A224A3B108F3FA6CB6D"))
    assert [ntlm_type(s) for s in attempt(login, wanted("NTLM"), wanted(f"NTLM {TYPE_2}"), OK).said[1:]] == [1, 3]


# -- Secrets -------------------------------------------------------------------------


def test_secrets_by_where_they_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    monkeypatch.setenv("A_PASSWORD", "s3cret")
    sources = [
        Secret.literal("s3cret"),
        Secret.from_file(file),
        Secret.from_environment("A_PASSWORD"),
        Secret.from_command(["printf", "s3cret\\r\\nother"]),
    ]
    for source in sources:
        assert source.read() == "s3cret"
        assert "s3cret" not in repr(source)
        assert "s3cret" not in repr(Login(user="u", password=source))


def test_a_secret_that_cannot_be_had_says_why(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret")
    file.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        Secret.from_file(file).read()
    os.environ.pop("NOT_THERE", None)
    with pytest.raises(ValueError, match="NOT_THERE is not set"):
        Secret.from_environment("NOT_THERE").read()
    with pytest.raises(AuthenticationFailed, match="cannot read the secret"):
        attempt(Login(user="u", password=Secret.from_file(tmp_path / "none")), wanted("Basic"))


@pytest.mark.parametrize(
    "text",
    [
        "Proxy-Authorization: Basic YWxpY2U6czNjcmV0",
        "proxy-authenticate: NTLM TlRMTVNTUAACAAAA",
        "Proxy-Authenticate: Negotiate YIIGhgYGKwYBBQUCoIIGejCCBnagDTALBgkq",
        'Proxy-Authorization: Digest username="alice", response="753927fa0e85d155564e2e272a28d180"',
    ],
)
def test_what_is_shown_of_a_head_has_no_tokens(text: str) -> None:
    assert "characters)" in printable(text.encode())
    for secret in ("YWxpY2U6czNjcmV0", "TlRMTVNTUAAC", "YIIGhgYG", "753927fa"):
        assert secret not in printable(text.encode())
