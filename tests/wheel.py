"""Tries a wheel in every Python of this machine: one file for all of them.

    python3 tests/wheel.py WHEEL BINARY SCRATCH

WHEEL is the file, BINARY the program that cargo built, SCRATCH a directory for virtual environments (kept, to be quick the
next time). Exit 0 when all is well; 1 with the reason otherwise, and when there are not two minor versions of CPython to try.

`RGUN_TEST_PYTHONS` names more interpreters, separated by colons.
"""

import contextlib
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "tests/apps"
MINORS = [(3, minor) for minor in range(10, 15)]
DRIVERS = [
    ("app", ["-k", "sync"], None),
    ("app", ["-k", "gevent"], None),
    ("app", ["-k", "gthread", "--threads", "2"], None),
    # BLAS has run in the master then.
    ("app", ["-k", "gthread", "--preload"], None),
    ("asgi", ["-k", "asgi", "--asgi-loop", "asyncio"], "asyncio."),
    ("asgi", ["-k", "asgi", "--asgi-loop", "uvloop"], "uvloop"),
]
PATIENCE = 60 * float(os.environ.get("RGUN_TEST_PATIENCE", "1"))
ABOUT = (
    "import json,platform,sys,sysconfig;print(json.dumps([sys.version_info[:2],platform.python_version(),"
    "sys.implementation.name,'/libpython' in open('/proc/self/maps').read(),"
    "bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"
)


class Wrong(Exception):
    """What a check found."""


def check(right, what):
    if not right:
        raise Wrong(what)


def clean():
    """The environment without what is meant for this process's Python, or for servers."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "RGUN_")) and key not in ("VIRTUAL_ENV", "PORT", "WEB_CONCURRENCY")
    }


def pythons():
    """One CPython of each minor version, and of each way to link it: its path, its version, shared or static."""
    names = [f"python{major}.{minor}" for major, minor in MINORS] + ["python3"]
    found = [*filter(None, os.environ.get("RGUN_TEST_PYTHONS", "").split(":"))]
    found += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin/python3")))
    found += [path for name in names if (path := shutil.which(name))]
    found += [str(Path("/usr/bin", name)) for name in names]
    kinds = {}
    for path in found:
        with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
            said = subprocess.run([path, "-c", ABOUT], capture_output=True, env=clean(), timeout=60, check=True)
            minor, version, implementation, shared, free = json.loads(said.stdout)
            if tuple(minor) in MINORS and implementation == "cpython" and not free:
                kinds.setdefault((tuple(minor), shared), (path, version))
    return [
        (path, minor, f"{version}, {'shared' if shared else 'static'}")
        for (minor, shared), (path, version) in sorted(kinds.items())
    ]


def run(*words, **options):
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, env={**clean(), **options.pop("env", {})}, **options
    )
    return done.returncode, done.stdout + done.stderr


def must(*words, **options):
    status, said = run(*words, **options)
    check(status == 0, f"{' '.join(map(str, words))}: exit {status}\n{said}")
    return said


class Server:
    """A server under test, with its log."""

    def __init__(self, words, env=()):
        self.log = []
        self.grown = threading.Condition()
        self.ended = False
        self.process = subprocess.Popen(
            [*map(str, words), "--chdir", str(APPS), "-b", "127.0.0.1:0", "--log-level", "debug"],
            stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**clean(), "PYTHONDONTWRITEBYTECODE": "1", **dict(env)},
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stderr:
            with self.grown:
                self.log.append(line.rstrip())
                self.grown.notify_all()
        with self.grown:
            self.ended = True
            self.grown.notify_all()

    def line(self, pattern):
        """What the first line with this in it has in brackets."""

        def found():
            return next((match for line in self.log if (match := re.search(pattern, line))), None)

        with self.grown:
            self.grown.wait_for(lambda: found() or self.ended, PATIENCE)
            check(found(), f"no line {pattern!r}")
            return found()[1]

    def get(self, path="/"):
        url = self.line(r"Listening at: (http://\S+)") + path
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)

    def stop(self, pid=None):
        """TERM to the master; then nothing of it is left, for all of them hold the log."""
        os.kill(pid or self.process.pid, signal.SIGTERM)
        with self.grown:
            check(self.grown.wait_for(lambda: self.ended, PATIENCE), "it does not end after TERM")
        status = self.process.wait(PATIENCE)
        check(status == 0, f"exit {status} after TERM")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if kind is not None:
            print("\n".join(f"    {line}" for line in self.log), file=sys.stderr)


def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        check(time.monotonic() < deadline, f"not in time: {what}")
        time.sleep(0.02)


def look_into(wheel, version):
    """What is in the file, and nothing else."""
    name = f"rgun_async-{version}"
    check(re.fullmatch(rf"{re.escape(name)}-cp310-abi3-\w+\.whl", wheel.name), f"named {wheel.name}")
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
        text = opened.read(f"{name}.dist-info/METADATA").decode()
        entry = opened.read(f"{name}.dist-info/entry_points.txt").decode()
    sources = {f"rgun_async/{path.name}" for path in (ROOT / "python/rgun_async").glob("*.py")}
    expected = sources | {"rgun_async/_native.abi3.so", f"{name}.dist-info/licenses/LICENSE"}
    check(expected <= inside, f"missing in the wheel: {expected - inside}")
    extra = {path for path in inside - expected if not path.startswith(f"{name}.dist-info/")}
    check(not extra, f"should not be in the wheel: {extra}")
    check("rgun-async=rgun_async:main" in entry.replace(" ", ""), f"entry points: {entry}")
    for line in (
        "Name: rgun-async", f"Version: {version}", "Requires-Python: >=3.10", "License-Expression: MIT",
        "Provides-Extra: gevent", "Provides-Extra: uvloop", "\n# rgun-async\n",
    ):
        check(f"{line}\n" in text, f"no {line!r} in the metadata:\n{text[:1500]}")


def make_venv(python, wheel, place):
    """With the wheel and other people's C extensions; made anew only when something has changed."""
    wanted = must(python, "-VV") + (ROOT / "tests/requirements-wheel.txt").read_text()
    stamp = place / "stamp"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        must(python, "-m", "venv", place)
        pip = (place / "bin/python3", "-m", "pip", "install", "-q", "--disable-pip-version-check")
        must(*pip, "-r", ROOT / "tests/requirements-wheel.txt")
        stamp.write_text(wanted)
    must(
        place / "bin/python3", "-m", "pip", "install", "-q", "--disable-pip-version-check",
        "--no-deps", "--force-reinstall", wheel,
    )


