"""Every bed: which real proxy, how it is configured, and what a client has to know to get through it.

A `Lab` starts them by the names of the functions in `BEDS`. A bed lets clients through to the ports that its lab was
opened for; all else it may forbid.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from proxy_adapters import Hop, Login, ProxyURL, Route, Secret
from tests.canary import CANARY
from tests.conftest import Pki
from tests.programs import free_port
from tests.proxy_adapters.beds.bed import Bed, accepts, bed, program, unpacked

USER, PASSWORD = "alice", f"{CANARY}:p@ss"
KERBEROS_PASSWORD = "krbpass"
REALM = "CORP.TEST"
ACCOUNT = pwd.getpwuid(os.geteuid())
ROOT = ACCOUNT.pw_uid == 0  # some servers become another user then, and some can only then


@dataclass(kw_only=True)
class Proxy:
    """A proxy that runs, can die, and can come back on its port. `url` has no login in it.

    `ca` issued its certificate, `client_pair` (certificate and key in one file) is what it wants to see of ours, and
    `inspector` issues what it shows in the place of others' certificates. `env` is what a client needs around it.
    `curl` is what curl has to be told besides; None where curl cannot do it.
    """

    name: str = ""
    bed: Bed
    url: str
    port: int
    command: Sequence[str | Path]
    user: str = ""
    password: str = ""
    ca: Path | None = None
    client_pair: Path | None = None
    inspector: Path | None = None
    proxy_protocol: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    curl: tuple[str, ...] | None = ()
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = self.bed.start(*self.command, port=self.port)

    def stop(self) -> None:
        """Kill it, and what it started: every tunnel through it ends."""
        assert self._process is not None
        self.bed.stop(self._process)
        # Its children are killed as well, but nobody says when they are dead; until then they listen.
        while accepts(self.port):
            time.sleep(0.005)

    def by(self, user: str, password: str) -> Route:
        login = Login(user=user, password=Secret.literal(password))
        return Route((Hop(ProxyURL.parse(self.url), login, self._tls(), proxy_protocol=self.proxy_protocol),))

    def route(self) -> Route:
        """The way through it as it should be gone."""
        if self.user:
            return self.by(self.user, self.password)
        return Route((Hop(ProxyURL.parse(self.url), None, self._tls(), proxy_protocol=self.proxy_protocol),))

    def _tls(self) -> ssl.SSLContext | None:
        if self.ca is None:
            return None
        context = ssl.create_default_context(cafile=self.ca)
        if self.client_pair:
            context.load_cert_chain(self.client_pair)
        return context

    def flags(self, password_file: Path) -> list[str]:
        """What an agent is told of it."""
        password_file.write_text(self.password + "\n")
        password_file.chmod(0o600)
        told = {
            "proxy.url": self.url,
            "proxy.user": self.user,
            "proxy.password-file": self.user and password_file,
            "proxy.tls.root-cas": self.ca,
            "proxy.tls.cert": self.client_pair,
            "proxy.tls.key": self.client_pair,
            "proxy.proxy-protocol": self.proxy_protocol,
            "tls.root-cas": self.inspector,
        }
        return [f"--connect.{name}={value}" for name, value in told.items() if value]


@dataclass(kw_only=True)
class Squid(Proxy):
    """`access_log` has lines of `user status user-agent`."""

    access_log: Path

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


class Lab:
    """Starts beds, each at the first time it is asked for, and ends them all.

    `ports`: the destinations that every bed lets through. `pki` is theirs who show a certificate: proxies, and the
    servers that inspecting proxies believe.
    """

    def __init__(self, pki: Pki, ports: Sequence[int]) -> None:
        self.pki = pki
        self.ports = ports
        self._stack = contextlib.ExitStack()
        self._open: dict[str, Proxy] = {}

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self, name: str) -> Proxy:
        """The bed of that name, running."""
        if name not in self._open:
            proxy = BEDS[name](self, self.bed(name))
            proxy.name = name
            proxy.start()
            self._open[name] = proxy
        return self._open[name]

    def squid(self, name: str) -> Squid:
        squid = self.open(name)
        assert isinstance(squid, Squid)
        return squid

    def bed(self, name: str) -> Bed:
        return self._stack.enter_context(bed(name))

    @cached_property
    def realm(self) -> Kerberos:
        return start_realm(self.bed("kerberos"))

    @cached_property
    def inspector(self) -> trustme.CA:
        """Issues what inspecting proxies show in the place of others' certificates."""
        return trustme.CA(organization_name="Corp MITM CA")

    def certificate(self, where: Bed) -> tuple[Path, Path]:
        """A proxy's certificate and key, where any user that it becomes may read them."""
        return where.file("proxy.crt", self.pki.cert.read_text()), where.file("proxy.key", self.pki.key.read_text())

    def inspecting(self, where: Bed, name: str) -> tuple[Path, Path]:
        """The inspector's certificate, for who is to believe it, and with its key, for who is to be it."""
        certificate = self.inspector.cert_pem.bytes().decode()
        return where.file("inspector.pem", certificate), where.file(
            name, self.inspector.private_key_pem.bytes().decode() + certificate
        )


