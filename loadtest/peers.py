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
APPS = ROOT / "tests" / "apps"
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
VENV = TARGET / "loadtest-venv"
RGUN = TARGET / "release" / "rgun-async"

# Idle seconds that no run reaches: what is measured is requests, not time-outs.
KEEP_ALIVE = 75

# Apps by the name in the table: the Python module of tests/apps, or None for a server's own hello.
MODULES = {"native": None, "wsgi": "hello", "flask": "flask_hello", "flask+redis": "flask_redis"}


@dataclasses.dataclass
class Setup:
    """One server about to be started."""

    app: str
    port: int
    workers: int
    directory: pathlib.Path

    @property
    def module(self) -> str:
        return f"{MODULES[self.app]}:app"


@dataclasses.dataclass
class Peer:
    """One way of serving: its command, the apps it can serve, and where its version is found."""

    name: str
    command: Callable[[Setup], list[str]]
    apps: tuple[str, ...] = ("wsgi", "flask", "flask+redis")
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
        app = "builtin:hello" if setup.app == "native" else setup.module
        return [
            str(RGUN), "-w", str(setup.workers), "-b", f"127.0.0.1:{setup.port}",
            "--worker-connections", "1000", "--keep-alive", str(KEEP_ALIVE),
            "--log-level", "warning", "--chdir", str(APPS), *more, app,
        ]  # fmt: skip

    return command


def _gunicorn(*more: str) -> Callable[[Setup], list[str]]:
    def command(setup: Setup) -> list[str]:
        return [
            str(VENV / "bin/gunicorn"), "-w", str(setup.workers), "-b", f"127.0.0.1:{setup.port}",
            "--worker-connections", "1000", "--keep-alive", str(KEEP_ALIVE),
            "--log-level", "warning", "--no-control-socket", "--chdir", str(APPS), *more, setup.module,
        ]  # fmt: skip

    return command


def _granian(setup: Setup) -> list[str]:
    return [
        str(VENV / "bin/granian"), "--interface", "wsgi", "--workers", str(setup.workers),
        "--host", "127.0.0.1", "--port", str(setup.port), "--http", "1", "--backlog", "2048",
        # Its default caps the connections of a worker, idle ones too.
        "--backpressure", "1024", "--no-access-log", "--log-level", "warning",
        "--working-dir", str(APPS), setup.module,
    ]  # fmt: skip


def _uwsgi(setup: Setup) -> list[str]:
    return [
        str(VENV / "bin/uwsgi"), "--http11-socket", f"127.0.0.1:{setup.port}", "--master",
        "--processes", str(setup.workers), "--listen", "2048", "--disable-logging", "--need-app",
        "--die-on-term", "--so-keepalive", "--chdir", str(APPS), "--virtualenv", str(VENV),
        "--module", setup.module,
    ]  # fmt: skip


def _peregrine(setup: Setup) -> list[str]:
    return [
        str(VENV / "bin/peregrine"), "--host", "127.0.0.1", "--port", str(setup.port),
        "--workers", str(setup.workers), "--backlog", "2048", "--protocol", "wsgi",
        "--keep-alive", str(KEEP_ALIVE * 1000), "--log-level", "error",
        "--venv", str(VENV), "--python-path", str(APPS), setup.module,
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
        str(setup.workers), str(APPS),
    ]  # fmt: skip


_NGINX = """
daemon off; master_process on; worker_processes {workers}; pid {directory}/nginx.pid;
error_log {directory}/error.log warn; worker_rlimit_nofile 16384;
events {{ worker_connections 8000; }}
http {{
    access_log off; keepalive_timeout {keep_alive}s; keepalive_requests 1000000000;
    client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
    uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{ default_type text/plain; return 200 "hello world!"; }}
    }}
}}
"""


def _nginx(setup: Setup) -> list[str]:
    text = _NGINX.format(
        workers=setup.workers, directory=setup.directory, keep_alive=KEEP_ALIVE, port=setup.port
    )
    config = setup.directory / "nginx.conf"
    config.write_text(text)
    return ["nginx", "-p", str(setup.directory), "-e", f"{setup.directory}/error.log", "-c", str(config)]


PEERS = [
    Peer("rgun-async", _rgun(), apps=("native",), program=str(RGUN)),
    Peer("rgun-async sync", _rgun("-k", "sync"), program=str(RGUN)),
    Peer("rgun-async gevent", _rgun("-k", "gevent"), program=str(RGUN)),
    Peer("nginx", _nginx, apps=("native",), program="nginx"),
    Peer("gunicorn sync", _gunicorn("-k", "sync"), package="gunicorn", note="has no keep-alive"),
    Peer("gunicorn gevent", _gunicorn("-k", "gevent"), package="gunicorn"),
    Peer("gunicorn gthread", _gunicorn("-k", "gthread", "--threads", "16"), package="gunicorn"),
    Peer("gunicorn tornado", _gunicorn("-k", "tornado"), package="gunicorn"),
    Peer("granian", _granian, package="granian"),
    Peer("uwsgi", _uwsgi, package="uwsgi", note="a worker stays with one busy connection: the others wait"),
    Peer("bjoern", _bjoern, package="bjoern", note="no supervision, no time-outs"),
    Peer("peregrine", _peregrine, package="peregrine-server"),
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
