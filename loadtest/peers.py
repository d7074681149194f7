"""The servers that are compared, all told the same: so many workers, keep-alive, no access log, a backlog of 2,048."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEST_APPS = ROOT / "tests" / "apps"
APPS = ROOT / "loadtest" / "apps"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
VENV = TARGET / "loadtest-venv"
RGUN = TARGET / "release" / "rgun-async"

# Idle seconds that no run reaches: what is measured is requests, not time-outs.
KEEP_ALIVE = 75


@dataclasses.dataclass(frozen=True)
class App:
    """What is served: a server's own hello where it has no module."""

    name: str
    module: str | None = None
    directory: pathlib.Path = APPS
    interface: str = "wsgi"
    # Of the one file that is served, and its path.
    size: int = 0
    path: str = ""


APPS_BY_NAME = {
    app.name: app
    for app in (
        App("native", interface="native"),
        App("10 KB", interface="files", size=10_000, path="file.bin"),
        App("10 MB", interface="files", size=10_000_000, path="file.bin"),
        App("wsgi", "hello", TEST_APPS),
        App("asgi", "hello_asgi", interface="asgi"),
        App("flask", "flask_hello", TEST_APPS),
        App("django", "hello_django"),
        App("fastapi", "hello_fastapi", interface="asgi"),
        App("flask+redis", "flask_redis", TEST_APPS),
        App("sleep", "sleep_wsgi"),
        App("sleep asgi", "sleep_asgi", interface="asgi"),
    )
}


@dataclasses.dataclass
class Setup:
    """One server about to be started."""

    app: App
    port: int
    workers: int
    directory: pathlib.Path
    # What it is to speak: "http", "https", "h2" (which is https, too), or behind nginx "uwsgi" and "uwsgi unix".
    speaks: str = "http"

    @property
    def secure(self) -> bool:
        return self.speaks in ("https", "h2")

    @property
    def address(self) -> str:
        """Where the server listens, in the words that nginx and uWSGI share."""
        return f"unix:{self.directory}/app.sock" if self.speaks == "uwsgi unix" else f"127.0.0.1:{self.port}"

    @property
    def cert(self) -> str:
        return str(self.directory / "cert.pem")

    @property
    def key(self) -> str:
        return str(self.directory / "key.pem")

    def certify(self) -> None:
        """Makes a certificate of the kind that most sites have: ECDSA, P-256."""
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
             "-subj", "/CN=localhost", "-days", "2", "-keyout", self.key, "-out", self.cert],
            check=True, capture_output=True,
        )  # fmt: skip

    @property
    def module(self) -> str:
        return f"{self.app.module}:app"

    @property
    def public(self) -> pathlib.Path:
        """Where the file is that is served."""
        return self.directory / "public"

    def write_file(self) -> None:
        """Makes it; `/` is something, too."""
        self.public.mkdir()
        (self.public / self.app.path).write_bytes(os.urandom(self.app.size))
        (self.public / "index.html").write_text("hello world!")

    @property
    def chdir(self) -> str:
        return str(self.app.directory)


@dataclasses.dataclass
class Peer:
    """One way of serving: its command, the kind of app it serves, and where its version is found."""

    name: str
    command: Callable[[Setup], list[str]]
    interface: str = "wsgi"
    package: str | None = None
    program: str | None = None
    note: str = ""

    def missing(self) -> str | None:
        """Why it cannot be run here, or None."""
        if self.program and not shutil.which(self.program):
            return f"{self.program} is not installed"
        if self.package and self.package not in versions():
            return f"{self.package} could not be installed"
        return None

    def version(self) -> str:
        if self.package:
            return f"{self.package} {versions()[self.package]}"
        if self.name == "nginx":
            said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=False)
            return said.stderr.strip().rpartition("/")[2].join(["nginx ", ""])
        said = subprocess.run([RGUN, "--version"], capture_output=True, text=True, check=False)
        return said.stdout.strip()


def _rgun(*more: str) -> Callable[[Setup], list[str]]:
    def command(setup: Setup) -> list[str]:
        app = setup.module if setup.app.module else "builtin:hello"
        if setup.app.size:
            app = f"builtin:static:{setup.public}"
        bind = {
            "http": setup.address,
            "uwsgi": f"uwsgi://{setup.address}",
            "uwsgi unix": f"uwsgi:{setup.address}",
        }.get(setup.speaks, f"https://{setup.address}?cert={setup.cert}&key={setup.key}")
        http2 = ["--http-protocols", "h2,h1"] if setup.speaks == "h2" else []
        return [
            str(RGUN), "-w", str(setup.workers), "-b", bind, *http2,
            "--worker-connections", "1000", "--keep-alive", str(KEEP_ALIVE),
            "--log-level", "warning", "--chdir", setup.chdir, *more, app,
        ]  # fmt: skip

    return command


