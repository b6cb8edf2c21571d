"""Programs that we did not write, started on ports of their own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .kit import WITHIN, Child, free_port, need, refuses_connections, until

NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  types {{ text/html html; text/plain txt; image/png png; }}
  default_type application/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  gzip on;
  gzip_min_length 100;
  gzip_proxied any;
  gzip_types text/plain;
  server {{
    listen 127.0.0.1:{port} reuseport;
    root {root};
    add_header X-Requests $connection_requests always;
  }}
}}
"""


@contextmanager
def http_server(folder: Path) -> Iterator[str]:
    """Run `python -m http.server`, which speaks HTTP/1.0; give its address."""
    args = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with Child(args) as server:
        found = until(lambda: re.search(r"port (\d+)", "".join(server.out)), "the port of http.server")
        assert found is not None
        yield f"127.0.0.1:{found[1]}"


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[str]:
    """Run nginx with the files of `root`; give its address."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, root=root, port=port))
    with Child([need("nginx"), "-c", str(file), "-p", str(folder), "-e", "stderr"]) as server:
        until(lambda: not refuses_connections(f"127.0.0.1:{port}") or server.process.poll(), "nginx")
        assert server.process.poll() is None, server.said
        yield f"127.0.0.1:{port}"


def curl(*args: str, within: float = WITHIN) -> bytes:
    """Run curl; give what it wrote to stdout. It must end with 0."""
    done = run_curl(*args, within=within)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def run_curl(*args: str, within: float = WITHIN) -> subprocess.CompletedProcess[bytes]:
    """Run curl, without the user's settings and proxies."""
    command = [need("curl"), "--disable", "--silent", "--show-error", "--noproxy", "*", *args]
    return subprocess.run(command, capture_output=True, timeout=within, check=False)
