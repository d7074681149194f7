"""The servers of the chaos test: how each is started, and what is done to it while it serves.

An operation ends when the server has come to rest again. It returns the connections that it may cost (`Held`): those that a
worker had accepted when it was killed. Any other failure is one of the server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable

import measure
import peers
from chaos_processes import NotSettled, alive, children, clients, descendants, descriptors, until

WORKERS = 3


@dataclasses.dataclass
class Held:
    """The connections that somebody had accepted at a moment, and could yet accept until he was gone."""

    clients: set[int]
    at: float
    gone: float = 0.0
    spare: int = 0

    def covers(self, failure: dict) -> bool:
        """Whether a failure is of one of them."""
        if failure["connection"] in self.clients and failure["opened"] <= self.at:
            return True
        if self.spare and self.at < failure["ended"] and failure["opened"] <= self.gone:
            self.spare -= 1
            return True
        return False


@dataclasses.dataclass(frozen=True)
class Phase:
    """Operations on one start of the server."""

    operations: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Mode:
    """One way of serving, as the table names it."""

    server: str
    name: str
    make: type[Server]
    options: tuple[str, ...] = ()
    app: str = "chaos_wsgi"
    unix: bool = False
    # What the client does otherwise.
    load: dict = dataclasses.field(default_factory=dict)
    workers: int = WORKERS
    note: str = ""
    # Nothing, tls or h2, as the client has it.
    protocol: str = ""

    @property
    def title(self) -> str:
        return f"{self.server} {self.name}".strip()


class Log:
    """The error log, also past its renaming."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.read: dict[int, int] = {}
        self.text = ""

    def poll(self) -> str:
        """All that was ever written."""
        for path in sorted(self.path.parent.glob(self.path.name + "*"), reverse=True):
            with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as file:
                inode = os.fstat(file.fileno()).st_ino
                file.seek(self.read.get(inode, 0))
                self.text += file.read()
                self.read[inode] = file.tell()
        return self.text

    def forget(self, old: pathlib.Path) -> None:
        """Reads the rest of a renamed one and removes it: its number may come back as another file's."""
        self.poll()
        self.read.pop(old.stat().st_ino, None)
        old.unlink()


