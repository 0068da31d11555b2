"""The beds. Each is started once, when the first test asks for it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from proxy_adapters import Route, Router, open_tunnel
from proxy_adapters.auth.login import Memory
from tests.conftest import Pki
from tests.proxy_adapters.beds.bed import Bed, bed, free_port, program, target

USER, PASSWORD = "alice", "s3cret:p@ss"
KERBEROS_PASSWORD = "krbpass"
REALM = "CORP.TEST"


@pytest.fixture(scope="session")
def web() -> Iterator[int]:
    with target() as port:
        yield port


@pytest.fixture
def get(web: int) -> Callable[..., object]:
    """Open a tunnel to the web server by `route` and fetch its page through it; returns the trail."""

    async def fetch(route: Route | Router | str, *, port: int = web, **options: object) -> list[str]:
        options.setdefault("memory", Memory())
        with trio.fail_after(30):
            tunnel = await open_tunnel("127.0.0.1", port, route=route, **options)  # type: ignore[arg-type]  # options are the test's
            async with tunnel:
                await tunnel.send_all(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while data := await tunnel.receive_some():
                    answer += data
            assert answer.endswith(b"\r\n\r\nhello "), answer
            return tunnel.trail

    return fetch


def curl(*arguments: str) -> int:
    """curl's exit code for the same errand; 56 means that the proxy's answer was no tunnel."""
    command = [program("curl"), "-sS", "-o", os.devnull, "--max-time", "20", "--proxytunnel", *arguments]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode


# -- squid ----------------------------------------------------------------------


@dataclass
class Squid:
    bed: Bed
    port: int
    access_log: Path
    config: Path
    path: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    async def logged(self, agent: str, count: int, *, having: str = "") -> list[str]:
        """`user status` of all requests by that user agent, when there are `count` of them that have a text.

        squid writes a tunnel's line when it ends, at its own leisure; hence the waiting, and the names.
        """
        with trio.fail_after(10):
            while True:
                lines = [line.rsplit(" ", 1) for line in self.access_log.read_text().splitlines()]
                mine = [line for line, name in lines if name == agent]
                if sum(having in line for line in mine) >= count:
                    return mine
                await trio.sleep(0.01)

    def start(self) -> None:
        process = self.bed.start(self.path, "-N", "-n", f"t{self.port}", "-f", self.config, port=self.port)
        self.processes.append(process)

    def stop(self) -> None:
        self.bed.stop(self.processes.pop())


def start_squid(
    where: Bed, lines: str, *, listen: str = "http_port 127.0.0.1:{port}", path: str | None = None
) -> Squid:
    port = free_port()
    log = where.log(f"access-{port}.log")
    hosts = where.file("hosts", "127.0.0.1 localhost target.test proxy.test\n")
    config = where.file(
        f"squid-{port}.conf",
        f"""
