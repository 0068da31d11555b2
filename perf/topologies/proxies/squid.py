"""squid, without cache and without logs."""

import shutil

from perf.errors import MissingProgram
from perf.topologies.certificates import write_certificates
from perf.topologies.processes import Ground, find_program

CONFIGURATION = """
{listen}
visible_hostname perf
pid_filename none
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
cache deny all
cache_mem 8 MB
cache_log /dev/null
cache_store_log none
access_log none
logfile_rotate 0
coredump_dir {directory}
max_filedescriptors 8192
{access}
"""
FOR_ALL = "acl lab dst 127.0.0.0/8\nhttp_access allow lab"
HELPERS = "/usr/lib/squid:/usr/lib64/squid:/usr/libexec/squid"


async def start_squid(ground: Ground, leg: str, port: int, *, access: str = FOR_ALL) -> None:
    """`access` are the lines of its configuration that say who may do what."""
    await _start(ground, leg, port, f"http_port 127.0.0.1:{port}", access)


async def start_squid_tls(ground: Ground, leg: str, port: int, *, access: str = FOR_ALL) -> None:
    certificates = write_certificates(ground.directory)
    listen = f"https_port 127.0.0.1:{port} tls-cert={certificates.chain} tls-key={certificates.key}"
    await _start(ground, leg, port, listen, access)


def find_helper(name: str) -> str:
    """A program that squid asks who somebody is; they come with it, outside PATH."""
    found = shutil.which(name, path=HELPERS)
    if found is None:
        raise MissingProgram(f"squid's helper {name} is not installed")
    return found


async def _start(ground: Ground, leg: str, port: int, listen: str, access: str) -> None:
    program = find_program("squid")
    path = ground.directory / f"squid-{port}.conf"
    path.write_text(CONFIGURATION.format(listen=listen, directory=ground.directory, access=access))
    # -N: one process in the foreground. A service name of its own keeps apart what several squids share.
    started = await ground.start(leg, [program, "-N", "-n", f"perf{port}", "-f", path])
    await started.answers_at(port)
