"""A test bed per scheme: the real proxy, set up for one authentication scheme, and the client's settings for it."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import trio

from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, find_program, free_port
from perf.topologies.proxies.microsocks import start_microsocks
from perf.topologies.proxies.squid import find_helper, start_squid, start_squid_tls
from perf.topologies.proxies.ssh import start_ssh
from perf.wayout.realm import PRINCIPAL, no_realm, start_realm
from perf.wayout.way import Way

USER, PASSWORD, DOMAIN, PROXY_REALM = "alice", "s3cret:p@ss", "CORP", "Lab Proxy"
ACCOUNT = f"{DOMAIN}\\{USER}"
MANY_LEGS = "children 4 startup=4", "keep_alive on"  # a helper is busy for the length of a handshake
KNOWN_ONLY = "acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all"
LEG = "proxy"

Start = Callable[[Ground], Awaitable[Way]]


async def _none(ground: Ground) -> Way:
    port = free_port()
    await start_squid(ground, LEG, port)
    return Way(scheme="http", port=port)


async def _basic(ground: Ground) -> Way:
    way = Way(scheme="http", port=free_port(), user=USER, password=PASSWORD, curl_scheme="basic")
    return await _squid(ground, way, "basic", *await _basic_lines(ground))


async def _https_basic(ground: Ground) -> Way:
    authority = str(write_certificates(ground.directory).authority)
    way = Way(scheme="https", port=free_port(), user=USER, password=PASSWORD, curl_scheme="basic", authority=authority)
    return await _squid(ground, way, "basic", *await _basic_lines(ground))


async def _digest(ground: Ground) -> Way:
    way = Way(scheme="http", port=free_port(), user=USER, password=PASSWORD, curl_scheme="digest")
    hashed = hashlib.md5(f"{USER}:{PROXY_REALM}:{PASSWORD}".encode()).hexdigest()
    file = _file(ground, "htdigest", f"{USER}:{PROXY_REALM}:{hashed}\n")
    helper = f"{find_helper('digest_file_auth')} -c {file}"
    return await _squid(ground, way, "digest", f"program {helper}", "children 2", f"realm {PROXY_REALM}")


async def _ntlm(ground: Ground) -> Way:
    way = Way(scheme="http", port=free_port(), user=ACCOUNT, password=PASSWORD, curl_scheme="ntlm")
    return await _squid(ground, way, "ntlm", f"program {_samba(ground, 'squid-2.5-ntlmssp')}", *MANY_LEGS)


async def _negotiate_ntlm(ground: Ground) -> Way:
    way = Way(
        scheme="http",
        port=free_port(),
        user=ACCOUNT,
        password=PASSWORD,
        curl_scheme="negotiate",
        environment=no_realm(ground),
    )
    return await _squid(ground, way, "negotiate", f"program {_samba(ground, 'gss-spnego')}", *MANY_LEGS)


async def _negotiate(ground: Ground) -> Way:
    realm = await start_realm(ground)
    way = Way(
        scheme="http",
        port=free_port(),
        curl_scheme="negotiate",
        principal=PRINCIPAL,
        environment=realm.environment,
    )
    # Without a replay cache: it would belong to another user, and these are not attacks.
    env = f"{find_program('env')} KRB5_CONFIG={realm.environment['KRB5_CONFIG']} KRB5RCACHENAME=none:"
    helper = f"{env} {find_helper('negotiate_kerberos_auth')} -k {realm.keytab} -s GSS_C_NO_NAME"
    return await _squid(ground, way, "negotiate", f"program {helper}", *MANY_LEGS)


async def _socks4a(ground: Ground) -> Way:
    port = free_port()
    await start_ssh(ground, LEG, port)
    return Way(scheme="socks4a", port=port)


async def _socks5(ground: Ground) -> Way:
    port = free_port()
    await start_microsocks(ground, LEG, port)
    return Way(scheme="socks5h", port=port)


async def _socks5_password(ground: Ground) -> Way:
    port = free_port()
    await start_microsocks(ground, LEG, port, account=(USER, PASSWORD))
    return Way(scheme="socks5h", port=port, user=USER, password=PASSWORD)


SCHEMES: Mapping[str, tuple[str, Start]] = MappingProxyType(
    {
        "none": ("squid that asks nothing", _none),
        "basic": ("squid, Basic", _basic),
        "digest": ("squid, Digest", _digest),
        "ntlm": ("squid, NTLM, Samba's verifier", _ntlm),
        "negotiate": ("squid, Negotiate, MIT Kerberos", _negotiate),
        "negotiate-ntlm": ("squid, NTLM in Negotiate, no ticket", _negotiate_ntlm),
        "socks4a": ("ssh -D, SOCKS4a", _socks4a),
        "socks5": ("microsocks, SOCKS5", _socks5),
        "socks5-password": ("microsocks, SOCKS5 with a password", _socks5_password),
        "https-basic": ("squid in TLS, Basic", _https_basic),
    }
)


async def _squid(ground: Ground, way: Way, scheme: str, *lines: str) -> Way:
    ground.directory.chmod(0o711)  # squid's helpers are another user
    access = "\n".join((*(f"auth_param {scheme} {line}" for line in lines), KNOWN_ONLY))
    start = start_squid_tls if way.scheme == "https" else start_squid
    await start(ground, LEG, way.port, access=access)
    return way


async def _basic_lines(ground: Ground) -> tuple[str, ...]:
    argv = [str(find_program("openssl")), "passwd", "-5", "-stdin"]
    hashed = (await trio.run_process(argv, stdin=PASSWORD.encode(), capture_stdout=True)).stdout.decode().strip()
    file = _file(ground, "htpasswd", f"{USER}:{hashed}\n")
    return f"program {find_helper('basic_ncsa_auth')} {file}", "children 2", f"realm {PROXY_REALM}"


def _samba(ground: Ground, protocol: str) -> str:
    """Samba's verifier of NTLM, which without a domain knows one password."""
    program = find_program("ntlm_auth", hint="it is in the package winbind")
    folder = ground.directory / "samba"
    folder.mkdir()
    folder.chmod(0o777)
    places = ("private dir", "state directory", "cache directory", "lock directory", "pid directory", "ncalrpc dir")
    own = "".join(f"{place} = {folder}\n" for place in places)
    smb = f"[global]\nworkgroup = {DOMAIN}\nnetbios name = PROXY\nserver role = standalone\n{own}"
    configuration = _file(ground, "smb.conf", smb)
    account = f"--username={USER} --domain={DOMAIN} --password={PASSWORD}"
    return f"{program} --helper-protocol={protocol} {account} --configfile={configuration}"


def _file(ground: Ground, name: str, text: str) -> Path:
    path = ground.directory / name
    path.write_text(text)
    path.chmod(0o644)
    return path
