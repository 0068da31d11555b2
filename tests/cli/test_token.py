"""`trioduct token`."""

from __future__ import annotations

import re
import time
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.auth.signing import SigningKey
from engine.auth.verifier import Verifier
from engine.cli import main
from engine.errors import Refused, Unauthorized
from tests.cli.command_line import Captured, complains
from tests.roles import GET, Roles, agent_config, server_config, tell_head

SECRET = "a secret of some forty characters, or more"


def key_file(text: str = f"{SECRET}\n", name: str = "tunnel.key", mode: int = 0o600) -> str:
    file = Path(name)
    file.write_text(text)
    file.chmod(mode)
    return name


def minted(capsys: Captured, *argv: str, says: str = "") -> str:
    """The token that is printed, and nothing beside it but what is said on stderr."""
    assert main(["token", *argv]) == 0, capsys.readouterr().err
    printed = capsys.readouterr()
    assert printed.err == (f"trioduct: this token {says}\n" if says else "")
    token, end = printed.out.split("\n")
    assert end == ""
    return token


LIMITED = ("--endpoints", "shop,web", "--expires", "30d")


def test_a_token_is_printed_and_nothing_else(capsys: Captured) -> None:
    before = time.time()
    token = minted(capsys, "--key-file", key_file(), *LIMITED, "--audience=agents", "--issuer", "me")
    said = jwt.decode(token, SECRET, ["HS256"], audience="agents", issuer="me")
    assert said.pop("exp") - before == pytest.approx(30 * 86400, abs=60)
    assert re.fullmatch("[0-9a-f]{16}", said.pop("jti"))
    assert said == {"piko": {"endpoints": ["shop", "web"]}, "aud": "agents", "iss": "me"}


def test_a_token_may_be_of_a_tenant(capsys: Captured) -> None:
    token = minted(capsys, "--key-file", key_file(), *LIMITED, "--tenant", "acme")
    assert jwt.decode(token, SECRET, ["HS256"])["piko"] == {"endpoints": ["shop", "web"], "tenant": "acme"}


def test_a_token_has_an_id_to_be_revoked_by_which_may_be_chosen(capsys: Captured) -> None:
    file = key_file()
    ids = [
        jwt.decode(minted(capsys, "--key-file", file, *LIMITED, *more), SECRET, ["HS256"])["jti"]
        for more in ((), (), ("--id", "agent-7"))
    ]
    assert len(set(ids)) == 3
    assert ids[2] == "agent-7"


def test_what_a_token_does_not_limit_is_said(capsys: Captured) -> None:
    key = key_file()
    every = "is good for every endpoint (--endpoints a,b: for these)"
    never = "never expires (--expires 30d: after 30 days)"
    said = jwt.decode(minted(capsys, "--key-file", key, says=f"{every} and {never}"), SECRET, ["HS256"])
    assert said.keys() == {"jti"}
    minted(capsys, "--key-file", key, "--expires=12h", says=every)
    minted(capsys, "--key-file", key, "--endpoints=a", says=never)


