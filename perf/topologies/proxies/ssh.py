"""`ssh -D`: a SOCKS server whose way leads through an SSH connection, to an sshd of its own with fresh
keys.
"""

import contextlib
import getpass
import subprocess
from pathlib import Path

import trio

from perf.topologies.processes import Ground, find_program, free_port

SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {host_key}
AuthorizedKeysFile {authorized}
StrictModes no
UsePAM no
PidFile none
"""


async def start_ssh(ground: Ground, leg: str, port: int) -> None:
    client, server, keygen = find_program("ssh"), find_program("sshd"), find_program("ssh-keygen")
    directory = ground.directory / f"ssh-{port}"
    host_key, user_key = directory / "host", directory / "user"
    server_port = free_port()
    await trio.to_thread.run_sync(_write_keys, keygen, directory, host_key, user_key)
    configuration = directory / "sshd.conf"
    authorized = user_key.with_suffix(".pub")
    text = SERVER.format(port=server_port, host_key=host_key, authorized=authorized)
    await trio.Path(configuration).write_text(text)
    far = await ground.start(f"{leg} sshd", [server, "-D", "-e", "-f", configuration])
    await far.answers_at(server_port)
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    dial: list[str | Path] = [client, "-N", "-F", "none", "-D", f"127.0.0.1:{port}"]
    dial += ["-i", user_key, "-p", str(server_port)]
    near = await ground.start(leg, [*dial, *options, f"{getpass.getuser()}@127.0.0.1"])
    await near.answers_at(port)


def _write_keys(keygen: Path, directory: Path, *keys: Path) -> None:
    directory.mkdir()
    with contextlib.suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)  # an sshd that runs as root wants it, even if it is never used
    for key in keys:
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=20)