# -- squid ----------------------------------------------------------------------


def squid(
    where: Bed, lines: str, *, listen: str = "http_port 127.0.0.1:{port}", path: str | None = None, **more: Any
) -> Squid:
    """`more`: the fields of a Proxy, with a `url` that has {port} in it."""
    port = free_port()
    log = where.log("access.log")
    hosts = where.file("hosts", "127.0.0.1 localhost target.test proxy.test\n")
    config = where.file(
        "squid.conf",
        f"""
visible_hostname proxy.test
pid_filename none
cache_log {where.log("cache.log")}
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
    url = str(more.pop("url", "http://127.0.0.1:{port}")).format(port=port)
    command = (path or program("squid"), "-N", "-n", f"t{port}", "-f", config)
    return Squid(bed=where, url=url, port=port, command=command, access_log=log, **more)


def squid_with_login(where: Bed, lines: str, **more: Any) -> Squid:
    """For alice alone."""
    lines += "acl authed proxy_auth REQUIRED\nhttp_access allow authed\nhttp_access deny all\n"
    return squid(where, lines, **{"user": USER, "password": PASSWORD, **more})


def write_passwords(where: Bed, password: str = PASSWORD) -> Path:
    """The file by which Basic knows alice; squid reads it anew when it changes."""
    # htpasswd's {SHA} would need apache2-utils; crypt's $5$ comes with openssl everywhere.
    hashed = where.run("openssl", "passwd", "-5", "-stdin", stdin=password).strip()
    return where.file("htpasswd", f"{USER}:{hashed}\n")


def basic_lines(where: Bed) -> str:
    return (
        f"auth_param basic program {program('basic_ncsa_auth')} {write_passwords(where)}\n"
        "auth_param basic children 2\nauth_param basic realm Lab Proxy\n"
    )


def digest_lines(where: Bed) -> str:
    hashed = hashlib.md5(f"{USER}:Lab Proxy:{PASSWORD}".encode()).hexdigest()
    file = where.file("htdigest", f"{USER}:Lab Proxy:{hashed}\n")
    return (
        f"auth_param digest program {program('digest_file_auth')} -c {file}\nauth_param digest children 2\n"
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


def squid_basic(lab: Lab, where: Bed) -> Squid:
    return squid_with_login(where, basic_lines(where))


def squid_digest(lab: Lab, where: Bed) -> Squid:
    return squid_with_login(where, digest_lines(where), curl=("--proxy-digest",))


def squid_ntlm(lab: Lab, where: Bed) -> Squid:
    return squid_with_login(where, ntlm_lines(where), curl=("--proxy-ntlm",))


def squid_ntlm_closing(lab: Lab, where: Bed) -> Squid:
    """Its first 407 closes the connection."""
    return squid_with_login(where, ntlm_lines(where, keep_alive=False), curl=("--proxy-ntlm",))


def squid_spnego_ntlm(lab: Lab, where: Bed) -> Squid:
    """NTLM inside Negotiate."""
    return squid_with_login(where, spnego_ntlm_lines(where), curl=None)


def squid_open(lab: Lab, where: Bed) -> Squid:
    """No authentication: everything is allowed but port 9, and more than 3 connections at once."""
    return squid(
        where,
        "acl forbidden port 9\nhttp_access deny forbidden\nacl many maxconn 3\nhttp_access deny many\n"
        "http_access allow all\n",
    )


def squid_hasty(lab: Lab, where: Bed) -> Squid:
    """It ends a tunnel that is silent for four seconds, or for five: it looks once a second."""
    return squid(where, "read_timeout 4 seconds\nhttp_access allow all\n")


def squid_tls(lab: Lab, where: Bed) -> Squid:
    return squid_with_login(where, basic_lines(where), **_tls_port(lab, where))


def squid_tls_ntlm(lab: Lab, where: Bed) -> Squid:
    return squid_with_login(where, ntlm_lines(where), curl=("--proxy-ntlm",), **_tls_port(lab, where))


def _tls_port(lab: Lab, where: Bed) -> dict[str, Any]:
    cert, key = lab.certificate(where)
    listen = f"https_port 127.0.0.1:{{port}} tls-cert={cert} tls-key={key}"
    return {"listen": listen, "url": "https://localhost:{port}", "ca": lab.pki.ca}


# -- squid and Kerberos -----------------------------------------------------------


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


def start_realm(where: Bed) -> Kerberos:
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
    return Kerberos(where, port, env, folder / "service.keytab", folder / "alice.keytab")


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


def no_realm(folder: Path) -> dict[str, str]:
    """The environment of a client that belongs to no realm, whatever the machine does."""
    (folder / "krb5.conf").write_text("[libdefaults]\n dns_lookup_kdc = false\n dns_lookup_realm = false\n")
    return {"KRB5_CONFIG": f"{folder}/krb5.conf", "KRB5CCNAME": f"FILE:{folder}/tickets"}


def kerberos_lines(realm: Kerberos) -> str:
    return (
        f"auth_param negotiate program /usr/bin/env KRB5_CONFIG={realm.env['KRB5_CONFIG']} KRB5RCACHENAME=none:"
        f" {program('negotiate_kerberos_auth')} -k {realm.keytab} -s GSS_C_NO_NAME\n"
        "auth_param negotiate children 2\nauth_param negotiate keep_alive on\n"
    )


def squid_kerberos(lab: Lab, where: Bed) -> Squid:
    """curl has to be given a ticket, so it has no part in the table."""
    url, env = "http://localhost:{port}", lab.realm.env
    lines = kerberos_lines(lab.realm)
    return squid_with_login(where, lines, url=url, password=KERBEROS_PASSWORD, env=env, curl=None)


def squid_all_four(lab: Lab, where: Bed) -> Squid:
    """Negotiate, NTLM, Digest and Basic at once: where `curl --proxy-anyauth` fails without a ticket."""
    lines = kerberos_lines(lab.realm) + ntlm_lines(where) + digest_lines(where) + basic_lines(where)
    return squid_with_login(where, lines, url="http://localhost:{port}", curl=("--proxy-ntlm",))


# -- squid built with OpenSSL: it inspects TLS, and may want a client certificate ---------


def squid_inspecting(lab: Lab, where: Bed, *, upgrades: bool = False, more: str = "") -> Squid:
    """As it comes, it removes the Upgrade of a WebSocket. `more`: further lines of its configuration."""
    folder = unpacked("squid-openssl")
    believed, authority = lab.inspecting(where, "mitm.pem")
    trusted = where.file("ca.pem", lab.pki.ca.read_text())
    maker = folder / "usr/lib/squid/security_file_certgen"
    where.run(maker, "-c", "-s", where.folder / "ssl_db", "-M", "4MB")
    where.run("chmod", "-R", "a+rwX", where.folder / "ssl_db")
    lines = f"""
sslcrtd_program {maker} -s {where.folder}/ssl_db -M 4MB
sslcrtd_children 1
tls_outgoing_options cafile={trusted}
acl step1 at_step SslBump1
ssl_bump peek step1
ssl_bump bump all
http_access allow all
{"http_upgrade_request_protocols websocket allow all" if upgrades else ""}
{more}
"""
    listen = (
        "http_port 127.0.0.1:{port} ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=4MB"
        f" tls-cert={authority}"
    )
    return squid(where, lines, listen=listen, path=str(folder / "usr/sbin/squid"), inspector=believed)


def squid_inspecting_upgrades(lab: Lab, where: Bed) -> Squid:
    return squid_inspecting(lab, where, upgrades=True)


def squid_mutual(lab: Lab, where: Bed) -> Squid:
    """It wants a client certificate."""
    folder = unpacked("squid-openssl")
    cert, key = lab.certificate(where)
    trusted = where.file("ca.pem", lab.pki.ca.read_text())
    ours = where.folder / "client.pem"
    lab.pki.authority.issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(ours)
    return squid(
        where,
        "http_access allow all\n",
        listen=f"https_port 127.0.0.1:{{port}} tls-cert={cert} tls-key={key} clientca={trusted}",
        path=str(folder / "usr/sbin/squid"),
        url="https://localhost:{port}",
        ca=lab.pki.ca,
        client_pair=ours,
        curl=("--proxy-cert", str(ours)),
    )


# -- The other HTTP proxies ---------------------------------------------------------


def tinyproxy(lab: Lab, where: Bed) -> Proxy:
    port = free_port()
    config = where.file(
        "tiny.conf",
        f"Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Info\n"
        f'LogFile "{where.log("log")}"\nBasicAuth {USER} s3cret\n'
        + "".join(f"ConnectPort {allowed}\n" for allowed in lab.ports),
    )
    command = (program("tinyproxy"), "-d", "-c", config)
    url = f"http://127.0.0.1:{port}"
    return Proxy(bed=where, url=url, port=port, command=command, user=USER, password="s3cret")


def apache_basic(lab: Lab, where: Bed, *, kind: str = "Basic", tls: bool = False) -> Proxy:
    port = free_port()
    modules = "mpm_event authn_core authn_file authz_core authz_user auth_basic auth_digest proxy proxy_connect ssl"
    load = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in modules.split())
    if kind == "Digest":
        hashed = hashlib.md5(f"{USER}:Apache Proxy:{PASSWORD}".encode()).hexdigest()
        passwords = where.file("passwords", f"{USER}:Apache Proxy:{hashed}\n")
    else:
        hashed = where.run("openssl", "passwd", "-apr1", PASSWORD).strip()
        passwords = where.file("passwords", f"{USER}:{hashed}\n")
    cert, key = lab.certificate(where)
    config = where.file(
        "httpd.conf",
        f"""
ServerRoot {where.folder}
ServerName proxy.test
PidFile {where.folder}/pid
Mutex pthread
DefaultRuntimeDir {where.folder}
ErrorLog {where.log("error.log")}
{"User www-data" if ROOT else ""}
{"Group www-data" if ROOT else ""}
{load}
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
  ProxyRequests On
  AllowCONNECT {" ".join(map(str, lab.ports))}
  {f"SSLEngine on{chr(10)}SSLCertificateFile {cert}{chr(10)}SSLCertificateKeyFile {key}" if tls else ""}
  <Proxy *>
    AuthType {kind}
    AuthName "Apache Proxy"
    Auth{kind}Provider file
    AuthUserFile {passwords}
    Require valid-user
  </Proxy>
</VirtualHost>
""",
    )
    return Proxy(
        bed=where,
        url=f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}",
        port=port,
        command=(program("apache2"), "-d", where.folder, "-f", config, "-DFOREGROUND"),
        user=USER,
        password=PASSWORD,
        ca=lab.pki.ca if tls else None,
        curl=("--proxy-digest",) if kind == "Digest" else (),
    )


def apache_digest(lab: Lab, where: Bed) -> Proxy:
    return apache_basic(lab, where, kind="Digest")


def apache_tls(lab: Lab, where: Bed) -> Proxy:
    return apache_basic(lab, where, tls=True)


def privoxy(lab: Lab, where: Bed) -> Proxy:
    port = free_port()
    where.log("log")
    config = where.file(
        "conf",
        f"confdir /etc/privoxy\ntempldir /etc/privoxy/templates\nlogdir {where.folder}\nlogfile log\n"
        f"listen-address 127.0.0.1:{port}\ntoggle 0\nsocket-timeout 300\n",
    )
    command = (program("privoxy"), "--no-daemon", config)
    return Proxy(bed=where, url=f"http://127.0.0.1:{port}", port=port, command=command)


def cntlm(lab: Lab, where: Bed) -> Proxy:
    """In front of an NTLM proxy, to which it logs in; whoever reaches it needs no login."""
    port, parent = free_port(), lab.open("squid_ntlm")
    config = where.file(
        "cntlm.conf",
        f"Username {USER}\nDomain CORP\nPassword {PASSWORD}\nProxy 127.0.0.1:{parent.port}\n"
        f"Listen 127.0.0.1:{port}\nAuth NTLMv2\nWorkstation LAB\n",
        0o600,
    )
    return Proxy(bed=where, url=f"http://127.0.0.1:{port}", port=port, command=(program("cntlm"), "-f", "-c", config))


def pproxy(lab: Lab, where: Bed, *, scheme: str = "http") -> Proxy:
    port = free_port()
    command = (sys.executable, "-m", "pproxy", "-l", f"http+socks4+socks5://127.0.0.1:{port}#{USER}:s3cret")
    url = f"{scheme}://127.0.0.1:{port}"
    return Proxy(bed=where, url=url, port=port, command=command, user=USER, password="s3cret")


def pproxy_socks(lab: Lab, where: Bed) -> Proxy:
    return pproxy(lab, where, scheme="socks5h")


def mitmproxy(lab: Lab, where: Bed, *options: str, scheme: str = "http", login: bool = True) -> Proxy:
    """It inspects, and dials the destination before it says that there is a tunnel."""
    port = free_port()
    believed, _ = lab.inspecting(where, "mitmproxy-ca.pem")
    settings = [
        f"confdir={where.folder}",
        f"ssl_verify_upstream_trusted_ca={where.file('ca.pem', lab.pki.ca.read_text())}",
        *([f"proxyauth={USER}:s3cret"] if login else []),
        *options,
    ]
    return Proxy(
        bed=where,
        url=f"{scheme}://127.0.0.1:{port}",
        port=port,
        command=(
            unpacked("mitmproxy") / "bin/mitmdump",
            *("-q", "--listen-host", "127.0.0.1", "-p", str(port)),
            *("--mode", "regular" if scheme == "http" else "socks5"),
            *(word for setting in settings for word in ("--set", setting)),
        ),
        user=USER if login else "",
        password="s3cret" if login else "",
        inspector=believed,
    )


def mitmproxy_lazy(lab: Lab, where: Bed) -> Proxy:
    """It says that there is a tunnel before it has dialled, and asks for no login."""
    return mitmproxy(lab, where, "connection_strategy=lazy", login=False)


def mitmproxy_socks(lab: Lab, where: Bed) -> Proxy:
    return mitmproxy(lab, where, scheme="socks5h")


# -- What stands in front of a proxy --------------------------------------------------


def haproxy(lab: Lab, where: Bed, *, tls: bool = False, proxy_protocol: int | None = None) -> Proxy:
    port, behind = free_port(), lab.open("squid_basic")
    pem = where.file("proxy.pem", lab.pki.cert.read_text() + lab.pki.key.read_text())
    config = where.file(
        "haproxy.cfg",
        f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend front
  bind 127.0.0.1:{port} {f"ssl crt {pem}" if tls else ""} {"accept-proxy" if proxy_protocol else ""}
  default_backend squid
backend squid
  server squid 127.0.0.1:{behind.port}
""",
    )
    return Proxy(
        bed=where,
        url=f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}",
        port=port,
        command=(program("haproxy"), "-db", "-f", config),
        user=behind.user,
        password=behind.password,
        ca=lab.pki.ca if tls else None,
        proxy_protocol=proxy_protocol,
        curl=None if proxy_protocol else (),  # which says it to the destination
    )


