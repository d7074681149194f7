"""One run: a server in a session of its own, a load generator, and what both said and used."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator

TICK = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Result:
    """One load generator's count; milliseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float
    longest: float
    failures: int
    cpu_us: float
    detail: str = ""


class ServerFailed(Exception):
    """It did not come up; the message says what it said."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def cpu_seconds(session: int) -> float:
    """User and system time of all processes of a session, and of their children that have ended."""
    ticks = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # proc(5): field 3 is the first here; 6 is the session, 14 to 17 are utime, stime, cutime, cstime.
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / TICK


def end(process: subprocess.Popen, patience: float = 10) -> None:
    """SIGTERM, then SIGKILL for the whole session."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = stat.read_text().rpartition(") ")[2].split()
            if int(fields[3]) == process.pid:
                os.kill(int(stat.parent.name), signal.SIGKILL)
    process.wait()


# Of servers that have just made their certificate.
UNVERIFIED = ssl._create_unverified_context()


@contextlib.contextmanager
def running(
    command: list[str], url: str | None, env: dict[str, str], log: pathlib.Path, core: int | None
) -> Iterator[subprocess.Popen]:
    """The server, from its first answer at `url` on, if there is one to wait for; ended with everything it started."""
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while url:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(log.read_text(errors="replace")[-2000:])
            try:
                with urllib.request.urlopen(url, timeout=5, context=UNVERIFIED) as answer:
                    if answer.status == 200 and answer.read():
                        break
            except OSError:
                time.sleep(0.05)
        yield process
    finally:
        end(process)


def run(arguments: list[str], core: int | None, timeout: float) -> str:
    if core is not None:
        arguments = ["taskset", "-c", str(core), *arguments]
    done = subprocess.run(
        arguments, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout,
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def milliseconds(text: str) -> float:
    """`1.50ms`, `350.00us`, `2.01s`."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def wrk(process: subprocess.Popen, url: str, core: int | None, threads: int, connections: int, seconds: float) -> Result:
    """`wrk -t threads -c connections`."""
    before = cpu_seconds(process.pid)
    text = run(
        ["wrk", f"-t{threads}", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "10s", url],
        core,
        seconds + 60,
    )
    used = cpu_seconds(process.pid) - before

    def find(pattern: str, default: str = "0") -> str:
        found = re.search(pattern, text)
        return found[1] if found else default

    requests = int(find(r"(\d+) requests in"))
    errors = sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    errors += int(find(r"Non-2xx or 3xx responses: (\d+)"))
    return Result(
        requests=requests,
        per_second=float(find(r"Requests/sec:\s+([\d.]+)")),
        p50=milliseconds(find(r"\n +50%\s+(\S+)", "0ms")),
        p99=milliseconds(find(r"\n +99%\s+(\S+)", "0ms")),
        longest=milliseconds(find(r"Latency\s+\S+\s+\S+\s+(\S+)", "0ms")),
        failures=errors if requests else max(errors, 1),
        cpu_us=used * 1e6 / requests if requests else 0.0,
        detail=text,
    )


def ab(process: subprocess.Popen, url: str, core: int | None, connections: int, requests: int) -> Result:
    """`ab -c connections -n requests -r`: a connection for each request."""
    before = cpu_seconds(process.pid)
    text = run(
        ["ab", "-q", "-r", "-s", "10", "-c", str(connections), "-n", str(requests), url], core, 120
    )
    used = cpu_seconds(process.pid) - before

    def find(pattern: str, default: str = "0") -> str:
        found = re.search(pattern, text)
        return found[1] if found else default

    complete = int(find(r"Complete requests:\s+(\d+)"))
    failed = int(find(r"Failed requests:\s+(\d+)")) + int(find(r"Non-2xx responses:\s+(\d+)"))
    return Result(
        requests=complete,
        per_second=float(find(r"Requests per second:\s+([\d.]+)")),
        p50=float(find(r"\n\s+50%\s+(\d+)")),
        p99=float(find(r"\n\s+99%\s+(\d+)")),
        longest=float(find(r"\n\s+100%\s+(\d+)")),
        failures=failed if complete else requests,
        cpu_us=used * 1e6 / complete if complete else 0.0,
        detail=text,
    )


def h2load(process: subprocess.Popen, url: str, core: int | None, connections: int, streams: int, seconds: float) -> Result:
    """`h2load -c connections -m streams`: HTTP/2, so many requests at a time on each connection."""
    before = cpu_seconds(process.pid)
    text = run(
        ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds:g}", "--warm-up-time=0", url],
        core,
        seconds + 60,
    )
    used = cpu_seconds(process.pid) - before

    def find(pattern: str, default: str = "0") -> str:
        found = re.search(pattern, text)
        return found[1] if found else default

    requests = int(find(r"(\d+) 2xx"))
    failed = int(find(r"(\d+) failed")) + int(find(r"(\d+) 4xx")) + int(find(r"(\d+) 5xx"))
    # min, max, mean, standard deviation; it tells no percentiles.
    times = re.search(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)", text)
    _, longest, mean = map(milliseconds, times.groups()) if times else (0, 0, 0)
    return Result(
        requests=requests,
        per_second=requests / seconds,
        p50=mean,
        p99=0.0,
        longest=longest,
        failures=failed if requests and "Application protocol: h2" in text else max(failed, 1),
        cpu_us=used * 1e6 / requests if requests else 0.0,
        detail=text,
    )
