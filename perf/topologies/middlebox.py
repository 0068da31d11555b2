"""Middleboxes in front of a node's port: nginx as a reverse proxy, and a network that drops connections."""

import sys

from perf.topologies.processes import Ground, find_program, free_port
from perf.topologies.shape import Middlebox

LEG = "middlebox"

# Nothing here that nginx does not have by itself, but where its files go and who is at the other end.
CONFIGURATION = """
daemon off;
master_process off;
pid {directory}/middlebox.pid;
error_log stderr error;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {directory}/middlebox-body;
    proxy_temp_path {directory}/middlebox-proxy;
    fastcgi_temp_path {directory}/middlebox-fastcgi;
    uwsgi_temp_path {directory}/middlebox-uwsgi;
    scgi_temp_path {directory}/middlebox-scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" close; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{to};
            {lines}
        }}
    }}
}}
"""
UPGRADE = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
)
STREAMING = (
    "proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off; "
    "proxy_read_timeout 1h; client_max_body_size 0;"
)


async def start_middlebox(ground: Ground, middlebox: Middlebox, to: int) -> int:
    """Put one in front of the port `to`; its own port."""
    port = free_port()
    if middlebox == Middlebox.CUTTER:
        argv = [sys.executable, "-m", "perf.topologies.cutter", "--listen", str(port), "--to", str(to)]
    else:
        lines = {Middlebox.NGINX_UPGRADE: UPGRADE, Middlebox.NGINX_STREAMING: STREAMING}.get(middlebox, "")
        path = ground.directory / "middlebox.conf"
        path.write_text(CONFIGURATION.format(directory=ground.directory, port=port, to=to, lines=lines))
        argv = [str(find_program("nginx")), "-e", "stderr", "-p", str(ground.directory), "-c", str(path)]
    await (await ground.start(LEG, argv)).answers_at(port)
    return port