def haproxy_tls(lab: Lab, where: Bed) -> Proxy:
    return haproxy(lab, where, tls=True)


def haproxy_v1(lab: Lab, where: Bed) -> Proxy:
    """It wants to hear who calls, by the PROXY protocol; it takes both versions."""
    return haproxy(lab, where, proxy_protocol=1)


def haproxy_v2(lab: Lab, where: Bed) -> Proxy:
    return haproxy(lab, where, proxy_protocol=2)


def nghttpx(lab: Lab, where: Bed) -> Proxy:
    """An HTTP/2 proxy that speaks 1.1 when it is asked to."""
    port, behind = free_port(), lab.open("squid_basic")
    cert, key = lab.certificate(where)
    return Proxy(
        bed=where,
        url=f"https://localhost:{port}",
        port=port,
        command=(
            program("nghttpx"),
            "--conf=/dev/null",  # Debian's would listen on a port of its own as well
            "--http2-proxy",
            f"-f127.0.0.1,{port}",
            f"-b127.0.0.1,{behind.port}",
            "--workers=1",
            f"--errorlog-file={where.log('error')}",
            key,
            cert,
        ),
        user=behind.user,
        password=behind.password,
        ca=lab.pki.ca,
    )


# -- SOCKS ---------------------------------------------------------------------------


