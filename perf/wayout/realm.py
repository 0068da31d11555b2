"""A Kerberos realm of its own: an MIT KDC, a user with a ticket, and a proxy's key."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import trio

from perf.errors import LabError
from perf.topologies.processes import Ground, clean_environment, find_program, free_port

REALM, USER, PASSWORD = "PERF.TEST", "alice", "krbpass"
PRINCIPAL = "HTTP/localhost"
ENOUGH_SECONDS = 20

CLIENTS = """
[libdefaults]
 default_realm = {realm}
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
[realms]
 {realm} = {{
  kdc = 127.0.0.1:{port}
 }}
[domain_realm]
 localhost = {realm}
"""
KDC = """
[kdcdefaults]
 kdc_listen = 127.0.0.1:{port}
 kdc_tcp_listen = 127.0.0.1:{port}
[realms]
 {realm} = {{
  database_name = {directory}/principal
  key_stash_file = {directory}/stash
  acl_file = {directory}/acl
  max_life = 1h
  supported_enctypes = aes256-cts-hmac-sha1-96:normal
 }}
"""


class Realm(NamedTuple):
    """`environment` makes a process a member, with a ticket; `keytab` is the proxy's."""

    environment: dict[str, str]
    keytab: Path


async def start_realm(ground: Ground) -> Realm:
    """Raises LabError, MissingProgram."""
    hint = "no KDC here: it is in the package krb5-kdc"
    create, admin, kdc = (find_program(name, hint=hint) for name in ("kdb5_util", "kadmin.local", "krb5kdc"))
    kinit = find_program("kinit", hint="it is in the package krb5-user")
    port, directory = free_port(), ground.directory / "realm"
    directory.mkdir()
    clients, profile, keytab = directory / "krb5.conf", directory / "kdc.conf", directory / "proxy.keytab"
    clients.write_text(CLIENTS.format(realm=REALM, port=port))
    profile.write_text(KDC.format(realm=REALM, port=port, directory=directory))
    tickets = f"FILE:{directory}/tickets"
    environment = {"KRB5_CONFIG": str(clients), "KRB5_KDC_PROFILE": str(profile), "KRB5CCNAME": tickets}
    await _ask([create, "create", "-s", "-P", "master", "-r", REALM], environment)
    for query in (
        f"addprinc -pw {PASSWORD} {USER}",
        f"addprinc -randkey {PRINCIPAL}",
        f"ktadd -k {keytab} {PRINCIPAL}",
    ):
        await _ask([admin, "-r", REALM, "-q", query], environment)
    keytab.chmod(0o644)  # squid is another user
    started = await ground.start("kdc", [kdc, "-n", "-r", REALM], environment=environment)
    await started.answers_at(port)
    await _ask([kinit, USER], environment, PASSWORD + "\n")
    return Realm(environment, keytab)


def no_realm(ground: Ground) -> dict[str, str]:
    """What makes a process a member of none, whatever this machine is."""
    path = ground.directory / "no-realm.conf"
    path.write_text("[libdefaults]\n dns_lookup_kdc = false\n dns_lookup_realm = false\n")
    return {"KRB5_CONFIG": str(path), "KRB5CCNAME": f"FILE:{ground.directory}/no-tickets"}


async def _ask(argv: list[str | Path], environment: Mapping[str, str], said: str = "") -> None:
    done = await trio.run_process(
        [str(word) for word in argv],
        stdin=said.encode(),
        capture_stdout=True,
        stderr=subprocess.STDOUT,
        check=False,
        start_new_session=True,
        env=clean_environment() | dict(environment),
    )
    if done.returncode:
        raise LabError(f"{argv[0]} failed: {done.stdout.decode(errors='replace').strip()[-300:]}")