def _gunicorn(*more: str) -> Callable[[Setup], list[str]]:
    def command(setup: Setup) -> list[str]:
        tls = ["--certfile", setup.cert, "--keyfile", setup.key] if setup.secure else []
        behind = ["--protocol", "uwsgi"] if setup.speaks.startswith("uwsgi") else []
        return [
            str(VENV / "bin/gunicorn"), "-w", str(setup.workers), "-b", setup.address, *tls, *behind,
            "--worker-connections", "1000", "--keep-alive", str(KEEP_ALIVE),
            "--log-level", "warning", "--no-control-socket", "--chdir", setup.chdir, *more, setup.module,
        ]  # fmt: skip

    return command


def _granian(setup: Setup) -> list[str]:
    loop = ["--loop", "uvloop"] if setup.app.interface == "asgi" else []
    tls = ["--ssl-certificate", setup.cert, "--ssl-keyfile", setup.key] if setup.secure else []
    http = "auto" if setup.speaks == "h2" else "1"
    return [
        str(VENV / "bin/granian"), "--interface", setup.app.interface, "--workers", str(setup.workers),
        "--host", "127.0.0.1", "--port", str(setup.port), "--http", http, "--backlog", "2048", *tls,
        # Its default caps the connections of a worker, idle ones too.
        "--backpressure", "1024", "--no-access-log", "--log-level", "warning", *loop,
        "--working-dir", setup.chdir, setup.module,
    ]  # fmt: skip


def _uwsgi(setup: Setup) -> list[str]:
    behind = setup.speaks.startswith("uwsgi")
    return [
        str(VENV / "bin/uwsgi"), "--uwsgi-socket" if behind else "--http11-socket",
        setup.address.removeprefix("unix:"), "--master",
        "--processes", str(setup.workers), "--listen", "2048", "--disable-logging", "--need-app",
        "--die-on-term", "--so-keepalive", "--chdir", setup.chdir, "--virtualenv", str(VENV),
        "--module", setup.module,
    ]  # fmt: skip


def _uvicorn(setup: Setup) -> list[str]:
    tls = ["--ssl-certfile", setup.cert, "--ssl-keyfile", setup.key] if setup.secure else []
    return [
        str(VENV / "bin/uvicorn"), "--workers", str(setup.workers), "--host", "127.0.0.1", *tls,
        "--port", str(setup.port), "--backlog", "2048", "--loop", "uvloop", "--http", "httptools",
        "--timeout-keep-alive", str(KEEP_ALIVE), "--no-access-log", "--log-level", "warning",
        "--app-dir", setup.chdir, setup.module,
    ]  # fmt: skip


def _peregrine(setup: Setup) -> list[str]:
    return [
        str(VENV / "bin/peregrine"), "--host", "127.0.0.1", "--port", str(setup.port),
        "--workers", str(setup.workers), "--backlog", "2048", "--protocol", setup.app.interface,
        "--keep-alive", str(KEEP_ALIVE * 1000), "--log-level", "error",
        "--venv", str(VENV), "--python-path", setup.chdir, setup.module,
    ]  # fmt: skip


# It has no workers of its own: the listening socket is forked.
_BJOERN = """
import importlib, os, sys
import bjoern
sys.path.insert(0, sys.argv[4])
app = importlib.import_module(sys.argv[1].partition(":")[0]).app
bjoern.listen(app, "127.0.0.1", int(sys.argv[2]), listen_backlog=2048)
for _ in range(int(sys.argv[3]) - 1):
    if os.fork() == 0:
        break
bjoern.run()
"""


def _bjoern(setup: Setup) -> list[str]:
    return [
        str(VENV / "bin/python3"), "-c", _BJOERN, setup.module, str(setup.port),
        str(setup.workers), setup.chdir,
    ]  # fmt: skip


_NGINX = """
daemon off; master_process on; worker_processes {workers}; pid {directory}/nginx.pid;
error_log {directory}/error.log warn; worker_rlimit_nofile 16384; {user}
events {{ worker_connections 8000; }}
http {{
    access_log off; keepalive_timeout {keep_alive}s; keepalive_requests 1000000000;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    server {{
        listen 127.0.0.1:{port} {listen} backlog=2048;
        {server}
        location / {{ {location} }}
    }}
}}
"""


