"""squid, without cache and without logs."""

from perf.topologies.processes import Ground, find_program

CONFIGURATION = """
http_port 127.0.0.1:{port}
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
acl lab dst 127.0.0.0/8
http_access allow lab
"""


async def start_squid(ground: Ground, leg: str, port: int) -> None:
    program = find_program("squid")
    path = ground.directory / f"squid-{port}.conf"
    path.write_text(CONFIGURATION.format(port=port, directory=ground.directory))
    # -N: one process in the foreground. A service name of its own keeps apart what several squids share.
    started = await ground.start(leg, [program, "-N", "-n", f"perf{port}", "-f", path])
    await started.answers_at(port)