def microsocks(lab: Lab, where: Bed) -> Proxy:
    port = free_port()
    command = (program("microsocks"), "-i", "127.0.0.1", "-p", str(port), "-u", USER, "-P", "s3cret")
    url = f"socks5h://127.0.0.1:{port}"
    return Proxy(bed=where, url=url, port=port, command=command, user=USER, password="s3cret")


def dante(lab: Lab, where: Bed) -> Proxy:
    """It forbids port 9. Its users would be the machine's, so it has none."""
    port, user = free_port(), ACCOUNT.pw_name
    config = where.file(
        "danted.conf",
        f"""
logoutput: {where.log("log")}
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
user.privileged: {user}
user.unprivileged: {"nobody" if ROOT else user}
client pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
}}
socks block {{
  from: 0.0.0.0/0 to: 127.0.0.1/32 port = 9
  log: connect error
}}
socks pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
  command: connect
  log: connect error
}}
""",
    )
    command = (program("danted"), "-f", config, "-p", where.folder / "pid")
    return Proxy(bed=where, url=f"socks5h://127.0.0.1:{port}", port=port, command=command)


def start_sshd(where: Bed) -> int:
    """The port of an SSH server that knows the key `user` of its folder."""
    port = free_port()
    for name in ("host", "user"):
        where.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", where.folder / name)
    if ROOT:
        Path("/run/sshd").mkdir(exist_ok=True)
    config = where.file(
        "sshd_config",
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {where.folder}/host\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {where.folder}/user.pub\nPidFile none\nPermitRootLogin yes\n",
    )
    where.start(program("sshd"), "-D", "-e", "-f", config, port=port)
    return port


