"""nginx as the service: 128-byte answers at /128, the same under heads that all differ below /varied/, a large body at
/bulk, keep-alive without end.
"""

from pathlib import Path

from perf.topologies.processes import Ground, Started, find_program, free_port

BULK_BYTES = 1 << 30
SMALL_BYTES = 128

CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 8192; multi_accept on; }}
http {{
    access_log off;
    sendfile on;
    sendfile_max_chunk 2m;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    default_type application/octet-stream;
    open_file_cache max=10;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {files};
        location = /128 {{ default_type text/plain; return 200 "{small}"; }}
        location /varied/ {{
            default_type text/plain;
            add_header ETag '"$request_id"';
            add_header Set-Cookie "seen=$request_id; Path=/";
            return 200 "{small}";
        }}
    }}
{more}
}}
"""


async def start_nginx(ground: Ground, files: Path, more: str = "") -> tuple[Started, int]:
    """The process and its port. `files` is the directory with the large bodies, `more` are further servers."""
    program = find_program("nginx")
    port = free_port()
    path = ground.directory / f"nginx-{port}.conf"
    small = "x" * SMALL_BYTES
    path.write_text(CONFIGURATION.format(directory=ground.directory, port=port, files=files, small=small, more=more))
    started = await ground.start("service", [program, "-p", ground.directory, "-c", path])
    await started.answers_at(port)
    return started, port


def write_files(directory: Path) -> None:
    """The large bodies: files with a length and no blocks, which cost neither disk nor reading."""
    for name, size in (("bulk", BULK_BYTES), ("64k", 65536), ("15mb", 15_000_000), ("1gb", 1_000_000_000)):
        with (directory / name).open("wb") as file:
            file.truncate(size)