def _nginx(setup: Setup) -> list[str]:
    # As Debian's nginx.conf has it.
    location = (
        f"root {setup.public}; sendfile on; tcp_nopush on;"
        if setup.app.size
        else 'default_type text/plain; return 200 "hello world!";'
    )
    listen = {"https": "ssl", "h2": "ssl http2"}.get(setup.speaks, "")
    tls = f"ssl_certificate {setup.cert}; ssl_certificate_key {setup.key}; ssl_protocols TLSv1.2 TLSv1.3;"
    return _nginx_with(setup, setup.port, location, listen, tls if setup.secure else "")


def front(setup: Setup, port: int) -> list[str]:
    """nginx before a server that speaks uwsgi."""
    location = f"include /etc/nginx/uwsgi_params; uwsgi_pass {setup.address};"
    return _nginx_with(setup, port, location)


def _nginx_with(setup: Setup, port: int, location: str, listen: str = "", server: str = "") -> list[str]:
    text = _NGINX.format(
        # Its workers read files that are ours alone.
        user="user root;" if os.geteuid() == 0 else "",
        workers=setup.workers, directory=setup.directory, keep_alive=KEEP_ALIVE, port=port,
        listen=listen, server=server, location=location,
    )  # fmt: skip
    config = setup.directory / "nginx.conf"
    config.write_text(text)
    return ["nginx", "-p", str(setup.directory), "-e", f"{setup.directory}/error.log", "-c", str(config)]


_THREADS = ("--threads", "16", "--max-threads", "1000")

# The first of each kind is what the others are compared with.
PEERS = [
    Peer("rgun-async", _rgun(), "native", program=str(RGUN)),
    Peer("rgun-async sync", _rgun("-k", "sync"), program=str(RGUN)),
    Peer("rgun-async gevent", _rgun("-k", "gevent"), program=str(RGUN)),
    Peer("rgun-async gthread", _rgun("-k", "gthread", *_THREADS), program=str(RGUN)),
    Peer("rgun-async gevent --preload", _rgun("-k", "gevent", "--preload"), program=str(RGUN)),
    Peer("rgun-async sync --preload", _rgun("-k", "sync", "--preload"), program=str(RGUN)),
    Peer("rgun-async asyncio", _rgun("-k", "asgi", "--asgi-loop", "asyncio"), "asgi", program=str(RGUN)),
    Peer("rgun-async uvloop", _rgun("-k", "asgi", "--asgi-loop", "uvloop"), "asgi", program=str(RGUN)),
    Peer("nginx", _nginx, "native", program="nginx"),
    Peer("peregrine", _peregrine, package="peregrine-server"),
    Peer("bjoern", _bjoern, package="bjoern", note="no supervision, no time-outs"),
    Peer("granian", _granian, package="granian"),
    Peer("uwsgi", _uwsgi, package="uwsgi", note="a worker stays with one busy connection: the others wait"),
    Peer("gunicorn gevent", _gunicorn("-k", "gevent"), package="gunicorn"),
    Peer("gunicorn gevent --preload", _gunicorn("-k", "gevent", "--preload"), package="gunicorn"),
    Peer("gunicorn gthread", _gunicorn("-k", "gthread", "--threads", "100"), package="gunicorn"),
    Peer("gunicorn sync", _gunicorn("-k", "sync"), package="gunicorn", note="has no keep-alive"),
    Peer("peregrine asgi", _peregrine, "asgi", package="peregrine-server"),
    Peer("granian asgi", _granian, "asgi", package="granian"),
    Peer("uvicorn", _uvicorn, "asgi", package="uvicorn", note="with uvloop and httptools"),
    Peer("gunicorn asgi", _gunicorn("-k", "asgi"), "asgi", package="gunicorn"),
]


_versions: dict[str, str] | None = None


def versions() -> dict[str, str]:
    """What the venv holds, names in small letters."""
    global _versions
    if _versions is None:
        said = subprocess.run(
            [VENV / "bin/python3", "-m", "pip", "list", "--format=freeze"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        pairs = (line.partition("==") for line in said.stdout.splitlines())
        _versions = {name.lower(): version for name, _, version in pairs}
    return _versions


def install() -> None:
    """Makes the venv and installs each peer by itself, so that one that cannot be built takes no other along."""
    if not (VENV / "bin/python3").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    wanted = [
        line.strip()
        for line in (ROOT / "loadtest/requirements.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    for requirement in wanted:
        name, _, version = requirement.partition("==")
        if versions().get(name.lower()) == version:
            continue
        print(f"installing {requirement}", file=sys.stderr)
        done = subprocess.run(
            [VENV / "bin/python3", "-m", "pip", "install", "-q", requirement],
            capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            hint = " (its build needs libev-dev)" if name == "bjoern" else ""
            print(f"  {requirement} left out{hint}: {last}", file=sys.stderr)
    global _versions
    _versions = None
