"""Servers that answer every request with the same bytes: the yardsticks of `can()`."""

import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from harness.client import HOST
from harness.processes import running, until_listening

_BARE_ASGI = Path(__file__).with_name("bare_asgi.py")
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    default_type application/json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port};
        location / {{ return 200 '{body}'; }}
    }}
}}
"""


@asynccontextmanager
async def bare_asgi(body: bytes) -> AsyncIterator[int]:
    """The port of an application that does nothing but answer, under uvicorn in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="nozle-bench-") as name:
        folder, port = Path(name), _free_port()
        (folder / "answer").write_bytes(body)
        async with running(
            *(sys.executable, "-P", str(_BARE_ASGI), str(port), str(folder / "answer")), log=folder / "log"
        ) as process:
            await until_listening(process, HOST, port)
            yield port


@asynccontextmanager
async def nginx_return(program: str, body: bytes) -> AsyncIterator[int]:
    """The port of an nginx with one worker that answers by its `return` directive."""
    with tempfile.TemporaryDirectory(prefix="nozle-bench-") as name:
        folder, port = Path(name), _free_port()
        quoted = body.decode().replace("\\", "\\\\").replace("'", "\\'")
        settings = folder / "nginx.conf"
        settings.write_text(_NGINX.format(folder=folder, host=HOST, port=port, body=quoted))
        async with running(
            *(program, "-p", str(folder), "-c", str(settings), "-e", "stderr"), log=folder / "log"
        ) as process:
            await until_listening(process, HOST, port)
            yield port


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