def check_place(told, place, minor):
    check(told["python"] == list(minor), f"another Python: {told}")
    check(told["prefix"] == str(place), f"not the venv's prefix: {told}")
    file, right = told["numpy"]
    check(file.startswith(str(place)) and right, f"numpy: {told}")


def serve_with(words, driver, place, minor, env=()):
    app, flags, loop = driver
    with Server([*words, *flags, f"wheel_smoke:{app}"], env) as server:
        told = server.get()
        check_place(told, place, minor)
        if loop is not None:
            check(told["loop"].startswith(loop), f"another event loop: {told}")
        check(server.get("/fork") == ["right", 0], "numpy after a fork")
        # gevent's patched standard library cannot run a Pool in its own hub: with or without a server.
        if "gevent" not in flags:
            check(server.get("/spawn") is True, "numpy in a spawned process")
        title = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
        check(title.startswith("rgun-async: master ["), f"ps shows {title!r}")
        check(told["master"] == server.process.pid, "the worker is the master's child")
        server.stop()


def upgrade(words, place, minor, optimize):
    """USR2: what takes over was started as its predecessor was."""
    with Server([*words, "-k", "sync", "wheel_smoke:app"]) as server:
        old = server.process.pid
        check(server.get()["optimize"] == optimize, "the interpreter's options")
        os.kill(old, signal.SIGUSR2)
        new = int(server.line(r"Started a new master \(pid:(\d+)\)"))
        # Either's worker may answer as long as both are there; which one is the kernel's choice.
        server.line(rf"\[({new})\] \[DEBUG\] worker=\d+ .* ready")
        os.kill(old, signal.SIGTERM)
        server.line(r"(Master has been promoted)")
        told = server.get()
        check(told["master"] == new, f"the old master is gone: {told}")
        check(told["optimize"] == optimize, "the interpreter's options after an upgrade")
        check_place(told, place, minor)
        title = Path(f"/proc/{new}/cmdline").read_bytes().rstrip(b"\0").decode()
        check(title.startswith("rgun-async: master ["), f"ps shows {title!r}")
        server.stop(new)


def binary_alone(binary, place, minor, version):
    """`cargo install` copies the program and nothing else: then the venv's package is its other half."""
    with tempfile.TemporaryDirectory(prefix="rgun-wheel-") as directory:
        alone = Path(shutil.copy(binary, directory))
        env = {"VIRTUAL_ENV": str(place)}
        serve_with([alone], ("app", ["-k", "sync"], None), place, minor, env.items())
        bare = Path(directory, "bare")
        must(place / "bin/python3", "-m", "venv", "--without-pip", bare)
        env = {"VIRTUAL_ENV": str(bare)}
        status, said = run(alone, "hello:app", env=env, cwd=APPS)
        check(status == 1 and "pip install rgun-async" in said, f"without the package: exit {status}\n{said}")
        bootstrap = (ROOT / "python/bootstrap.py").read_text()
        status, said = run(place / "bin/python3", "-c", bootstrap, "0.0.1", "", "rgun-async", "hello:app")
        words = ("this is rgun-async 0.0.1", f"is {version}")
        check(status == 1 and all(word in said for word in words), f"of two versions: exit {status}\n{said}")


def main():
    wheel, binary, scratch = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).resolve()
    manifest = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.+)"$', manifest, re.MULTILINE)[1]
    scratch.mkdir(parents=True, exist_ok=True)
    look_into(wheel, version)
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
    found = pythons()
    minors = {minor for _, minor, _ in found}
    for minor in MINORS:
        if minor not in minors:
            print(f"CPython {minor[0]}.{minor[1]}: not on this machine, not tried", flush=True)
    check(len(minors) > 1, "two minor versions of CPython have to be here; RGUN_TEST_PYTHONS can name some")
    for python, minor, words in found:
        began = time.monotonic()
        place = scratch / re.sub(r"\W+", "-", words)
        make_venv(python, wheel, place)
        script, module = [place / "bin/rgun-async"], [place / "bin/python3", "-m", "rgun_async"]
        for way in (script, module):
            said = must(*way, "--version").strip()
            check(said == f"rgun-async {version}", f"{way}: --version says {said!r}")
        for driver in DRIVERS:
            serve_with(script, driver, place, minor)
        serve_with(module, DRIVERS[0], place, minor)
        upgrade(script, place, minor, 0)
        upgrade([module[0], "-O", *module[1:]], place, minor, 1)
        upgrade([module[0], "-OO", *script], place, minor, 2)
        binary_alone(binary, place, minor, version)
        print(f"CPython {words} ({python}): right, in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except Wrong as wrong:
        sys.exit(f"tests/wheel.py: {wrong}")