def ssh(lab: Lab, where: Bed) -> Proxy:
    """`ssh -D`: the proxy is the client of an SSH server, and it is the client that dies."""
    if ACCOUNT.pw_shell.endswith(("/nologin", "/false")):
        pytest.skip(f"{ACCOUNT.pw_name} may not log in to this machine")
    port, server = free_port(), start_sshd(where)
    options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "IdentitiesOnly=yes",
        "ExitOnForwardFailure=yes",
    ]
    command: Sequence[str | Path] = (
        program("ssh"),
        "-N",
        *("-F", "/dev/null", "-D", f"127.0.0.1:{port}", "-p", str(server), "-i", where.folder / "user"),
        *[word for option in options for word in ("-o", option)],
        f"{ACCOUNT.pw_name}@127.0.0.1",
    )
    return Proxy(bed=where, url=f"socks5h://127.0.0.1:{port}", port=port, command=command)


BEDS: dict[str, Callable[[Lab, Bed], Proxy]] = {
    starter.__name__: starter
    for starter in (
        squid_basic,
        squid_digest,
        squid_ntlm,
        squid_ntlm_closing,
        squid_spnego_ntlm,
        squid_kerberos,
        squid_all_four,
        squid_open,
        squid_hasty,
        squid_tls,
        squid_tls_ntlm,
        squid_mutual,
        squid_inspecting,
        squid_inspecting_upgrades,
        tinyproxy,
        apache_basic,
        apache_digest,
        apache_tls,
        privoxy,
        cntlm,
        pproxy,
        pproxy_socks,
        mitmproxy,
        mitmproxy_lazy,
        mitmproxy_socks,
        haproxy_tls,
        haproxy_v1,
        haproxy_v2,
        nghttpx,
        microsocks,
        dante,
        ssh,
    )
}