class Server:
    """A server and its operations, by their names."""

    phases: tuple[Phase, ...] = ()
    # How long an operation may take to settle.
    settling = 20.0
    answer_seconds = 20.0

    def __init__(self, mode: Mode, directory: pathlib.Path, options: Iterable[str] = ()) -> None:
        self.mode = mode
        self.directory = directory
        self.options = (*mode.options, *options)
        self.port = 0 if mode.unix else measure.free_port()
        self.path = str(directory / "socket") if mode.unix else ""
        self.pidfile = directory / "pid"
        self.log = Log(directory / "log")
        self.site = directory / "site"
        self.temporary = directory / "tmp"
        # Who has loaded the app.
        self.loaded = directory / "loaded"
        for new in (self.site, self.temporary):
            new.mkdir(exist_ok=True)
        self.master = 0
        self.wanted = mode.workers
        self.process: subprocess.Popen | None = None
        self.mend()

    # ----- what each server says for itself -----

    def command(self) -> list[str]:
        raise NotImplementedError

    def find_master(self) -> int:
        return self.process.pid

    def workers(self) -> set[int]:
        """Those that serve, or are about to."""
        return set(children(self.master))

    def serving(self) -> set[int]:
        """Those that are known to serve."""
        return self.workers()

    def at_rest(self) -> bool:
        return len(self.workers()) == self.wanted

    def operations(self) -> dict[str, Callable[[], Held | None]]:
        raise NotImplementedError

    # ----- its life -----

    def start(self) -> None:
        """Until it answers.

        Raises NotSettled.
        """
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("RGUN_", "PYTHON", "GUNICORN"))}
        venv = os.environ.get("RGUN_TEST_VENV", str(peers.VENV))
        env = kept | {
            "VIRTUAL_ENV": venv, "PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.temporary), "HOME": str(self.directory),
            "CHAOS_LOADED": str(self.loaded),
        }  # fmt: skip
        self.mend()
        for left in (self.pidfile, pathlib.Path(self.path or self.pidfile)):
            left.unlink(missing_ok=True)
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command(), env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self.wanted = self.mode.workers
        until("it starts", lambda: self.find_master() and self.answers(), self.answer_seconds)
        self.master = self.find_master()
        until("all its workers are there", self.at_rest, self.answer_seconds)

    def answers(self) -> bool:
        try:
            with self.connection() as connection:
                connection.sendall(b"GET /users/0 HTTP/1.1\r\nHost: chaos\r\nConnection: close\r\n\r\n")
                return connection.recv(12).endswith(b" 200")
        except OSError:
            return False

    def connection(self) -> socket.socket:
        if self.path:
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(5)
            connection.connect(self.path)
            return connection
        connection = socket.create_connection(("127.0.0.1", self.port), 5)
        if not self.mode.protocol:
            return connection
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(connection)

    def stop(self, mine: set[int]) -> None:
        """TERM, then KILL for all that this process has started but for `mine`."""
        if alive(self.master):
            os.kill(self.master, signal.SIGTERM)
            with contextlib.suppress(NotSettled):
                until("it ends", lambda: not alive(self.master), 5)
        for pid in descendants(os.getpid()):
            if pid not in mine:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(NotSettled):
            until("all are gone", lambda: not any([alive(pid) for pid in descendants(os.getpid()) if pid not in mine]), 5)
        if self.process:
            self.process.poll()

    # ----- the app and its faults -----

    def mend(self) -> None:
        if self.mode.app:
            shutil.copy(peers.APPS / f"{self.mode.app}.py", self.site / "chaos_app.py")

    def spoil(self) -> None:
        (self.site / "chaos_app.py").write_text("raise RuntimeError('this app is broken')\n")

    # ----- operations that many have -----

    def signal(self, pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    def settle(self, what: str, condition: Callable[[], object]) -> None:
        """Also ends when the master does: that is seen after each operation."""
        master = self.master
        until(what, lambda: condition() or not alive(master), self.settling)

    def replaced(self, before: set[int]) -> Callable[[], bool]:
        """All workers are others, and all are there."""
        return lambda: self.at_rest() and not self.workers() & before and not any(alive(pid) for pid in before)

    def nothing(self) -> None:
        """The quiet that the others are compared with."""

    def reload(self) -> None:
        before = self.workers()
        self.signal(self.master, signal.SIGHUP)
        self.settle("a new generation has taken over", self.replaced(before))

    def reload_broken_app(self) -> None:
        self.spoil()
        try:
            self.signal(self.master, signal.SIGHUP)
            with contextlib.suppress(NotSettled):
                until("the master ends", lambda: not alive(self.master), 15)
        finally:
            self.mend()

    def victim(self) -> int:
        until("it has a worker", self.workers, self.settling)
        return random.choice(sorted(self.workers()))

    def kill_worker(self) -> Held:
        victim = self.victim()
        held = self.freeze({victim})
        self.signal(victim, signal.SIGKILL)
        self.settle("a killed worker is replaced", lambda: not alive(victim) and self.at_rest())
        return held

    def freeze(self, pids: set[int]) -> Held:
        """Stops them, so that what they have accepted can be read."""
        for pid in pids:
            self.signal(pid, signal.SIGSTOP)
        for pid in pids:
            until("a worker stands still", lambda: (stat_of(pid) or "T") in "TZ")
        return Held(clients(pids, bool(self.path)), time.monotonic())

    def term_worker(self) -> None:
        victim = self.victim()
        self.signal(victim, signal.SIGTERM)
        self.settle("a worker that left is replaced", lambda: not alive(victim) and self.at_rest())

    def more(self) -> None:
        self.wanted += 1
        self.signal(self.master, signal.SIGTTIN)
        self.settle("one worker more", self.at_rest)

    def fewer(self) -> None:
        self.wanted -= 1
        self.signal(self.master, signal.SIGTTOU)
        self.settle("one worker less", self.at_rest)

    def reopen(self) -> None:
        old = self.log.path.with_name("log.1")
        self.log.poll()
        self.log.path.rename(old)
        self.signal(self.master, signal.SIGUSR1)
        self.settle(
            "the log is opened anew by all",
            lambda: self.log.path.exists()
            and not any(str(old) in descriptors(pid) for pid in (self.master, *children(self.master))),
        )
        self.log.forget(old)

    def recycle(self) -> None:
        before = self.serving()
        self.settle("a worker is recycled", lambda: before - self.serving() and self.serving() - before)


def stat_of(pid: int) -> str | None:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    return None


class Arbiter(Server):
    """What this server and Gunicorn have in common: signals, pidfiles, upgrades."""

    @property
    def second(self) -> pathlib.Path:
        return self.pidfile.with_name("pid.2")

    def find_master(self) -> int:
        return read_pid(self.pidfile)

    def workers(self) -> set[int]:
        return self.workers_of(self.master)

    def workers_of(self, master: int) -> set[int]:
        """All its children, but for a new master."""
        return set(children(master)) - {read_pid(self.second)}

    def ready(self, master: int) -> set[int]:
        """Those of them that serve."""
        return self.workers_of(master)

    def serving(self) -> set[int]:
        return self.ready(self.master)

    def at_rest(self) -> bool:
        return len(self.ready(self.master)) == self.wanted and self.workers() == self.ready(self.master)

    def operations(self) -> dict[str, Callable[[], Held | None]]:
        return {
            "nothing": self.nothing,
            "HUP": self.reload,
            "HUP, app broken": self.reload_broken_app,
            "HUP, configuration broken": self.reload_broken_configuration,
            "USR2, TERM to the old": self.upgrade,
            "USR2, QUIT to the old": self.upgrade_quick,
            "USR2, WINCH and QUIT to the old": self.upgrade_by_rest,
            "USR2, WINCH, taken back": self.upgrade_taken_back,
            "USR2, given up": self.upgrade_given_up,
            "TTIN": self.more,
            "TTOU": self.fewer,
            "USR1": self.reopen,
            "TERM of a worker": self.term_worker,
            "kill -9 of a worker": self.kill_worker,
            "recycling by requests": self.recycle,
            "recycling by age": self.recycle,
            "HUP, rolling": self.reload,
        }

    def reload_broken_configuration(self) -> None:
        raise NotImplementedError

    def start_new(self) -> int:
        """USR2, until the new master has its workers.

        Raises NotSettled.
        """
        self.signal(self.master, signal.SIGUSR2)
        until("a new master", lambda: read_pid(self.second), self.settling)
        new = read_pid(self.second)
        until(
            "the new master has its workers",
            lambda: not alive(new) or len(self.ready(new)) == self.mode.workers,
            self.settling,
        )
        if not alive(new):
            raise NotSettled("the new master has ended")
        return new

    def promote(self, new: int) -> None:
        old = self.master
        workers = self.workers_of(old) - {new}
        until("the old master and its workers have left", lambda: not alive(old) and not any(map(alive, workers)), self.settling)
        self.master = new
        self.wanted = self.mode.workers
        self.settle("the new master has the pidfile", lambda: read_pid(self.pidfile) == new and not self.second.exists())
        self.settle("all workers are there", self.at_rest)

    def upgrade(self) -> None:
        new = self.start_new()
        self.signal(self.master, signal.SIGTERM)
        self.promote(new)

    def upgrade_quick(self) -> Held:
        """QUIT is the quick stop: it may cost what the old workers have, and nothing else."""
        new = self.start_new()
        old = self.workers_of(self.master) - {new}
        held = self.freeze(old)
        self.signal(self.master, signal.SIGQUIT)
        for pid in old:
            self.signal(pid, signal.SIGCONT)
        self.settle("the old workers have left", lambda: not any(map(alive, old)))
        # Each goes on where it stood: it may accept some more in that turn, before it hears of the end.
        held.gone, held.spare = time.monotonic(), 8 * len(old)
        self.promote(new)
        return held

    def rest(self) -> int:
        new = self.start_new()
        old = self.workers_of(self.master) - {new}
        self.signal(self.master, signal.SIGWINCH)
        self.settle("the old workers have left", lambda: not any(map(alive, old)))
        return new

    def upgrade_by_rest(self) -> None:
        new = self.rest()
        self.signal(self.master, signal.SIGQUIT)
        self.promote(new)

    def upgrade_taken_back(self) -> None:
        new = self.rest()
        self.signal(self.master, signal.SIGHUP)
        self.settle("the old master has workers again", lambda: len(self.ready(self.master)) == self.wanted)
        self.give_up(new)

    def upgrade_given_up(self) -> None:
        before = self.workers()
        self.give_up(self.start_new())
        if self.workers() != before:
            raise NotSettled("the old workers have changed")

    def give_up(self, new: int) -> None:
        workers = self.workers_of(new)
        self.signal(new, signal.SIGTERM)
        self.settle("the new master and its workers have left", lambda: not any(map(alive, {new, *workers})))
        self.settle("its pidfile is gone", lambda: not self.second.exists())
        self.settle("all workers are there", self.at_rest)


def read_pid(path: pathlib.Path) -> int:
    try:
        return int(path.read_text().strip() or 0)
    except (FileNotFoundError, ValueError):
        return 0


class Rgun(Arbiter):
    """This server. Its log of level debug says who is ready."""

    phases = (
        Phase((
            "nothing", "HUP", "HUP, app broken", "HUP, configuration broken", "USR2, TERM to the old", "USR2, QUIT to the old",
            "USR2, given up", "TTIN", "TTOU", "USR1", "TERM of a worker", "kill -9 of a worker",
        )),
        Phase(("HUP, rolling",), ("--reload-strategy", "rolling")),
        Phase(("upgrade by the command",)),
        Phase(("USR2, TERM with a drain delay",), ("--drain-delay", "0.5")),
        Phase(("USR2, WINCH and QUIT to the old", "USR2, WINCH, taken back"), ("--daemon",)),
        Phase(("recycling by requests",), ("--max-requests", "400", "--max-requests-jitter", "100")),
        Phase(("recycling by age",), ("--max-worker-age", "3")),
    )  # fmt: skip

    def command(self) -> list[str]:
        program = self.program()
        bind = f"unix:{self.path}" if self.path else f"127.0.0.1:{self.port}"
        if self.mode.protocol:
            bind = f"https://{bind}?cert={self.certificate}&key={self.certificate}"
        self.configuration.write_text("keepalive = 75\n")
        return [
            str(program), "-c", str(self.configuration), "-w", str(self.mode.workers), "-b", bind, "-p", str(self.pidfile),
            "--error-logfile", str(self.log.path), "--log-level", "debug", "--chdir", str(self.site),
            "--worker-tmp-dir", str(self.temporary), *self.options,
            *(["chaos_app:app"] if self.mode.app else []),
        ]  # fmt: skip

    @property
    def certificate(self) -> pathlib.Path:
        """A file with a certificate and its key."""
        path = self.directory / "certificate.pem"
        if not path.exists():
            key, certificate = path.with_suffix(".key"), path.with_suffix(".crt")
            subprocess.run(
                [
                    "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                    "-subj", "/CN=chaos", "-keyout", str(key), "-out", str(certificate),
                ], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
            )  # fmt: skip
            path.write_bytes(certificate.read_bytes() + key.read_bytes())
        return path

    def program(self) -> pathlib.Path:
        binary = pathlib.Path(os.environ.get("RGUN_CHAOS_BINARY", peers.RGUN))
        return binary if self.mode.app else binary.parent / "examples" / "axum"

    def upgrade_by_command(self) -> None:
        """`rgun-async upgrade`, which does all of it, and tells by its exit code how it went."""
        old, workers = self.master, self.workers()
        binary = os.environ.get("RGUN_CHAOS_BINARY", peers.RGUN)
        ran = subprocess.run(
            [str(binary), "upgrade", "--pid", str(old)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        if ran.returncode:
            raise NotSettled(f"upgrade: exit {ran.returncode}: {ran.stdout}{ran.stderr}")
        until("the old master and its workers have left", lambda: not any(map(alive, {old, *workers})), self.settling)
        self.promote(read_pid(self.pidfile))

    @property
    def configuration(self) -> pathlib.Path:
        return self.directory / "rgun.toml"

    def operations(self) -> dict[str, Callable[[], Held | None]]:
        known = super().operations() | {
            "upgrade by the command": self.upgrade_by_command,
            "USR2, TERM with a drain delay": self.upgrade,
        }
        if not self.mode.app:
            # What is compiled in cannot be broken.
            del known["HUP, app broken"]
        return known

    def ready(self, master: int) -> set[int]:
        said = {int(pid) for pid in re.findall(r"pid=(\d+) ready", self.log.poll())}
        return self.workers_of(master) & said

    def reload_broken_app(self) -> None:
        self.spoil()
        try:
            self.refuse_reload("Reload abandoned")
        finally:
            self.mend()

    def reload_broken_configuration(self) -> None:
        good = self.configuration.read_text()
        self.configuration.write_text(good + "workers = 'many'\n")
        try:
            self.refuse_reload("Reload failed, nothing has changed")
        finally:
            self.configuration.write_text(good)

    def refuse_reload(self, words: str) -> None:
        before = self.workers()
        said = self.log.poll().count(words)
        self.signal(self.master, signal.SIGHUP)
        self.settle(f"the log says {words}", lambda: self.log.poll().count(words) > said)
        self.settle("all is as it was", lambda: self.workers() == before)


class Gunicorn(Arbiter):
    """It does not say who is ready: the app does."""

    phases = (
        Phase((
            "nothing", "HUP", "HUP, app broken", "HUP, configuration broken", "USR2, TERM to the old", "USR2, QUIT to the old",
            "USR2, given up", "TTIN", "TTOU", "USR1", "TERM of a worker", "kill -9 of a worker",
        )),
        Phase(("USR2, WINCH and QUIT to the old", "USR2, WINCH, taken back"), ("--daemon",)),
        Phase(("recycling by requests",), ("--max-requests", "400", "--max-requests-jitter", "100")),
    )  # fmt: skip
    # Above its --graceful-timeout.
    settling = 35.0

    def command(self) -> list[str]:
        self.configuration.write_text("keepalive = 75\n")
        return [
            str(peers.VENV / "bin/gunicorn"), "-c", str(self.configuration), "-w", str(self.mode.workers),
            "-b", f"127.0.0.1:{self.port}", "-p", str(self.pidfile), "--error-logfile", str(self.log.path),
            "--no-control-socket", "--worker-connections", "1000", "--chdir", str(self.site), *self.options, "chaos_app:app",
        ]  # fmt: skip

    @property
    def configuration(self) -> pathlib.Path:
        return self.directory / "gunicorn_conf.py"

    def ready(self, master: int) -> set[int]:
        said = self.loaded.read_text().split() if self.loaded.exists() else []
        return self.workers_of(master) & set(map(int, said))

    def reload_broken_configuration(self) -> None:
        good = self.configuration.read_text()
        self.configuration.write_text("raise RuntimeError('this configuration is broken')\n")
        try:
            self.signal(self.master, signal.SIGHUP)
            with contextlib.suppress(NotSettled):
                until("the master ends", lambda: not alive(self.master), 5)
        finally:
            self.configuration.write_text(good)


class Nginx(Server):
    """It serves a constant: what waits is left out."""

    phases = (
        Phase((
            "nothing", "HUP", "HUP, configuration broken", "USR2, QUIT to the old", "USR2, given up", "USR1",
            "TERM of a worker", "kill -9 of a worker",
        )),
    )  # fmt: skip
    settling = 20.0

    TEXT = """
    daemon on; master_process on; {user} worker_processes {workers}; pid {directory}/pid; error_log {directory}/log notice;
    events {{ worker_connections 4000; }}
    http {{
        access_log off; keepalive_timeout 75s; keepalive_requests 1000000000;
        client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
        uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
        server {{
            listen 127.0.0.1:{port} backlog=2048 {options};
            location ~ ^/users/(.*)$ {{ default_type text/plain; return 200 "user $1"; }}
        }}
    }}
    """

    @property
    def configuration(self) -> pathlib.Path:
        return self.directory / "nginx.conf"

    def command(self) -> list[str]:
        self.configuration.write_text(self.TEXT.format(
            workers=self.mode.workers, directory=self.directory, port=self.port, options=" ".join(self.options),
            # Its workers open the log anew themselves.
            user="user root;" if os.geteuid() == 0 else "",
        ))  # fmt: skip
        # It starts its successor by this very name, without PATH.
        return [shutil.which("nginx") or "nginx", "-p", str(self.directory), "-e", str(self.log.path), "-c", str(self.configuration)]

    def find_master(self) -> int:
        return read_pid(self.pidfile)

    def workers(self) -> set[int]:
        """All its children, but for a new master, which has the pidfile at once."""
        return set(children(self.master)) - {read_pid(self.pidfile)}

    def operations(self) -> dict[str, Callable[[], Held | None]]:
        return {
            "nothing": self.nothing,
            "HUP": self.reload,
            "HUP, configuration broken": self.reload_broken_configuration,
            "USR2, QUIT to the old": self.upgrade,
            "USR2, given up": self.upgrade_given_up,
            "USR1": self.reopen,
            "TERM of a worker": self.term_worker,
            "kill -9 of a worker": self.kill_worker,
        }

    def reload_broken_configuration(self) -> None:
        good = self.configuration.read_text()
        self.configuration.write_text(good + "nonsense;\n")
        said = self.log.poll().count("[emerg]")
        try:
            self.signal(self.master, signal.SIGHUP)
            self.settle("the log says what is wrong", lambda: self.log.poll().count("[emerg]") > said)
        finally:
            self.configuration.write_text(good)

    def start_new(self) -> int:
        self.signal(self.master, signal.SIGUSR2)
        until("a new master", lambda: read_pid(self.pidfile) not in (0, self.master), self.settling)
        new = read_pid(self.pidfile)
        until("the new master has its workers", lambda: len(children(new)) == self.wanted, self.settling)
        return new

    def upgrade(self) -> None:
        new = self.start_new()
        old, workers = self.master, self.workers()
        self.signal(old, signal.SIGQUIT)
        until("the old master has left", lambda: not any(map(alive, {old, *workers})), self.settling)
        self.master = new

    def upgrade_given_up(self) -> None:
        new = self.start_new()
        workers = set(children(new))
        self.signal(new, signal.SIGQUIT)
        self.settle("the new master has left", lambda: not any(map(alive, {new, *workers})))
        self.settle("the pidfile is the old one's", lambda: read_pid(self.pidfile) == self.master and self.at_rest())


class Uwsgi(Server):
    """Threads, so that what waits keeps nobody else; its socket has no keep-alive."""

    phases = (Phase(("nothing", "HUP", "TERM of a worker", "kill -9 of a worker", "HUP, app broken")),
              Phase(("recycling by requests",), ("--max-requests", "400", "--min-worker-lifetime", "1")))  # fmt: skip
    settling = 20.0

    def command(self) -> list[str]:
        return [
            str(peers.VENV / "bin/uwsgi"), "--http-socket", f"127.0.0.1:{self.port}", "--master", "--die-on-term",
            "--processes", str(self.mode.workers), "--threads", "16", "--listen", "2048", "--disable-logging",
            "--need-app", "--lazy-apps", "--chdir", str(self.site), "--virtualenv", str(peers.VENV), "--logto2", str(self.log.path),
            "--module", "chaos_app:app", *self.options,
        ]  # fmt: skip

    def operations(self) -> dict[str, Callable[[], Held | None]]:
        return {
            "nothing": self.nothing,
            "HUP": self.reload,
            "HUP, app broken": self.reload_broken_app,
            "TERM of a worker": self.term_worker,
            "kill -9 of a worker": self.kill_worker,
            "recycling by requests": self.recycle,
        }


class Granian(Server):
    """It replaces one worker in 3.5 s."""

    phases = (Phase(("nothing", "HUP", "TERM of a worker", "kill -9 of a worker", "HUP, app broken")),)
    settling = 25.0

    def command(self) -> list[str]:
        interface = "asgi" if self.mode.app == "chaos_asgi" else "wsgi"
        threads = ["--blocking-threads", "32"] if interface == "wsgi" else []
        return [
            str(peers.VENV / "bin/granian"), "--interface", interface, "--workers", str(self.mode.workers), "--host", "127.0.0.1",
            "--port", str(self.port), "--http", "1", "--backlog", "2048", "--backpressure", "1024", "--no-access-log",
            "--respawn-failed-workers", *threads, "--working-dir", str(self.site), *self.options, "chaos_app:app",
        ]  # fmt: skip

    def workers(self) -> set[int]:
        """Its children, but for the one that Python's multiprocessing has for itself."""
        def serves(pid: int) -> bool:
            try:
                return b"resource_tracker" not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                return False
        return {pid for pid in children(self.master) if serves(pid)}  # fmt: skip

    def operations(self) -> dict[str, Callable[[], Held | None]]:
        return {
            "nothing": self.nothing,
            "HUP": self.reload,
            "HUP, app broken": self.reload_broken_app,
            "TERM of a worker": self.term_worker,
            "kill -9 of a worker": self.kill_worker,
        }


def _ours() -> list[Mode]:
    ways = (("shared", (), False), ("reuse-port", ("--reuse-port",), False), ("unix", (), True))
    kinds = (
        # One request at a time in a worker: fewer that wait, and more workers.
        ("axum", (), "", {}, WORKERS),
        ("sync", ("-k", "sync"), "chaos_wsgi", {"slow": 2}, WORKERS + 1),
        ("gevent", ("-k", "gevent"), "chaos_wsgi", {}, WORKERS),
        ("gthread", ("-k", "gthread", "--max-threads", "16"), "chaos_wsgi", {}, WORKERS),
        ("asgi", ("-k", "asgi"), "chaos_asgi", {}, WORKERS),
    )
    http1 = [
        Mode("rgun-async", f"{kind} {way}", Rgun, (*options, *more), app, unix, load, workers)
        for kind, options, app, load, workers in kinds
        for way, more, unix in ways
    ]
    both = ("--http-protocols", "h2,h1")
    return [
        *http1,
        Mode("rgun-async", "axum tls", Rgun, both, "", protocol="tls"),
        Mode("rgun-async", "gevent tls", Rgun, (*both, "-k", "gevent"), protocol="tls"),
        Mode("rgun-async", "axum h2", Rgun, both, "", protocol="h2"),
        Mode("rgun-async", "asgi h2", Rgun, (*both, "-k", "asgi"), "chaos_asgi", protocol="h2"),
    ]


OURS = _ours()
MODES = [
    *OURS,
    Mode("gunicorn", "gevent", Gunicorn, ("-k", "gevent")),
    Mode("gunicorn", "gevent reuse-port", Gunicorn, ("-k", "gevent", "--reuse-port")),
    Mode("nginx", "", Nginx, app="", load={"slow": 0}, note="serves a constant, no slow requests"),
    Mode("nginx", "reuseport", Nginx, ("reuseport",), app="", load={"slow": 0}, note="serves a constant, no slow requests"),
    Mode("uWSGI", "", Uwsgi, load={"kept": 0, "new": 24, "slow": 8}, note="with threads; no kept connections"),
    Mode("granian", "", Granian, note="WSGI, with threads"),
]