def test_the_key_may_come_from_the_environment_and_a_file_wins(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("TRIODUCT_TOKEN_KEY", SECRET)
    monkeypatch.setenv("OTHER", "another secret, which is as long as it has to be")
    verifier = Verifier(hmac_secret_key=SECRET)
    verifier.verify([], [b"Bearer " + minted(capsys, *LIMITED).encode()])
    other = minted(capsys, *LIMITED, "--key-env=OTHER")
    with pytest.raises(Unauthorized):
        verifier.verify([], [b"Bearer " + other.encode()])
    verifier.verify([], [b"Bearer " + minted(capsys, *LIMITED, "--key-env=OTHER", "--key-file", key_file()).encode()])


def test_the_algorithm_follows_from_the_key(capsys: Captured) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    file = key_file(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), "ec.pem")
    assert jwt.decode(minted(capsys, "--key-file", file, *LIMITED), key.public_key(), ["ES384"])["piko"]
    complains(
        f"token --key-file {file} --algorithm ES256",
        "--algorithm: 'ES256': is not possible with a key on secp384r1; expected ES384\n",
        capsys,
    )


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("", "no key to sign with; expected --key-file FILE, or the key in TRIODUCT_TOKEN_KEY\n"),
        ("--key-env NONE", "no key to sign with; expected --key-file FILE, or the key in NONE\n"),
        ("--key-file none", "--key-file: 'none': No such file or directory; expected a file with the secret\n"),
        ("--key-file open", "--key-file: 'open': open can be read by others than its owner: chmod 600 open\n"),
        ("--key-file empty", "--key-file: 'empty': is empty; expected a secret, or a private key in PEM\n"),
        ("--key-file short", "--key-file: 'short': a secret of 6 bytes; HS256 requires 32 or more (RFC 7518, 3.2)\n"),
        ("--key-file good --algorithm HS512", "--key-file: 'good': a secret of 42 bytes; HS512 requires 64 or more"),
        (
            "--key-file good --algorithm RS256",
            "--algorithm: 'RS256': is not possible with a secret; expected HS256 or HS384",
        ),
        ("--key-file good --algorithm none", "--algorithm: 'none': expected one of HS256, HS384, HS512, RS256"),
        ("--key-file good --expires 0", "--expires: '0': expected a duration above 0 such as 30d or 12h\n"),
        ("--key-file good --expires -1h", "--expires: '-1h': expected a duration above 0 such as 30d or 12h\n"),
        ("--key-file good --expires 30", "--expires: '30': expected a duration above 0 such as 30d or 12h\n"),
        ("--key-file good --endpoints a,,b", "--endpoints: '': expected a list of names without /\n"),
        ("--key-file good --endpoints a/b", "--endpoints: 'a/b': expected a list of names without /\n"),
        ("--key-file good --endpoints=", "--endpoints: empty; expected endpoints, or no such flag for all of them\n"),
        ("--key 5ecret", "No such option '--key'"),
        ("5ecret", "Got unexpected extra argument (5ecret)"),
    ],
)
def test_a_mistake_costs_one_line_and_exit_code_2(argv: str, line: str, capsys: Captured) -> None:
    key_file(name="open", mode=0o644)
    key_file("", "empty")
    key_file("5ecret", "short")
    key_file(name="good")
    complains(f"token {argv}".strip(), line, capsys)


def test_a_key_in_the_environment_that_is_none_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("TRIODUCT_TOKEN_KEY", "5ecret")
    assert main(["token"]) == 2
    problem = "a secret of 6 bytes; HS256 requires 32 or more (RFC 7518, 3.2)"
    assert capsys.readouterr().err == f"trioduct: TRIODUCT_TOKEN_KEY: {problem}\n"


async def test_a_node_with_that_key_takes_the_token_for_its_endpoints_and_until_it_expires(
    roles: Roles, capsys: Captured
) -> None:
    token = minted(capsys, "--key-file", key_file(), "--endpoints=web", "--expires=1h")
    config = server_config()
    config.upstream.auth.hmac_secret_key = config.proxy.auth.hmac_secret_key = SECRET
    node = await roles.node(config)
    agent = agent_config(node.upstream, await roles.service(tell_head), endpoint="web")
    agent.connect.token = token
    await roles.agent_with(agent)
    client = await roles.dial(node.proxy)
    assert (await client.ask(GET)).status == 401
    assert (await client.ask(GET[:-2] + f"Authorization: Bearer {token}\r\n\r\n".encode())).status == 200

    other = agent_config(node.upstream, 1, endpoint="other")
    other.connect.token = token
    error = await roles.failure_of_agent(other)
    assert isinstance(error, Refused)
    assert "endpoint not permitted" in str(error)

    agent.connect.token = SigningKey(SECRET).sign(endpoints=["web"], expires_at=int(time.time()) - 1)
    error = await roles.failure_of_agent(agent)
    assert isinstance(error, Refused)
    assert "expired token" in str(error)
    in_an_hour = Verifier(hmac_secret_key=SECRET, now=lambda: time.time() + 3602)
    with pytest.raises(Unauthorized, match="expired token"):
        in_an_hour.verify([], [b"Bearer " + token.encode()])
