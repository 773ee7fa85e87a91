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
_CONSTANT_LANE = Path(__file__).with_name("constant_lane.py")
_MEMORY = next((one for one in ("/dev/shm",) if Path(one).is_dir()), None)  # noqa: S108  # where files are in memory
_RETURN = "location / {{ return 200 '{body}'; }}"
# Whatever is asked for, one file that stays open.
_FILE = "location / {{ root {folder}; rewrite ^ /answer break; open_file_cache max=16 inactive=1h; }}"
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
        {location}
    }}
}}
"""


@asynccontextmanager
async def bare_asgi(body: bytes) -> AsyncIterator[int]:
    """The port of an application that does nothing but answer, under uvicorn in a process of its own."""
    async with _python(_BARE_ASGI, body) as port:
        yield port


@asynccontextmanager
async def constant_lane(body: bytes) -> AsyncIterator[int]:
    """The port of the server's own parser and lane with nothing behind them, in a process of its own."""
    async with _python(_CONSTANT_LANE, body) as port:
        yield port


@asynccontextmanager
async def nginx_return(program: str, body: bytes) -> AsyncIterator[int]:
    """The port of an nginx with one worker that answers by its `return` directive."""
    async with _nginx(program, body, _RETURN) as port:
        yield port


@asynccontextmanager
async def nginx_file(program: str, body: bytes) -> AsyncIterator[int]:
    """The port of an nginx with one worker that answers with a file in memory."""
    async with _nginx(program, body, _FILE) as port:
        yield port


@asynccontextmanager
async def _python(script: Path, body: bytes) -> AsyncIterator[int]:
    with tempfile.TemporaryDirectory(prefix="nozle-bench-") as name:
        folder, port = Path(name), _free_port()
        (folder / "answer").write_bytes(body)
        async with running(
            *(sys.executable, "-P", str(script), str(port), str(folder / "answer")), log=folder / "log"
        ) as process:
            await until_listening(process, HOST, port)
            yield port


@asynccontextmanager
async def _nginx(program: str, body: bytes, location: str) -> AsyncIterator[int]:
    with tempfile.TemporaryDirectory(prefix="nozle-bench-", dir=_MEMORY) as name:
        folder, port = Path(name), _free_port()
        settings = _write_settings(folder, port, body, location)
        async with running(
            *(program, "-p", str(folder), "-c", str(settings), "-e", "stderr"), log=folder / "log"
        ) as process:
            await until_listening(process, HOST, port)
            yield port


def _write_settings(folder: Path, port: int, body: bytes, location: str) -> Path:
    folder.chmod(0o755)  # as root, nginx's worker is another user
    (folder / "answer").write_bytes(body)
    quoted = body.decode().replace("\\", "\\\\").replace("'", "\\'")
    inner = location.format(folder=folder, body=quoted)
    settings = folder / "nginx.conf"
    settings.write_text(_NGINX.format(folder=folder, host=HOST, port=port, location=inner))
    return settings


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