visible_hostname proxy.test
pid_filename none
cache_log {where.log(f"cache-{port}.log")}
coredump_dir {where.folder}
pinger_enable off
shutdown_lifetime 0 seconds
cache deny all
cache_mem 8 MB
memory_pools off
max_filedescriptors 2048
dns_nameservers 127.0.0.1
hosts_file {hosts}
logfile_rotate 0
netdb_filename none
buffered_logs off
logformat lab %un %Ss/%03>Hs %{{User-Agent}}>h
access_log stdio:{log} lab
{listen.format(port=port)}
{lines}
""",
    )
    squid = Squid(where, port, log, config, path or program("squid"))
    squid.start()
    return squid


AUTHENTICATED = "acl authed proxy_auth REQUIRED\nhttp_access allow authed\nhttp_access deny all\n"


def basic_lines(where: Bed) -> str:
    helper = Path(program("basic_ncsa_auth"))
    # htpasswd's {SHA} would need apache2-utils; crypt's $5$ comes with openssl everywhere.
    hashed = where.run("openssl", "passwd", "-5", PASSWORD).strip()
    file = where.file("htpasswd", f"{USER}:{hashed}\n")
    return f"auth_param basic program {helper} {file}\nauth_param basic children 2\nauth_param basic realm Lab Proxy\n"


def digest_lines(where: Bed) -> str:
    helper = Path(program("digest_file_auth"))
    hashed = hashlib.md5(f"{USER}:Lab Proxy:{PASSWORD}".encode()).hexdigest()
    file = where.file("htdigest", f"{USER}:Lab Proxy:{hashed}\n")
    return (
        f"auth_param digest program {helper} -c {file}\nauth_param digest children 2\n"
        "auth_param digest realm Lab Proxy\nauth_param digest nonce_max_count 3\n"
    )


def samba(where: Bed) -> Path:
    folder = where.folder / "samba"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    places = ("private dir", "state directory", "cache directory", "lock directory", "pid directory", "ncalrpc dir")
    return where.file(
        "smb.conf",
        "[global]\nworkgroup = CORP\nnetbios name = PROXY\nserver role = standalone\n"
        + "".join(f"{place} = {folder}\n" for place in places),
    )


def ntlm_lines(where: Bed, *, keep_alive: bool = True) -> str:
    return (
        f"auth_param ntlm program {program('ntlm_auth')} --helper-protocol=squid-2.5-ntlmssp --username={USER}"
        f" --domain=CORP --password={PASSWORD} --configfile={samba(where)}\n"
        f"auth_param ntlm children 4\nauth_param ntlm keep_alive {'on' if keep_alive else 'off'}\n"
    )


def spnego_ntlm_lines(where: Bed) -> str:
    return (
        f"auth_param negotiate program {program('ntlm_auth')} --helper-protocol=gss-spnego --username={USER}"
        f" --domain=CORP --password={PASSWORD} --configfile={samba(where)}\nauth_param negotiate children 2\n"
    )


@pytest.fixture(scope="session")
def squid_basic() -> Iterator[Squid]:
    with bed("squid-basic") as where:
        yield start_squid(where, basic_lines(where) + AUTHENTICATED)


@pytest.fixture(scope="session")
def squid_digest() -> Iterator[Squid]:
    with bed("squid-digest") as where:
        yield start_squid(where, digest_lines(where) + AUTHENTICATED)


@pytest.fixture(scope="session")
def squid_ntlm() -> Iterator[Squid]:
    with bed("squid-ntlm") as where:
        yield start_squid(where, ntlm_lines(where) + AUTHENTICATED)


@pytest.fixture(scope="session")
def squid_ntlm_closing() -> Iterator[Squid]:
    with bed("squid-ntlm-closing") as where:
        yield start_squid(where, ntlm_lines(where, keep_alive=False) + AUTHENTICATED)


@pytest.fixture(scope="session")
def squid_spnego_ntlm() -> Iterator[Squid]:
    with bed("squid-spnego-ntlm") as where:
        yield start_squid(where, spnego_ntlm_lines(where) + AUTHENTICATED)


@pytest.fixture(scope="session")
def squid_open(web: int) -> Iterator[Squid]:
    """No authentication: everything is allowed but port 9, and more than 3 connections at once."""
    with bed("squid-open") as where:
        yield start_squid(
            where,
            "acl forbidden port 9\nhttp_access deny forbidden\nacl many maxconn 3\nhttp_access deny many\n"
            "http_access allow all\n",
        )


@pytest.fixture(scope="session")
def squid_tls(pki: Pki) -> Iterator[Squid]:
    with bed("squid-tls") as where:
        cert = where.file("proxy.crt", pki.cert.read_text())
        key = where.file("proxy.key", pki.key.read_text())
        listen = f"https_port 127.0.0.1:{{port}} tls-cert={cert} tls-key={key}"
        yield start_squid(where, basic_lines(where) + AUTHENTICATED, listen=listen)


@pytest.fixture(scope="session")
def squid_tls_ntlm(pki: Pki) -> Iterator[Squid]:
    with bed("squid-tls-ntlm") as where:
        cert = where.file("proxy.crt", pki.cert.read_text())
        key = where.file("proxy.key", pki.key.read_text())
        listen = f"https_port 127.0.0.1:{{port}} tls-cert={cert} tls-key={key}"
        yield start_squid(where, ntlm_lines(where) + AUTHENTICATED, listen=listen)


# -- Kerberos -------------------------------------------------------------------


@dataclass
class Kerberos:
    """A realm of its own. `env` is what a client in it needs; the ticket cache is empty until `kinit`."""

    bed: Bed
    port: int
    env: dict[str, str]
    keytab: Path
    client_keytab: Path

    def kinit(self) -> None:
        self.bed.run("kinit", USER, env=self.env, stdin=KERBEROS_PASSWORD + "\n")

    def forget(self) -> None:
        Path(self.env["KRB5CCNAME"].removeprefix("FILE:")).unlink(missing_ok=True)


@pytest.fixture(scope="session")
def realm() -> Iterator[Kerberos]:
    with bed("kerberos") as where:
        port, folder = free_port(), where.folder
        enctypes = "aes256-cts-hmac-sha1-96"
        config = where.file("krb5.conf", krb5_conf(port))
        profile = where.file(
            "kdc.conf",
            f"""[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {REALM} = {{
  database_name = {folder}/principal
  key_stash_file = {folder}/stash
  acl_file = {folder}/acl
  max_life = 1h
  supported_enctypes = {enctypes}:normal
 }}
""",
        )
        env = {
            "KRB5_CONFIG": str(config),
            "KRB5_KDC_PROFILE": str(profile),
            "KRB5CCNAME": f"FILE:{folder}/tickets",
            "KRB5_CLIENT_KTNAME": f"FILE:{folder}/none.keytab",
        }
        where.run(program("kdb5_util"), "create", "-s", "-P", "masterpw", "-r", REALM, env=env)
        for query in (
            f"addprinc -pw {KERBEROS_PASSWORD} +requires_preauth {USER}",
            "addprinc -randkey HTTP/localhost",
            "addprinc -randkey rcmd/localhost",
            f"ktadd -k {folder}/service.keytab HTTP/localhost rcmd/localhost",
            f"ktadd -norandkey -k {folder}/alice.keytab {USER}",
        ):
            where.run(program("kadmin.local"), "-r", REALM, "-q", query, env=env)
        (folder / "service.keytab").chmod(0o644)  # squid is another user
        where.start(program("krb5kdc"), "-n", "-r", REALM, port=port, env=env)
        yield Kerberos(where, port, env, folder / "service.keytab", folder / "alice.keytab")


def krb5_conf(port: int) -> str:
    return f"""[libdefaults]
 default_realm = {REALM}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {REALM} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 .test = {REALM}
 localhost = {REALM}
"""


def kerberos_lines(realm: Kerberos) -> str:
    return (
        f"auth_param negotiate program /usr/bin/env KRB5_CONFIG={realm.env['KRB5_CONFIG']} KRB5RCACHENAME=none:"
        f" {program('negotiate_kerberos_auth')} -k {realm.keytab} -s GSS_C_NO_NAME\n"
        "auth_param negotiate children 2\nauth_param negotiate keep_alive on\n"
    )


@pytest.fixture
def member(realm: Kerberos, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kerberos]:
    """This process becomes a member of the realm, without a ticket."""
    for name, value in realm.env.items():
        monkeypatch.setenv(name, value)
    realm.forget()
    yield realm
    realm.forget()


@pytest.fixture
def no_realm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process belongs to no realm, whatever the machine does."""
    (tmp_path / "krb5.conf").write_text("[libdefaults]\n dns_lookup_kdc = false\n dns_lookup_realm = false\n")
    monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path}/tickets")


@pytest.fixture(scope="session")
def squid_kerberos(realm: Kerberos) -> Iterator[Squid]:
    with bed("squid-kerberos") as where:
        yield start_squid(where, kerberos_lines(realm) + AUTHENTICATED)


@pytest.fixture(scope="session")
def squid_all_four(realm: Kerberos) -> Iterator[Squid]:
    """Negotiate, NTLM, Digest and Basic at once: where `curl --proxy-anyauth` fails without a ticket."""
    with bed("squid-all") as where:
        lines = kerberos_lines(realm) + ntlm_lines(where) + digest_lines(where) + basic_lines(where)
        yield start_squid(where, lines + AUTHENTICATED)


# -- Ports that every bed must let through ------------------------------------------


@pytest.fixture(scope="session")
def dead() -> int:
    """A port on which nothing listens."""
    return free_port()
